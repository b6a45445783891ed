"""The folder of models: which versions there are, and the names people give them.

`aliases.json` is replaced as a whole and by renaming; `aliases-history.jsonl` only grows. Knows file names; what is
in an artefact is `model.artifact`'s business.
"""

import difflib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from model.errors import ModelError
from model.manifest import MANIFEST, VERSION_PATTERN, check_version_name, read_bounded

ALIASES, HISTORY, LOCK = "aliases.json", "aliases-history.jsonl", ".aliases.lock"
ALIAS_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,39}")
NEAREST_SHOWN = 3
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
        known = [alias for alias in aliases if ALIAS_PATTERN.fullmatch(alias)] + versions
        nearest = difflib.get_close_matches(name, known, NEAREST_SHOWN, cutoff=0.4) or known[-NEAREST_SHOWN:]
        hint = f"did you mean {', '.join(nearest)}?" if nearest else "there are none yet."
        raise ModelError(f"There is no model {name!r} in {self.models_dir}; {hint}")

    def path(self, name: str) -> Path:
        """The folder of a version or alias."""
        return self.models_dir / self.resolve(name)

    def load(self, name: str, *, verify: bool = True):
        """The artefact of a version or alias."""
        from model import artifact

        return artifact.load(self.path(name), verify=verify)

    def set_alias(self, alias: str, version: str, who: str, why: str) -> None:
        """Point `alias` at `version` (or at what another alias names), and write down who and why.

        Raises:
            ModelError: for an alias that is no name, or an unknown version.
        """
        self.check_alias(alias)
        version = self.resolve(version)
        with self._locked():
            aliases = self.aliases()
            entry = {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "alias": alias,
                "before": aliases.get(alias),
                "after": version,
                "who": who,
                "why": why,
            }
            with (self.models_dir / HISTORY).open("a", encoding="utf-8") as history:
                history.write(json.dumps(entry, ensure_ascii=False) + "\n")
                history.flush()
                os.fsync(history.fileno())
            self._replace_aliases({**aliases, alias: version})

    def check_alias(self, alias: str) -> None:
        """That the name may be an alias.

        Raises:
            ModelError: where it may not.
        """
        if not ALIAS_PATTERN.fullmatch(alias):
            raise ModelError(f"{alias[:NAME_SHOWN]!r} is not an alias: lower-case letters, digits, - and _, up to 40.")

    def history(self) -> list[dict[str, str | None]]:
        """Every change of an alias, oldest first."""
        path = self.models_dir / HISTORY
        if not os.path.lexists(path):
            return []
        lines = read_bounded(path, HISTORY_BYTES_MAX, within=self.models_dir).splitlines()
        try:
            return [json.loads(line) for line in lines if line]
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read: {error}.") from None

    def _replace_aliases(self, aliases: dict[str, str]) -> None:
        handle, name = tempfile.mkstemp(prefix=".aliases-", dir=self.models_dir)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(aliases, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, self.models_dir / ALIASES)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time: two processes that set aliases at once must not lose one of them."""
        with (self.models_dir / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
