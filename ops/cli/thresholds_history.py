"""`tagstream thresholds diff | history | rollback`: what the thresholds were, and the way back."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, stdout_console
from ops.cli.thresholds_write import (
    ModelOption,
    NoWaitOption,
    TimeoutOption,
    WhyOption,
    changes_of,
    open_admin,
    short,
    tell_written,
)
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.thresholds_admin import Live, ThresholdsAdmin
    from ops.thresholds_history import Entry

DIFF_EPILOG = "Example: tagstream thresholds diff tuned live"
HISTORY_EPILOG = "Example: tagstream thresholds history --tag jazz --limit 5"
ROLLBACK_EPILOG = 'Example: tagstream thresholds rollback 9f03c2d1e4aa --why "too few of them"'
SHOWN_TAGS = 5  # of an entry of the history
WHY_CHARACTERS = 200


def diff(
    a: Annotated[str, typer.Argument(help="live, tuned, a thresholds version (or its beginning), or a FILE.")],
    b: Annotated[str, typer.Argument(help="The same.")] = "live",
    *,
    model: ModelOption = None,
    json: JsonFlag = False,
) -> None:
    """The tags whose thresholds differ between two tables."""
    from ops.thresholds_history import differences

    admin = open_admin()
    live = admin.live(model)
    before, after = _texts(admin, live, a), _texts(admin, live, b)
    found = differences(before, after)
    if json:
        emit_json({"model": live.model, "a": a, "b": b, "changes": found})
        return
    if not found:
        note(f"{a} and {b} are the same table.")
        return
    print_table(f"model {live.model}", ["tag", a, b], [[tag, *texts] for tag, texts in found.items()])


def _texts(admin: "ThresholdsAdmin", live: "Live", name: str) -> dict[str, str]:
    """The table that a name or a file means; tags that a file leaves out are as they are live."""
    from ops.cli.thresholds_files import file_texts
    from ops.thresholds_history import table_named

    path = Path(name)
    if path.suffix and path.is_file():
        return admin.stage(live, file_texts(live, path)).as_hash()
    return table_named(admin, live, name).as_hash()


def history(
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Newest entries to show.")] = 20,
    tag: Annotated[str | None, typer.Option("--tag", help="Only changes of this tag.")] = None,
    model: ModelOption = None,
    json: JsonFlag = False,
) -> None:
    """Who changed the thresholds, when, why and how, the newest first."""
    from ops.thresholds_history import entries

    admin = open_admin()
    live = admin.live(model)
    if tag is not None:
        live.number_of(tag)
    found = entries(admin, live, limit=limit, tag=tag)
    if json:
        names = ("at_ms", "who", "why", "action", "before", "after", "seen_by", "changes")
        emit_json({"model": live.model, "entries": [{name: getattr(one, name) for name in names} for one in found]})
        return
    if not found:
        note("No entry in the history" + (f" changed {tag}." if tag else "."))
        return
    for one in found:
        _print_entry(one, tag)
    stdout_console.print("Back to one of them: tagstream thresholds rollback VERSION --why ...", markup=False)


def _print_entry(one: "Entry", tag: str | None) -> None:
    """In lines, so that a version can be copied whole."""
    seen = f" (seen by {_cut(one.seen_by)})" if one.seen_by else ""
    head = f"{_utc(one.at_ms)}  {_cut(one.who)}  {one.action}{seen}  {one.before or '-'} -> {one.after}"
    for line in (head, f"    {_changed(one, tag)}", f"    why: {_cut(one.why)}" if one.why else ""):
        if line.strip():
            stdout_console.print(line, markup=False, soft_wrap=True)


def _changed(entry: "Entry", tag: str | None) -> str:
    if entry.changes is None:
        return "" if entry.before else "the first table"
    shown = [tag] if tag else list(entry.changes)[:SHOWN_TAGS]
    texts = [f"{_cut(one)} {' -> '.join(map(short, entry.changes[one]))}" for one in shown]
    more = len(entry.changes) - len(shown)
    return ", ".join(texts) + (f" and {more} more" if more else "")


def _cut(text: str) -> str:
    from ops.kafka_view import printable

    text = printable(text)
    return text if len(text) <= WHY_CHARACTERS else text[: WHY_CHARACTERS - 3] + "..."


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rollback(
    version: Annotated[str, typer.Argument(help="A thresholds version (or its beginning), or tuned.")],
    *,
    why: WhyOption = "",
    model: ModelOption = None,
    timeout: TimeoutOption = 10.0,
    no_wait: NoWaitOption = False,
    json: JsonFlag = False,
) -> None:
    """Make an earlier table the live one again, whole."""
    from ops.thresholds_history import LIVE, roll_back, table_named

    if version == LIVE:
        raise OpsError("the live table is what is rolled back: name a version, or tuned.")
    admin = open_admin()
    live = admin.live(model)
    changes = changes_of(live, table_named(admin, live, version).as_hash())
    written = roll_back(admin, live, version, why)
    tell_written(admin, written, changes, timeout_s=timeout, no_wait=no_wait, json=json)
