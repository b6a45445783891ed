"""The folder of models: which versions there are, and the names people give them.

`aliases.json` is replaced as a whole and by renaming; `aliases-history.jsonl` only grows, and gets its line first: a
change without its reason is never seen, and a reason whose change did not come about can be told (`alias_history`).
Knows file names; what is in an artefact is `model.artifact`'s business.
"""

import difflib
import errno
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from model.alias_history import SET, Change, changes
from model.durable import sync
from model.errors import ModelError
from model.manifest import MANIFEST, VERSION_PATTERN, check_version_name, read_bounded

CHAMPION = "champion"  # the alias that starts a system whose Redis names no model
ALIASES, HISTORY, LOCK = "aliases.json", "aliases-history.jsonl", ".aliases.lock"
ALIAS_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,39}")
PREFIX_MIN = 4  # characters of a version that may stand for it in a question
NEAREST_SHOWN, NAMES_SHOWN = 3, 8
ALIAS_LIKENESS, VERSION_LIKENESS = 0.6, 0.85  # of 1, from which on a name may have been meant
NAME_SHOWN = 80  # characters of a name in a message; names come from outside
ALIASES_BYTES_MAX = 2**20
HISTORY_BYTES_MAX = 64 * 2**20


class Registry:
    """Versions and aliases in `models_dir`, which need not exist yet."""

    def __init__(self, models_dir: Path | str) -> None:
        self.models_dir = Path(models_dir)

    def versions(self) -> list[str]:
        """All versions, oldest first."""
        if not self.models_dir.is_dir():
            return []
        return sorted(
            path.name
            for path in self.models_dir.iterdir()
            if VERSION_PATTERN.fullmatch(path.name) and (path / MANIFEST).is_file()
        )

    def aliases(self) -> dict[str, str]:
        """Alias to version.

        Raises:
            ModelError: where the file is not what it should be.
        """
        path = self.models_dir / ALIASES
        if not os.path.lexists(path):
            return {}
        try:
            value = json.loads(read_bounded(path, ALIASES_BYTES_MAX, within=self.models_dir))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read: {error}.") from None
        if not isinstance(value, dict) or not all(isinstance(version, str) for version in value.values()):
            raise ModelError(f"{path} is not an object of aliases and versions.")
        return value

    def resolve(self, name: str) -> str:
        """The version that a version or an alias names.

        Raises:
            ModelError: for a name that is neither, with the nearest ones.
        """
        versions, aliases = self.versions(), self.aliases()
        name = name[:NAME_SHOWN]
        version = aliases.get(name, name)
        if version in versions:
            return check_version_name(version)
        if name in aliases:
            raise ModelError(f"The alias {name!r} names {version[:NAME_SHOWN]!r}, which is not in {self.models_dir}.")
        raise ModelError(f"There is no model {name!r} in {self.models_dir}; {_hint(name, aliases, versions)}")

    def check_known_alias(self, alias: str) -> None:
        """That there is such an alias, or was; the champion's is one before there is a champion.

        Raises:
            ModelError: otherwise, with the nearest ones.
        """
        self.check_alias(alias)
        known = {CHAMPION, *self.aliases(), *(str(line.get("alias")) for line in self.history())}
        if alias not in known:
            raise ModelError(f"There is no alias {alias!r} in {self.models_dir}; {_hint(alias, known, ())}")

    def check_folder(self) -> None:
        """That there is a folder of models.

        Raises:
            ModelError: otherwise.
        """
        if not self.models_dir.is_dir():
            raise ModelError(f"There is no folder {self.models_dir} (--models-dir, or TAGSTREAM_MODELS_DIR).")

    def path(self, name: str) -> Path:
        """The folder of a version or alias."""
        return self.models_dir / self.resolve(name)

    def load(self, name: str, *, verify: bool = True):
        """The artefact of a version or alias."""
        from model import artifact

        return artifact.load(self.path(name), verify=verify)

    def set_alias(self, alias: str, version: str, who: str, why: str, action: str = SET) -> None:
        """Point `alias` at `version` (or at what another alias names), and write down who and why.

        Raises:
            ModelError: for an alias that is no name, an unknown version, or a folder that cannot be written.
        """
        with self.writing() as write:
            write(alias, version, who, why, action)

    @contextmanager
    def writing(self) -> Iterator[Callable[[str, str, str, str, str], None]]:
        """`set_alias` for one writer at a time, who may do more while the others wait.

        Raises:
            ModelError: where the folder cannot be written.
        """
        try:
            lock = (self.models_dir / LOCK).open("a")
        except OSError as error:
            raise ModelError(f"{self.models_dir} cannot be written: {error.strerror or error}.") from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._set_alias

    def _set_alias(self, alias: str, version: str, who: str, why: str, action: str) -> None:
        self.check_alias(alias)
        version = self.resolve(version)
        aliases = self.aliases()
        entry = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "alias": alias,
            "before": aliases.get(alias),
            "after": version,
            "action": action,
            "who": who,
            "why": why,
        }
        try:
            self._append(json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            self._replace_aliases({**aliases, alias: version})
        except OSError as error:
            raise ModelError(
                f"The alias {alias!r} cannot be written in {self.models_dir}: {error.strerror or error}."
            ) from None

    def check_alias(self, alias: str) -> None:
        """That the name may be an alias.

        Raises:
            ModelError: where it may not.
        """
        if not ALIAS_PATTERN.fullmatch(alias):
            raise ModelError(f"{alias[:NAME_SHOWN]!r} is not an alias: lower-case letters, digits, - and _, up to 40.")

    def history(self) -> list[dict[str, str | None]]:
        """Every line of the history, oldest first. A last line without an end is one that is being written."""
        path = self.models_dir / HISTORY
        if not os.path.lexists(path):
            return []
        whole, _, _ = read_bounded(path, HISTORY_BYTES_MAX, within=self.models_dir).rpartition(b"\n")
        try:
            return [json.loads(line) for line in whole.splitlines() if line]
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read: {error}.") from None

    def changes(self, alias: str) -> list[Change]:
        """Every change of one alias, oldest first, those that never took effect marked.

        Raises:
            ModelError: where aliases or history are damaged.
        """
        named = self.aliases().get(alias)
        while True:  # a line read after the aliases may be of a later change than they are
            lines = self.history()
            if (again := self.aliases().get(alias)) == named:
                return changes(lines, alias, named)
            named = again

    def _append(self, line: bytes) -> None:
        """The line on disk whole, or not at all; one that a crash cut short, and so never took effect, is taken off."""
        with (self.models_dir / HISTORY).open("ab+", buffering=0) as history:
            end = history.seek(0, os.SEEK_END)
            history.seek(max(0, end - 1))
            if history.read(1) not in (b"", b"\n"):
                history.seek(0)
                end = history.readall().rfind(b"\n") + 1
                history.truncate(end)
            try:
                if history.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(history.fileno())
            except OSError:
                history.truncate(end)
                raise

    def _replace_aliases(self, aliases: dict[str, str]) -> None:
        handle, name = tempfile.mkstemp(prefix=".aliases-", dir=self.models_dir)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(aliases, file, indent=1, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, self.models_dir / ALIASES)
        except BaseException:
            os.unlink(name)
            raise
        sync(self.models_dir)


def _hint(name: str, aliases: Iterable[str], versions: Sequence[str]) -> str:
    """What a name that is none may have been meant for. All versions look alike: only a likely slip is one."""
    named = sorted(alias for alias in aliases if ALIAS_PATTERN.fullmatch(alias))
    nearest = difflib.get_close_matches(name, named, NEAREST_SHOWN, ALIAS_LIKENESS)
    nearest += difflib.get_close_matches(name, versions, NEAREST_SHOWN, VERSION_LIKENESS)
    nearest += [version for version in versions if len(name) >= PREFIX_MIN and version.startswith(name)]
    if nearest:
        return f"did you mean {', '.join(list(dict.fromkeys(nearest))[:NEAREST_SHOWN])}?"
    there = [f"aliases: {', '.join(named[:NAMES_SHOWN])}"] if named else []
    there += [f"versions: {len(versions)}, the newest {versions[-1]}"] if versions else []
    return f"there are {'; '.join(there)}." if there else "there are none yet."
