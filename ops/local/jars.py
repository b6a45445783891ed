"""Gets the jars of the pinned Apache Kafka into the user's cache folder, once, each verified by its sha256.

`kafka-jars.toml` is the whole truth: nothing is resolved at run time, so what runs is what was tested. Two
processes may fetch at once: each jar is downloaded aside and renamed into place.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.errors import OpsError

JAR_LIST = Path(__file__).with_name("kafka-jars.toml")
DOWNLOAD_THREADS = 8
DOWNLOAD_ATTEMPTS = 3
DOWNLOAD_TIMEOUT_S = 60


@dataclass(frozen=True)
class Jar:
    """One pinned jar: its Maven coordinates and what its bytes must hash to."""

    group: str
    artifact: str
    version: str
    sha256: str
    classifier: str = ""

    @property
    def file_name(self) -> str:
        """Its name in the cache; the group is left out, as in Maven's own file names."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classifier}.jar"


@dataclass(frozen=True)
class JarList:
    """The pinned Kafka version and every jar that it needs."""

    kafka_version: str
    jars: tuple[Jar, ...]


def cache_dir() -> Path:
    """The user's cache folder: TAGSTREAM_CACHE_DIR, else under XDG_CACHE_HOME, else under ~/.cache."""
    explicit = os.environ.get("TAGSTREAM_CACHE_DIR")
    if explicit:
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser().absolute() if base else Path.home() / ".cache") / "tagstream"


def load_jar_list(path: Path = JAR_LIST) -> JarList:
    """Read the pinned list; a malformed one is named, not half used."""
    try:
        document = tomllib.loads(path.read_text())
        jars = tuple(Jar(**entry) for entry in document["jar"])
        kafka_version = str(document["kafka"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise OpsError(f"{path.name} is not a list of jars: {error}.") from error
    for jar in jars:
        if len(jar.sha256) != 64:
            raise OpsError(f"{path.name}: the sha256 of {jar.artifact} has {len(jar.sha256)} characters instead of 64.")
    if len({jar.file_name for jar in jars}) != len(jars):
        raise OpsError(f"{path.name}: two jars have the same file name.")
    return JarList(kafka_version, jars)


def verify(jar: Jar, path: Path) -> None:
    """Raise unless the file's bytes are the pinned ones."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != jar.sha256:
        raise OpsError(
            f"{jar.file_name} is not the jar that was pinned (sha256 {actual[:12]}..., not {jar.sha256[:12]}...):"
            " it was changed at its source or on its way here, and was not kept."
        )


def kafka_jars(jar_list: JarList | None = None) -> Path:
    """The folder that holds every pinned jar; fetches what is missing."""
    jar_list = jar_list or load_jar_list()
    version = jar_list.kafka_version
    return pinned_jars(jar_list.jars, cache_dir() / f"kafka-{version}", f"Apache Kafka {version}")


def pinned_jars(jars: Sequence[Jar], folder: Path, title: str) -> Path:
    """`folder`, holding each of `jars`; fetches what is missing and tells so under this title."""
    # Verified before it was renamed into place, so a file that is there is the right one.
    missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
    if missing:
        _fetch(missing, folder, title)
    return folder


def classpath(jar_list: JarList | None = None) -> str:
    """The pinned jars as Java wants them; foreign files in the folder are not on it."""
    jar_list = jar_list or load_jar_list()
    folder = kafka_jars(jar_list)
    return os.pathsep.join(str(folder / jar.file_name) for jar in jar_list.jars)


def _fetch(missing: list[Jar], folder: Path, title: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
    except OSError as error:
        raise OpsError(
            f"the cache folder {folder} cannot be written ({error.strerror}); set TAGSTREAM_CACHE_DIR."
        ) from error
    started = time.monotonic()
    try:
        with ThreadPoolExecutor(DOWNLOAD_THREADS) as threads:
            fetches = [threads.submit(_fetch_one, jar, aside, folder) for jar in missing]
            try:
                for done, fetch in enumerate(as_completed(fetches), start=1):
                    fetch.result()
                    _progress(
                        f"{title}: jar {done} of {len(missing)} fetched",
                        done == len(missing),
                    )
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(
        f"{title}: kept in {folder} ({time.monotonic() - started:.0f} s)",
        file=sys.stderr,
    )


def _progress(text: str, last: bool) -> None:
    """One line that rewrites itself on a terminal; elsewhere only the last state, to keep logs short."""
    if sys.stderr.isatty():
        print(f"\r{text}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        print(text, file=sys.stderr)


def _fetch_one(jar: Jar, aside: Path, folder: Path) -> None:
    """Download one jar aside, verify it, rename it into place."""
    downloaded = _download(jar, aside)
    verify(jar, downloaded)
    downloaded.replace(folder / jar.file_name)


def _download(jar: Jar, aside: Path) -> Path:
    """Ask the Maven client for exactly this jar, again after a failure of the network."""
    failure: Exception | None = None
    for attempt in range(DOWNLOAD_ATTEMPTS):
        # A folder per attempt: the client refuses to write over what a broken download left.
        artifact = _maven_artifact(jar, aside / f"{jar.file_name}.{attempt}")
        try:
            return Path(artifact.resolve())
        except Exception as error:  # the client's own errors and those of its http library
            failure = error
    reason = (str(failure).splitlines() or [type(failure).__name__])[0][:200]
    raise OpsError(
        f"{jar.file_name} could not be fetched ({reason}): Kafka's jars are needed once from a Maven"
        " repository; or set TAGSTREAM_KAFKA_BOOTSTRAP to a Kafka that you have."
    ) from failure


def _maven_artifact(jar: Jar, repository: Path) -> Any:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise OpsError("jgo, which fetches the local Kafka, is not installed here: images leave it out.") from error

    context = MavenContext(repo_cache=repository, local_repos=[], resolver=PythonResolver(), timeout=DOWNLOAD_TIMEOUT_S)
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact(classifier=jar.classifier)
