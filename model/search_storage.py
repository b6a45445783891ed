"""Where a search remembers its trials: a journal file by default, Redis or a database for several machines.

Nothing is unpickled. Optuna's Redis journal would load pickled snapshots, so only its log of JSON is used; a file is
one JSON object a line. A process that is killed leaves no lock behind, and a line that it tore is cut off.
"""

import fcntl
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import (
    BaseJournalBackend,
    JournalFileBackend,
    JournalFileOpenLock,
    JournalRedisBackend,
    JournalStorage,
)

from model.errors import ModelError

JOURNAL = "journal.jsonl"  # in a folder that is given as storage
JOURNAL_START = b'{"op_code":'  # as Optuna writes it
REDIS_SCHEMES = ("redis", "rediss")
REDIS_PREFIX = "tagstream:search"
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
MESSAGE_SHOWN = 200  # characters of a library's complaint


def open_storage(place: str, study: str) -> BaseStorage:
    """The storage at a path or URL; from here on Optuna keeps quiet.

    Raises:
        ModelError: in one sentence without passwords, where it cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # the journal in Redis, and the retries
    try:
        scheme = urlsplit(place).scheme if "://" in place else ""
        if scheme in REDIS_SCHEMES:
            return JournalStorage(_RedisJournal(place, f"{REDIS_PREFIX}:{study}"))
        return RDBStorage(place) if scheme else JournalStorage(_file_journal(Path(place)))
    except ModelError:
        raise
    except Exception as error:  # every driver has errors of its own
        raise ModelError(f"The storage {hide_password(place)} cannot be used: {complaint(error, place)}.") from None


def check_name(study: str) -> None:
    """That the name may name a folder and a key.

    Raises:
        ModelError: where it may not.
    """
    if not NAME_PATTERN.fullmatch(study):
        raise ModelError(f"{study[:80]!r} is not a study's name: letters, digits, '.', - and _, up to 80.")


def hide_password(place: str) -> str:
    """The path or URL as it may be shown."""
    password = _password(place)
    return place.replace(f":{password}@", ":***@") if password else place


def complaint(error: Exception, place: str) -> str:
    """The first line of what a library complains about, without the password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = (lines[0] if lines else type(error).__name__)[:MESSAGE_SHOWN].rstrip(".")
    password = _password(place)
    return text.replace(password, "***") if password else text


def _password(place: str) -> str:
    found = re.match(r"[a-z0-9+]+://[^/@]*?:(.*)@", place)
    return found[1] if found else ""


def _file_journal(path: Path) -> JournalFileBackend:
    path = path / JOURNAL if path.is_dir() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _HeldLock(f"{path}.lock")
    if path.exists():
        _check_journal(path)
        lock.acquire()
        try:
            _cut_torn_line(path)
        finally:
            lock.release()
    return JournalFileBackend(str(path), lock_obj=lock)


def _check_journal(path: Path) -> None:
    """That a file is a journal (or empty): any other would be written into."""
    with path.open("rb") as file:
        start = file.read(len(JOURNAL_START))
    if start != JOURNAL_START[: len(start)]:
        raise ModelError(f"{path} is not the journal of a search.")


def _cut_torn_line(path: Path) -> None:
    """A line without an end was being written when power or disk space ran out: nobody was told that it counts."""
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


class _HeldLock(JournalFileOpenLock):
    """A lock of the kernel's, which ends with the process that held it; Optuna's own outlives a kill by 30 s."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._held: TextIO | None = None

    def acquire(self) -> bool:
        held = open(self._path, "w")  # noqa: SIM115 - open until released, or until the process ends
        fcntl.flock(held, fcntl.LOCK_EX)
        self._held = held
        return True

    def release(self) -> None:
        assert self._held is not None
        self._held.close()


class _RedisJournal(BaseJournalBackend):
    """Optuna's log in Redis without its snapshots: those are pickled, and whoever can write there could run code."""

    def __init__(self, url: str, prefix: str) -> None:
        self._log = JournalRedisBackend(url, prefix=prefix)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self._log.read_logs(log_number_from)

    def append_logs(self, logs: Iterable[dict[str, Any]]) -> None:
        self._log.append_logs(list(logs))
