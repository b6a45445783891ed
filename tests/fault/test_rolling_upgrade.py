"""A rolling upgrade, and the way back, with two real builds of the package under load: nothing is lost or misplaced.

The older build is made from a commit (`make upgrade-test FROM=...`; without one, that in which the last release was
kept in docs/schema/released), the newer one from the files that are here. Both are wheels, installed side by side,
and run on the packages of this environment. Slow: it builds, and it starts six workers.
"""

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

from ops.local.worker import WorkerProcess
from ops.schema_docs import PROMISED, released
from tests.harness import Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
RATE_PER_S = 400.0
BUILD_S, DRAIN_S = 120, 30
PACKAGES = ("streamer", "model", "ops")


@dataclass(frozen=True)
class Build:
    """A wheel that is installed in a folder of its own."""

    name: str
    folder: Path

    @classmethod
    def make(cls, name: str, source: Path, folder: Path) -> "Build":
        wheels, installed = folder / f"{name}-wheel", folder / name
        _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels, source)
        (wheel,) = wheels.glob("*.whl")
        _run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", installed, wheel)
        return cls(name, installed)

    def contents(self) -> dict[str, bytes]:
        """Its Python files."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for package in PACKAGES
            for path in (self.folder / package).rglob("*.py")
        }


class BuiltWorker(WorkerProcess):
    """A worker that runs from a build instead of from the files here."""

    def __init__(self, build: Build, name: str, settings: dict[str, object], folder: Path) -> None:
        super().__init__(name, settings, folder=folder)
        self._build = build

    def command(self) -> list[str]:
        return [sys.executable, str(self._build.folder / "bin" / "tagstream"), "worker"]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(self._build.folder)}

    def runs_its_build(self) -> bool:
        """Whether this process was told to import from its build, and whether that is what such a one imports."""
        told = Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0")
        asked = [sys.executable, "-c", "import streamer; print(streamer.__file__)"]
        found = subprocess.run(
            asked, env=self.environment(), cwd=self.folder, capture_output=True, text=True, check=True
        )
        return f"PYTHONPATH={self._build.folder}".encode() in told and found.stdout.startswith(str(self._build.folder))


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, Build]:
    """The older and the newer one, which must differ."""
    folder = tmp_path_factory.mktemp("builds")
    commit = os.environ.get("UPGRADE_FROM") or _release_commit()
    archive = _run("git", "archive", commit)
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder / "source", filter="data")
    here = folder / "here"
    here.mkdir()
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        _run("cp", "-r", ROOT / name, here / name)
    older, newer = Build.make("older", folder / "source", folder), Build.make("newer", here, folder)
    changed = {name for name, content in newer.contents().items() if older.contents().get(name) != content}
    assert changed, f"both builds are the same: name another commit than {commit} (FROM=...)"
    print(f"\nfrom {commit[:12]}: {len(changed)} files are new or changed")
    return older, newer


def _release_commit() -> str:
    kept = released() / PROMISED[0]
    found = _run("git", "log", "--diff-filter=A", "--format=%H", "--", kept.relative_to(ROOT)).decode().split()
    assert found, "no commit is to be seen in which a release was kept: name one (FROM=...)"
    return found[-1]


def _run(*command: object) -> bytes:
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, check=False, timeout=BUILD_S)
    assert done.returncode == 0, f"{command}: {done.stderr.decode()[-1000:]}"
    return done.stdout


def test_upgraded_one_by_one_and_taken_back(stream: Stream, builds: tuple[Build, Build]) -> None:
    older, newer = builds

    def start(build: Build, name: str) -> None:
        worker = BuiltWorker(build, name, stream.worker_settings, stream.folder / f"worker-{name}")
        stream.workers[name] = worker
        worker.start()
        worker.wait_ready()
        assert worker.runs_its_build()

    def replace(old: str, build: Build, new: str) -> None:
        """The new one first, then SIGTERM to the old one: there is never none."""
        start(build, new)
        running = [name for name, worker in stream.workers.items() if worker.is_running()]
        stream.wait_assigned(*running)
        stream.workers[old].terminate(DRAIN_S)
        assert stream.workers[old].exit_code == 0
        stream.wait_assigned(*(name for name in running if name != old))
        load.wait(load.acked + 200)

    start(older, "a")
    start(older, "b")
    stream.wait_assigned("a", "b")
    load = stream.load(rate=RATE_PER_S, withdraw_every=53)
    load.wait(500)
    replace("a", newer, "c")
    _both_obey(stream, "genres-t3", "0.5")
    replace("b", newer, "d")
    replace("c", older, "e")  # and back, as after a release that was none
    _both_obey(stream, "genres-t3", "0.25")
    replace("d", older, "f")
    load.stop()
    report = stream.verify()
    assert report.inputs > 2_000


def _both_obey(stream: Stream, tag: str, value: str) -> None:
    """A change of thresholds reaches workers of both builds."""
    running = [name for name, worker in stream.workers.items() if worker.is_running()]

    def versions() -> set[str]:
        return {stream.heartbeat(name).get("thresholds", "") for name in running}

    before = versions()
    stream.redis.hset(stream.keys.live(stream.artefacts.first), tag, value)
    eventually(lambda: len(now := versions()) == 1 and now != before, 20, "both builds obey", versions)
