"""What a model's thresholds were: every version by its name, what changed between two, and the way back to one.

Redis keeps a history of who changed what and why, and the table of every version; here the two are put together.
Reads through `ThresholdsAdmin` and writes through it, so a way back is a change like any other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ops.errors import OpsError
from ops.thresholds_admin import Live, ThresholdsAdmin, Written
from streamer.core.thresholds import BadThreshold, ThresholdTable, threshold_text

LIVE, TUNED = "live", "tuned"  # names that `table_named` knows besides versions
PREFIX_CHARACTERS_MIN = 4  # of a version that is not written out
ENTRIES_PER_READ = 200

Changes = dict[str, tuple[str, str]]  # tag -> its text before and after


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history. `changes` is None where Redis does not hold both tables (any more)."""

    at_ms: int
    who: str
    why: str
    action: str
    before: str
    after: str
    seen_by: str  # of an outside edit: the worker that entered it
    changes: Changes | None


def entries(admin: ThresholdsAdmin, live: Live, *, limit: int = 20, tag: str | None = None) -> list[Entry]:
    """The newest entries first; with `tag` only those that changed it.

    Raises:
        OpsError: Redis is away.
    """
    found: list[Entry] = []
    newest = "+"
    while len(found) < limit:
        with admin.telling():
            read = admin.redis.xrevrange(admin.keys.history(live.model), newest, "-", count=ENTRIES_PER_READ)
        tables = _tables(admin, live.model, [fields for _, fields in read])
        for place, fields in read:
            entry = _entry(place, fields, tables)
            if tag is None or tag in (entry.changes or {}):
                found.append(entry)
        if len(read) < ENTRIES_PER_READ:
            break
        newest = f"({read[-1][0]}"
    return found[:limit]


def _tables(admin: ThresholdsAdmin, model: str, read: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """The tables that these entries name, as far as Redis holds them."""
    versions = sorted({fields[name] for fields in read for name in ("before", "after") if fields.get(name)})
    if not versions:
        return {}
    with admin.telling():
        texts = admin.redis.hmget(admin.keys.tables(model), versions)
    tables = {}
    for version, text in zip(versions, texts, strict=True):
        try:
            value = json.loads(text or "null")
        except (ValueError, RecursionError):
            continue  # somebody else's: the entry is told without its changes
        if isinstance(value, dict):
            tables[version] = value
    return tables


def _entry(place: str, fields: Mapping[str, str], tables: Mapping[str, dict[str, str]]) -> Entry:
    text = {name: fields.get(name, "") for name in ("who", "why", "action", "before", "after", "seen_by")}
    before, after = tables.get(text["before"]), tables.get(text["after"])
    known = None if before is None or after is None else differences(before, after)
    return Entry(int(place.partition("-")[0]), **text, changes=known)


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> Changes:
    """The tags whose texts differ, in the order of `after`."""
    return {tag: (before.get(tag, ""), text) for tag, text in after.items() if before.get(tag, "") != text}


def table_named(admin: ThresholdsAdmin, live: Live, name: str) -> ThresholdTable:
    """The table that a person means: `live`, `tuned`, a version, or the beginning of one.

    Raises:
        OpsError: there is none of that name, more than one, or Redis holds something else under it.
    """
    if name == LIVE:
        return live.table
    if name == TUNED:
        return ThresholdTable.build(live.vocabulary.tags, {}, live.tuned)
    version = _version(admin, live, name)
    with admin.telling():
        text = admin.redis.hget(admin.keys.tables(live.model), version)
    try:
        table = ThresholdTable.from_canonical(live.vocabulary.tags, text or "")
    except BadThreshold as error:
        raise OpsError(f"what Redis holds as thresholds {version} is no table of {live.model}: {error}.") from None
    if table.version != version:
        raise OpsError(f"what Redis holds as thresholds {version} is {table.version}: it was written by another tool.")
    return table


def _version(admin: ThresholdsAdmin, live: Live, name: str) -> str:
    with admin.telling():
        versions = admin.redis.hkeys(admin.keys.tables(live.model))
    if name in versions:
        return name
    found = [version for version in versions if version.startswith(name)] if len(name) >= PREFIX_CHARACTERS_MIN else []
    if len(found) == 1:
        return str(found[0])
    if found:
        raise OpsError(f"{name!r} begins {len(found)} thresholds versions of {live.model}: write more of it.")
    raise OpsError(
        f"{live.model} never had thresholds {name[:40]!r}: `tagstream thresholds history` lists the versions; "
        f"{LIVE} and {TUNED} are names too."
    )


def roll_back(admin: ThresholdsAdmin, live: Live, version: str, why: str) -> Written:
    """Make the table of an earlier version the live one, whole, starting from the table that `live` shows.

    Raises:
        OpsError: there is no such version, the table has changed since it was read, or Redis is away.
    """
    table = table_named(admin, live, version)
    return admin.change(live, table.as_hash(), why, action="rollback", whole=True)


def tuned_texts(live: Live) -> dict[str, str]:
    """What the trainer chose, as canonical texts."""
    return {tag: threshold_text(tag, live.tuned[tag]) for tag in live.vocabulary.tags}
