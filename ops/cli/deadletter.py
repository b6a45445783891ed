"""`tagstream deadletter`: what could not be decided, and why; one letter in full; and another try."""

import asyncio
import sys
from collections import Counter
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.deadletter_options import (
    AttemptMaxOption,
    CodeOption,
    FieldOption,
    KeyOption,
    SinceOption,
    SourcePartitionOption,
    UntilOption,
    WorkerOption,
    selection_of,
)  # fmt: skip
from ops.cli.deadletter_replay import EPILOG as REPLAY_EPILOG
from ops.cli.deadletter_replay import replay
from ops.cli.deadletter_resume import EPILOG as RESUME_EPILOG
from ops.cli.deadletter_resume import resume
from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar, stdout_console
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.deadletters import Group, Letter, Selection
    from streamer.settings import Settings

app = typer.Typer(help="Inputs that can never be decided, and why; and another try.", no_args_is_help=True)
DEFAULT_EXAMPLES = 3
SHOWN_FIELDS = 10


@app.command("list", epilog="Example: tagstream deadletter list --code wrong-length --since 2h --limit 5")
def list_(
    *,
    code: CodeOption = None,
    field: FieldOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    source_partition: SourcePartitionOption = None,
    key: KeyOption = None,
    worker: WorkerOption = None,
    attempt_max: AttemptMaxOption = None,
    limit: Annotated[int, typer.Option(min=0, max=10_000, help="Newest examples per code.")] = DEFAULT_EXAMPLES,
    json: JsonFlag = False,
) -> None:
    """Count the dead letters by code and by field, and show the newest of each code."""
    from ops.deadletters import by_count

    selection = selection_of(code, field, since, until, source_partition, key, worker, attempt_max)
    settings = _settings()
    groups = asyncio.run(_group(settings, selection, limit))
    total = sum(group.count for group in groups.values())
    fields: Counter[str] = Counter()
    for group in groups.values():
        fields.update(group.fields)
    if json:
        codes = {name: _group_json(group) for name, group in by_count(groups)}
        emit_json({"topic": settings.topic_deadletter, "total": total, "codes": codes, "fields": dict(fields)})
        return
    kind = f" with the code {', '.join(code)}" if code else ""
    stdout_console.print(f"{total:,} dead letters{kind} in {settings.topic_deadletter}", markup=False, soft_wrap=True)
    if total:
        _print_groups(groups, fields)


def _print_groups(groups: "dict[str, Group]", fields: Counter[str]) -> None:
    from ops.deadletters import by_count
    from ops.kafka_view import printable, render

    rows = [[printable(name), group.count, utc(group.first_ms), utc(group.last_ms)] for name, group in by_count(groups)]
    print_table("", ["code", "letters", "first seen", "last seen"], rows)
    shown = fields.most_common(SHOWN_FIELDS)
    print_table("", ["field", "letters"], [[printable(name) or "(the whole event)", n] for name, n in shown])
    if len(fields) > len(shown):
        note(f"... and {len(fields) - len(shown):,} fields more")
    for name, group in by_count(groups):
        examples = ["  " + render(seen).replace("\n", "\n  ") for seen in group.examples()]
        if examples:
            text = "\n".join([f"\n{printable(name)}, the newest:", *examples])
            stdout_console.print(text, markup=False, soft_wrap=True)


def _group_json(group: "Group") -> dict[str, Any]:
    return {
        "count": group.count,
        "first_ms": group.first_ms,
        "last_ms": group.last_ms,
        "fields": dict(group.fields.most_common()),
        "examples": group.examples(),
    }


async def _group(settings: "Settings", selection: "Selection", examples: int) -> "dict[str, Group]":
    from ops.deadletters import Group
    from ops.kafka_view import Kind, describe

    groups: dict[str, Group] = {}

    def take(letter: "Letter") -> None:
        group = groups.setdefault(letter.code, Group(examples))
        group.add(letter, lambda record: describe(record, Kind.DEADLETTER) | {"attempt": letter.attempt})

    await _each(settings, selection, take)
    return groups


async def _each(settings: "Settings", selection: "Selection", take: Any) -> None:
    """Hand each letter that is wanted to `take`."""
    from ops.deadletters import Letter
    from ops.kafka_io import read_ranges, topic_ranges

    topic = settings.topic_deadletter
    ranges = await topic_ranges(settings, topic, selection.since_ms)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=sum(map(len, ranges.values())))
        async with aclosing(read_ranges(settings, topic, ranges)) as records:
            async for record in records:
                bar.advance(task)
                letter = Letter.parse(record)
                if selection.wants(letter):
                    take(letter)


@app.command(
    "show",
    epilog="Examples: tagstream deadletter show 2/17   tagstream deadletter show tracks.deadletter/2/17 --out bad.json"
    "   tagstream deadletter show --source tracks.probabilities/3/18234/0",
)
def show(
    place: Annotated[
        str | None, typer.Argument(metavar="[TOPIC/]PARTITION/OFFSET", help="The dead letter's own place.")
    ] = None,
    *,
    source: Annotated[
        str | None, typer.Option(metavar="TOPIC/PARTITION/OFFSET/ROW", help="The newest one of this event.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Only the value, byte for byte.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the value, byte for byte, into this new file.")] = None,
    json: JsonFlag = False,
) -> None:
    """One dead letter in full: why, from where, its headers and its value."""
    from ops.deadletter_view import as_json, lines_of

    if (place is None) == (source is None):
        raise OpsError("say which one: its PARTITION/OFFSET, or --source TOPIC/PARTITION/OFFSET/ROW of its event.")
    settings = _settings()
    letter = asyncio.run(_at(settings, place) if place is not None else _of_source(settings, str(source)))
    if raw or out is not None:
        _write_value(letter, out, json)
    elif json:
        emit_json(as_json(letter))
    else:
        stdout_console.print("\n".join(lines_of(letter)), markup=False, soft_wrap=True)


async def _at(settings: "Settings", place: str) -> "Letter":
    from ops.deadletters import Letter
    from ops.kafka_io import read_ranges, topic_ranges

    topic, _, rest = place.rpartition("/")[0].rpartition("/")
    numbers = [rest, place.rpartition("/")[2]]
    if not all(number.isdecimal() and number.isascii() and len(number) < 19 for number in numbers):
        raise OpsError(f"{place!r} is no place: write PARTITION/OFFSET, such as 2/17.")
    if topic not in ("", settings.topic_deadletter):
        raise OpsError(f"the dead letters are in {settings.topic_deadletter}, not in {topic}.")
    partition, offset = map(int, numbers)
    ranges = await topic_ranges(settings, settings.topic_deadletter)
    kept = ranges.get(partition)
    if kept is None:
        raise OpsError(f"{settings.topic_deadletter} has no partition {partition}: its last one is {max(ranges)}.")
    if offset in kept:
        async with aclosing(
            read_ranges(settings, settings.topic_deadletter, {partition: range(offset, offset + 1)})
        ) as records:
            async for record in records:
                return Letter.parse(record)
    there = f"{kept.start} to {kept.stop - 1}" if kept else "none"
    raise OpsError(f"partition {partition} of {settings.topic_deadletter} has no offset {offset}; it has {there}.")


async def _of_source(settings: "Settings", text: str) -> "Letter":
    from ops.deadletters import Selection
    from streamer.core.source import Source

    source = Source.parse(text)
    if source is None:
        raise OpsError(
            f"{text!r} is no source: write TOPIC/PARTITION/OFFSET/ROW, such as tracks.probabilities/3/18234/0."
        )
    found: list[Letter] = []

    def take(letter: "Letter") -> None:
        if letter.source == source and (not found or letter.record.timestamp >= found[0].record.timestamp):
            found[:] = [letter]

    await _each(settings, Selection(source_partition=source.partition), take)
    if not found:
        raise OpsError(f"{settings.topic_deadletter} has no dead letter of {text}.")
    return found[0]


def _write_value(letter: "Letter", out: Path | None, json: bool) -> None:
    value = letter.record.value
    if letter.omitted_bytes is not None:
        raise OpsError(f"{letter.place} came without its value, which fitted no topic; its source is {letter.source}.")
    if value is None:
        raise OpsError(f"the value of {letter.place} is null: there are no bytes to write.")
    if out is None:
        if sys.stdout.isatty() or json:
            raise OpsError("--raw writes bytes: send them to a file (--out FILE) or into a pipe.")
        sys.stdout.buffer.write(value)
        sys.stdout.flush()
        return
    try:
        with out.open("xb") as file:
            file.write(value)
    except FileExistsError:
        raise OpsError(f"{out} exists already: choose another name.") from None
    except OSError as error:
        raise OpsError(f"{out} cannot be written: {error.strerror}.") from None
    if json:
        emit_json({"place": letter.place, "out": str(out), "bytes": len(value)})
    else:
        note(f"{len(value):,} bytes of {letter.place} into {out}")


def utc(at_ms: int) -> str:
    """A moment as people read it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _settings() -> "Settings":
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    quiet_client_logs()
    return load_settings()


app.command("replay", epilog=REPLAY_EPILOG)(replay)
app.command("resume", epilog=RESUME_EPILOG)(resume)
