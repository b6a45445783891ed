"""What an alias named when and why, whatever crash or full disk came between the history and the aliases."""

import json
import os
import resource
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from model import alias_history
from model import registry as registries
from model.errors import ModelError
from model.manifest import MANIFEST
from model.registry import ALIASES, HISTORY, Registry

A, B, C, D = (f"2026112{day}T000000Z-0000000{day}" for day in range(1, 5))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Four versions, as far as names go."""
    for version in (A, B, C, D):
        (tmp_path / version).mkdir()
        (tmp_path / version / MANIFEST).write_text("{}")
    return Registry(tmp_path)


def lines(*steps: tuple[str, str | None, str, str]) -> list[dict[str, str | None]]:
    """Lines of (day, before, after, action)."""
    return [
        {"at": f"2026-11-{day}T12:00:00.000+00:00", "alias": "champion", "before": before, "after": after,
         "action": action, "who": "ann", "why": f"{before} to {after}"}
        for day, before, after, action in steps
    ]  # fmt: skip


def test_which_version_was_champion_on_that_day_and_why():
    found = alias_history.periods(
        alias_history.changes(
            lines(
                ("21", None, A, "promote"), ("23", A, B, "promote"), ("24", B, B, "promote"), ("26", B, C, "promote")
            ),
            "champion",
            C,
        )
    )
    assert [period.model for period in found] == [A, B, C] and found[-1].until is None

    def named(when: str) -> list[str]:
        return [period.model for period in alias_history.on(found, when)]

    assert named("2026-11-20") == []
    assert named("2026-11-22") == [A] and named("2026-11-25") == [B] and named("2027-01-01") == [C]
    assert named("2026-11-23") == [A, B], "the day of a change has both"
    assert named("2026-11-23T11:59:59") == [A] and named("2026-11-23T12:00:00+00:00") == [B]
    assert named("2026-11-23T12:30:00+01:00") == [A], "a moment may name its own zone"
    assert alias_history.on(found, "2026-11-24")[0].change.why == f"{A} to {B}"
    for nonsense in ("yesterday", "", "2026-13-01", "2026-11-23T"):
        with pytest.raises(ModelError, match="neither a day"):
            alias_history.on(found, nonsense)


def test_rolling_back_twice_goes_two_versions_back():
    steps = [("21", None, A, "promote"), ("22", A, B, "promote"), ("23", B, C, "promote")]
    assert alias_history.named_before(alias_history.changes(lines(*steps), "champion", C)) == B
    steps.append(("24", C, B, "rollback"))
    assert alias_history.named_before(alias_history.changes(lines(*steps), "champion", B)) == A
    steps.append(("25", B, A, "rollback"))
    assert alias_history.named_before(alias_history.changes(lines(*steps), "champion", A)) is None
    steps.append(("26", A, D, "promote"))
    assert alias_history.named_before(alias_history.changes(lines(*steps), "champion", D)) == A
    assert alias_history.named_before([]) is None


def test_a_line_whose_change_never_came_about_is_told_and_counts_for_nothing():
    crashed = [("21", None, A, "promote"), ("22", A, B, "promote")]
    found = alias_history.changes(lines(*crashed), "champion", A)
    assert [change.took_effect for change in found] == [True, False]
    assert [period.model for period in alias_history.periods(found)] == [A]
    assert alias_history.named_before(found) is None
    found = alias_history.changes(lines(*crashed, ("23", A, B, "promote")), "champion", B)
    assert [change.took_effect for change in found] == [True, False, True]
    found = alias_history.changes(lines(*crashed), "champion", C)
    assert [change.took_effect for change in found] == [True, True], "aliases.json edited by hand: B was in effect"


@pytest.mark.parametrize("line", ["[]", "3", '{"alias": 3}', '{"alias": "champion"}',
                                  '{"alias": "champion", "at": "x", "before": null, "after": "y"}'])  # fmt: skip
def test_a_damaged_line_is_named(registry: Registry, line: str):
    registry.set_alias("champion", A, "ann", "first")
    with (registry.models_dir / HISTORY).open("a") as history:
        history.write(line + "\n")
    with pytest.raises(ModelError, match="Line 2 of the history"):
        registry.changes("champion")


CRASH = """
import os, signal, sys
from model import registry
if sys.argv[2] == "between":
    registry.Registry._replace_aliases = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
else:
    write = registry.Registry._append
    def torn(self, line):
        with (self.models_dir / registry.HISTORY).open("ab") as history:
            history.write(line[:20])
        os.kill(os.getpid(), signal.SIGKILL)
    registry.Registry._append = torn
registry.Registry(sys.argv[1]).set_alias("champion", sys.argv[3], "bob", "crashed")
"""


@pytest.mark.parametrize("where", ["between", "in the line"])
def test_a_writer_that_is_killed_leaves_the_old_champion_and_a_history_that_goes_on(registry: Registry, where: str):
    registry.set_alias("champion", A, "ann", "first")
    crashed = subprocess.run([sys.executable, "-c", CRASH, registry.models_dir, where, B], check=False)
    assert crashed.returncode == -signal.SIGKILL
    assert registry.aliases() == {"champion": A}
    assert [(c.after, c.took_effect) for c in registry.changes("champion")][:1] == [(A, True)]
    registry.set_alias("champion", C, "ann", "after the crash")  # its lock went with the killed process
    assert [c.after for c in registry.changes("champion") if c.took_effect] == [A, C]
    assert all(json.loads(line) for line in (registry.models_dir / HISTORY).read_text().splitlines())
    assert not any(c.took_effect for c in registry.changes("champion") if c.who == "bob")


def test_a_full_disk_changes_nothing(registry: Registry):
    registry.set_alias("champion", A, "ann", "first")
    kept = {path.name: path.read_bytes() for path in registry.models_dir.iterdir() if path.is_file()}
    size = (registry.models_dir / HISTORY).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, hard))  # room for a part of the line
    try:
        with pytest.raises(ModelError, match="'champion' cannot be written in"):
            registry.set_alias("champion", B, "ann", "no room")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in registry.models_dir.iterdir() if path.is_file()} == kept
    registry.set_alias("champion", B, "ann", "room again")
    assert registry.aliases() == {"champion": B} and len(registry.history()) == 2


def test_aliases_that_cannot_be_replaced_stay(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    registry.set_alias("champion", A, "ann", "first")

    def refuse(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched, pytest.raises(ModelError, match="No space left"):
        patched.setattr(registries.os, "replace", refuse)
        registry.set_alias("champion", B, "ann", "no room")
    assert registry.aliases() == {"champion": A}
    assert [change.took_effect for change in registry.changes("champion")] == [True, False]
    left = {path.name for path in registry.models_dir.iterdir() if path.is_file()}
    assert left == {ALIASES, HISTORY, registries.LOCK}, "nothing is left aside"


def test_an_unknown_folder_is_told(tmp_path: Path):
    with pytest.raises(ModelError, match="nowhere cannot be written"):
        Registry(tmp_path / "nowhere").set_alias("champion", A, "ann", "")


def test_times_are_utc(registry: Registry):
    registry.set_alias("champion", A, "ann", "first")
    at = registry.changes("champion")[0].at
    assert isinstance(at, datetime) and at.utcoffset() is not None and not at.utcoffset()


RACE = """
import sys
from model.registry import Registry
registry = Registry(sys.argv[1])
for turn in range(25):
    registry.set_alias("champion", sys.argv[2 + turn % 2], sys.argv[4], str(turn))
"""


def test_processes_that_write_at_once_leave_one_unbroken_chain(registry: Registry):
    commands = [[sys.executable, "-c", RACE, registry.models_dir, A, B, f"p{n}"] for n in range(3)]
    writers = [subprocess.Popen(command) for command in commands]
    while any(writer.poll() is None for writer in writers):
        registry.changes("champion")  # a reader meets nothing half-written
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    found = registry.changes("champion")
    assert len(found) == 75 and all(change.took_effect for change in found)
    assert [change.before for change in found[1:]] == [change.after for change in found[:-1]]
    assert registry.aliases()["champion"] == found[-1].after
