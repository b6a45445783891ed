"""What an alias named when, and why: the lines of the registry's history, read as changes and as periods.

A line is written before `aliases.json` is renamed into place. After a crash in between the line stands, but never took
effect: the alias still names what it did before, as its next line says, or `aliases.json` where there is none. Knows
lines and times; knows no files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from model.errors import ModelError

ROLLBACK = "rollback"
SET = "set"


@dataclass(frozen=True)
class Change:
    """One line of the history."""

    at: datetime  # UTC
    alias: str
    before: str | None
    after: str
    action: str  # promote, rollback or set
    who: str
    why: str
    took_effect: bool


@dataclass(frozen=True)
class Period:
    """A stretch of time in which an alias named one version."""

    model: str
    since: datetime
    until: datetime | None  # None: it still does
    change: Change  # that began it


def changes(lines: Sequence[Mapping[str, Any]], alias: str, named_now: str | None) -> list[Change]:
    """All changes of one alias, oldest first; `named_now` is what `aliases.json` says.

    Raises:
        ModelError: where a line is no change.
    """
    mine = [_parsed(number, line) for number, line in enumerate(lines, 1) if _alias(number, line) == alias]
    named_after = [change.before for change in mine[1:]] + [named_now]
    return [
        replace(change, took_effect=named == change.after or named != change.before)
        for change, named in zip(mine, named_after, strict=False)  # no changes: nothing to go with `named_now`
    ]


def _alias(number: int, line: Any) -> str:
    if not isinstance(line, Mapping) or not isinstance(line.get("alias"), str):
        raise ModelError(f"Line {number} of the history of aliases is not a change of an alias.")
    return line["alias"]


def _parsed(number: int, line: Mapping[str, Any]) -> Change:
    try:
        at = datetime.fromisoformat(line["at"])
        after, before = line["after"], line["before"]
        if not isinstance(after, str) or not isinstance(before, str | None):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"Line {number} of the history of aliases is damaged.") from None
    return Change(
        at=at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC),
        alias=line["alias"],
        before=before,
        after=after,
        action=str(line.get("action", SET)),
        who=str(line.get("who", "")),
        why=str(line.get("why", "")),
        took_effect=True,
    )


def periods(found: Sequence[Change]) -> list[Period]:
    """What the alias named, one period after the other; naming the same version again begins none."""
    began: list[Change] = []
    for change in found:
        if change.took_effect and (not began or began[-1].after != change.after):
            began.append(change)
    ends = [change.at for change in began[1:]] + [None]
    return [Period(change.after, change.at, end, change) for change, end in zip(began, ends, strict=False)]


def on(found: Sequence[Period], when: str) -> list[Period]:
    """The periods that reach into a day (`2026-11-22`), or the one of a moment (`2026-11-22T09:45`); UTC.

    Raises:
        ModelError: for what is neither.
    """
    try:
        moment = datetime.fromisoformat(when)
        whole_day = len(when) <= len("2026-11-22")
        start = datetime.combine(date.fromisoformat(when), time(), UTC) if whole_day else _utc(moment)
    except ValueError:
        raise ModelError(f"'{when[:40]}' is neither a day (2026-11-22) nor a moment (2026-11-22T09:45).") from None
    stop = start + timedelta(days=1) if whole_day else start + timedelta(microseconds=1)
    return [period for period in found if period.since < stop and (period.until is None or period.until > start)]


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def named_before(found: Sequence[Change]) -> str | None:
    """The version to roll back to; None where there was none.

    Rolling back twice goes two versions back, not there and back again: who is in trouble and asks twice does not want
    the version that the trouble came with.
    """
    stack: list[str] = []
    for change in found:
        if not change.took_effect:
            continue
        if change.action == ROLLBACK and change.after in stack:
            while stack[-1] != change.after:
                stack.pop()
        elif not stack or stack[-1] != change.after:
            stack.append(change.after)
    return stack[-2] if len(stack) > 1 else None
