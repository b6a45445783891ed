"""Every command of ops/runbook.md is run, as it stands there, on a real stream in the trouble that it is for.

Of a section the trouble is made by `TROUBLES`, then its commands are run in their order, and what its Verify says of
`/health` must hold in the end. Only names are put in: `TAG`, `VALUE`, `VERSION`, `NAME`, `PID`, a letter's place, and
the prefix of this stream's keys. What cannot be tried here is in `NOT_HERE`, with the reason.
"""

import asyncio
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.kafka_io import produce_events
from ops.local.process import wait_until
from ops.local.redis import find_redis_server
from tests.fixtures_secure import Command
from tests.harness import Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

RUNBOOK = Path(__file__).parents[2] / "ops" / "runbook.md"
PROGRAMS = ("tagstream", "curl", "redis-cli", "docker", "kubectl", "kill", "nvidia-smi", "timedatectl", "dmesg")
TRAINED = "needs the curves of a trained model; `tests/integration/test_drift.py` runs it on one"
NOT_HERE = {
    "tagstream worker": "the worker of this test is one",
    "docker compose up -d worker": "`make compose-test` starts them so",
    "kubectl describe pod": "no Kubernetes here",
    "nvidia-smi": "no GPU here",
    "timedatectl": "asks systemd, of which there need not be one",
    "dmesg": "the kernel's, and its owner's",
    "kill -9": "named, not told to be typed",
    "tagstream train": "named, not told to be typed",
    "redis-cli set tagstream:model": "the runbook says not to",
    "tagstream thresholds drift --since 2d": TRAINED,
    "curl -s $W/metrics | grep ^tagstream_input_psi": TRAINED,
    "curl -s $W/metrics | grep ^tagstream_score_psi": TRAINED,
    "tagstream thresholds drift --since 7d": TRAINED,
    "tagstream thresholds drift --since 7d --picture drift.png": TRAINED,
}
PATIENCE_S = 30.0
TAG = "genres-t0"
SURGE = 300


def sections() -> dict[str, str]:
    """The runbook's text by heading; what comes before the first one under its title."""
    pieces = re.split(r"^#+ (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def commands(text: str) -> list[str]:
    """What is told to be typed, in its order, once each."""
    lines = [
        line for block in re.findall(r"^```\n(.+?)^```", text, re.MULTILINE | re.DOTALL) for line in block.splitlines()
    ]
    typed = lines + re.findall(r"`([^`\n]+)`", re.sub(r"^```\n.+?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [re.sub(r"\s{2,}# .*", "", line).strip() for line in typed]
    return list(dict.fromkeys(line for line in found if line.startswith((*PROGRAMS, "M=")) and line not in NOT_HERE))


class Scene:
    """A stream with one worker, and an operator at a shell."""

    def __init__(self, stream: Stream, command: Command) -> None:
        self.stream, self._command = stream, command
        for version in (stream.artefacts.second, stream.artefacts.broken):
            stream.install(version)
        self.worker = stream.worker("a", breaker_inputs=SURGE * 2 // 3, breaker_window_s=5, breaker_resume_s=0)
        self.worker.start()
        self.worker.wait_ready()
        lag = f"curl -s localhost:{self.worker.port}/metrics | grep -q ^tagstream_lag"
        eventually(
            lambda: subprocess.run(["bash", "-c", lag], check=False).returncode == 0, PATIENCE_S, "a lag is told"
        )
        self.tagstream("models", "promote", stream.artefacts.first, "--why", "the first")
        self.names = {"TAG": TAG, "VALUE": "0.35", "VERSION": stream.artefacts.first, "NAME": "a"}
        self.asked = self.worker  # whose address W is

    @property
    def model(self) -> str:
        return self.stream.redis.get(self.stream.keys.model) or ""

    def until(self, saying: str, holds: Callable[[dict[str, object]], object]) -> None:
        """Wait for what /health says."""
        eventually(lambda: holds(self.worker.health()), PATIENCE_S, saying, self.worker.health)

    def tagstream(self, *words: str, code: int = 0) -> str:
        ended = self._command(self.stream.worker_settings, *words)
        assert ended.code == code, (words, ended)
        return ended.out + ended.err

    def type(self, line: str, code: int = 0) -> None:
        """Run a line as it stands, but for the names; it must end so, and say something."""
        typed = re.sub(r"\b(TAG|VALUE|VERSION|NAME|PID)\b", lambda found: self.names[found[1]], line)
        typed = typed.replace("3/749", self.names.get("LETTER", "")).replace("tagstream:", self.stream.keys.prefix)
        typed = typed.replace("tracks.probabilities", self.stream.settings.topic_probabilities)
        if typed.startswith("tagstream "):
            words = [word.replace("$M", self.model) for word in shlex.split(typed)[1:]]
            if words[0] == "tail":
                words += ["--from", "earliest", "--limit", "1"]  # it would wait for what comes
            said = self.tagstream(*words, code=code)
        else:
            said = self._shell(typed + '; echo "$M"' * typed.startswith("M="), code)
        assert said.strip() or typed.startswith("kill"), f"{typed} says nothing"
        assert not re.match(r"ERR|NOPERM|WRONG", said), (typed, said)

    def _shell(self, typed: str, code: int) -> str:
        environment = {
            **os.environ, "PATH": f"{Path(find_redis_server()).parent}:{os.environ['PATH']}", "M": self.model,
            "R": str(self.stream.worker_settings["redis_url"]), "W": f"localhost:{self.asked.port}",
        }  # fmt: skip
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", typed], env=environment, check=False, capture_output=True, text=True,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == code, (typed, done)
        return done.stdout + done.stderr


def a_frozen_worker(scene: Scene) -> None:
    frozen = scene.stream.worker("b")
    frozen.start()
    frozen.wait_ready()
    scene.stream.wait_assigned("a", "b")
    frozen.pause()
    scene.asked, scene.names["PID"] = frozen, str(frozen.pid)


def a_surge(scene: Scene) -> None:
    """Of another vocabulary, just after somebody has promoted another model."""
    a_second_model(scene)
    stream, fingerprint = scene.stream, scene.stream.layout.fingerprint.encode()
    body = stream.bodies[0].replace(fingerprint, b"0" * len(fingerprint))
    events = [(b"bad-%d" % n, b'{"track_id":"bad-%d"' % n + body, ()) for n in range(SURGE)]
    asyncio.run(produce_events(stream.settings, events))
    scene.until("the worker pauses", lambda health: health.get("paused"))
    codes = json.loads(scene.tagstream("deadletter", "list", "--limit", "1", "--json"))["codes"]
    (letter,) = codes["fingerprint-mismatch"]["examples"]
    scene.names["LETTER"] = f"{letter['partition']}/{letter['offset']}"


def a_second_model(scene: Scene) -> None:
    scene.tagstream("models", "promote", scene.stream.artefacts.second, "--why", "better", "--force")


def a_model_that_is_broken(scene: Scene) -> None:
    weights = scene.stream.models_dir / scene.stream.artefacts.broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    scene.stream.redis.set(scene.stream.keys.model, scene.stream.artefacts.broken)
    scene.until("the worker refuses it", lambda health: health.get("model_failure"))


def a_wrong_value(scene: Scene) -> None:
    scene.stream.redis.hset(scene.stream.keys.live(scene.model), TAG, "loud")
    scene.until("the worker refuses it", lambda health: health.get("refusal"))


def a_lost_table(scene: Scene) -> None:
    live = scene.stream.keys.live(scene.model)
    scene.stream.redis.delete(live)
    eventually(lambda: scene.stream.redis.exists(live), PATIENCE_S, "the worker puts it back")


TROUBLES: dict[str, Callable[[Scene], None]] = {
    "TagstreamConsumerStalled": a_frozen_worker,
    "TagstreamDeadLetterSurge": a_surge,
    "TagstreamThresholdsRefused": a_wrong_value,
    "TagstreamThresholdsLost": a_lost_table,
    "TagstreamModelsDiffer": a_second_model,
    "TagstreamModelUnusable": a_model_that_is_broken,
    "TagstreamTagShareDrift": a_second_model,
    "TagstreamScoreDrift": a_second_model,
}
# What a command ends with where it finds the trouble: curl's time-out, a model that is not whole.
FINDS = {
    ("TagstreamConsumerStalled", "curl -m 3 -sS $W/health"): 28,
    ("TagstreamModelUnusable", "tagstream models verify $M"): 1,
}


def test_every_command_does_what_its_section_needs(stream: Stream, command: Command) -> None:
    scene = Scene(stream, command)
    load = stream.load(rate=5)
    for name, text in sections().items():
        TROUBLES.get(name, lambda _: None)(scene)
        for line in commands(text):
            if line.startswith("kill PID"):  # the last one that is ended: politely
                continue
            scene.type(line, FINDS.get((name, line), 0))
            if line.startswith("kill -9"):
                scene.asked = scene.worker
        promised = re.findall(r'`("\w+":(?:true|""|"\w+"))`', text.partition("**Verify.**")[2])
        scene.until(
            f"{name}: {promised}",
            lambda health, promised=promised: all(one in json.dumps(health, separators=(",", ":")) for one in promised),
        )
    load.stop()
    scene.names["PID"] = str(scene.worker.pid)
    scene.type("kill PID")
    assert wait_until(lambda: not scene.worker.is_running(), PATIENCE_S)
    scene.worker.terminate()  # it is gone: this reads how it ended
    assert scene.worker.exit_code == 0


def test_each_command_that_is_not_run_stands_in_the_runbook() -> None:
    text = RUNBOOK.read_text()
    assert all(f"`{line}" in text for line in NOT_HERE)
