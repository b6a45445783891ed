"""`tagstream deadletter replay`: the plan, a question, and the sending."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.deadletter_options import (
    AttemptMaxOption,
    CodeOption,
    FieldOption,
    KeyOption,
    SourcePartitionOption,
    UntilOption,
    WorkerOption,
    selection_of,
)  # fmt: skip
from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar, stdout_console
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.deadletter_send import Outcome, Prepared
    from streamer.settings import Settings

EPILOG = (
    "Examples: tagstream deadletter replay --dry-run"
    "   tagstream deadletter replay --code fingerprint-mismatch --since 2h --rate 200 --yes"
)
DEFAULT_RATE_PER_S = 500.0
DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_SINCE = "7d"  # as long as Kafka remembers what was replayed: see ops/deadletter_replay.py
INTERRUPTED_EXIT_CODE = 130
WHY_NOT = {
    "replayed-before": "replayed before (--again sends them once more)",
    "max-attempts": "tried {max_attempts} times or more (--max-attempts)",
    "value-omitted": "without their value, which fitted no topic: their source has it",
    "no-source": "without a header that says where they came from",
    "other-topic": "from another topic than {to}, or a partition that it has not",
    "same-source": "of an event that another letter is of too",
    "over-limit": "over the --limit",
}


def replay(
    *,
    code: CodeOption = None,
    field: FieldOption = None,
    since: Annotated[
        str, typer.Option("--since", help="Only from then on: 2h, 7d (ago) or 2026-11-22T09:45Z.")
    ] = DEFAULT_SINCE,
    until: UntilOption = None,
    source_partition: SourcePartitionOption = None,
    key: KeyOption = None,
    worker: WorkerOption = None,
    attempt_max: AttemptMaxOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")] = None,
    rate: Annotated[float, typer.Option(min=0.001, help="At most so many a second.")] = DEFAULT_RATE_PER_S,
    max_attempts: Annotated[
        int, typer.Option(min=2, help="Leave out what has been tried so often.")
    ] = DEFAULT_MAX_ATTEMPTS,
    again: Annotated[bool, typer.Option("--again", help="Also what was replayed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be replayed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonFlag = False,
) -> None:
    """Send dead letters to the input topic again, once what made them is mended.

    Key, value and headers are the event's own, the partition the one it came from. What was replayed is not replayed
    again, and a replay that was ended goes on where it stopped. Mind the order: a replayed event is its track's newest.
    """
    from ops.deadletter_replay import Rules
    from ops.deadletter_send import make_plan
    from ops.deadletter_send import replay as send
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    selection = selection_of(code, field, since, until, source_partition, key, worker, attempt_max)
    if not (dry_run or yes or sys.stdin.isatty()):
        raise OpsError("there is no terminal to ask on: say --yes to replay, or --dry-run to see what would be.")
    quiet_client_logs()
    settings = load_settings()
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        prepared = asyncio.run(
            make_plan(
                settings, selection, Rules(max_attempts, again, limit),
                lambda done, total: bar.update(task, completed=done, total=total),
            )
        )  # fmt: skip
    report = _plan_json(settings, prepared, dry_run)
    if not json:
        _print_plan(settings, prepared, report, rate, max_attempts, since)
    total = prepared.chosen.total
    if dry_run or not total:
        if json:
            emit_json(report)
        return
    if not yes:
        typer.confirm(f"Replay {total:,} dead letters?", abort=True, err=True)
    with progress_bar() as bar:
        task = bar.add_task(f"replaying, at most {rate:g}/s", total=total)
        outcome = asyncio.run(send(settings, prepared, rate, lambda sent: bar.update(task, completed=sent)))
    _tell(report, total, outcome, json)


def _plan_json(settings: "Settings", prepared: "Prepared", dry_run: bool) -> dict[str, Any]:
    from ops.deadletter_send import replay_group

    return {
        "topic": settings.topic_deadletter,
        "to": prepared.target.topic,
        "group": replay_group(settings),
        "dry_run": dry_run,
        "chosen": prepared.chosen.total,
        "codes": prepared.chosen.codes,
        "skipped": {str(why): count for why, count in prepared.skipped.items()},
        "older": prepared.older,
        "sent": 0,
        "too_large": 0,
        "unread": 0,
        "interrupted": False,
        "seconds": 0.0,
        "per_s": 0.0,
    }


def _print_plan(
    settings: "Settings", prepared: "Prepared", report: dict[str, Any], rate: float, max_attempts: int, since: str
) -> None:
    from ops.cli.deadletter import utc
    from ops.kafka_view import printable

    chosen = prepared.chosen
    stdout_console.print(
        f"{chosen.total:,} dead letters of {report['topic']} to {report['to']}", markup=False, soft_wrap=True
    )
    if chosen.total:
        rows = [
            [printable(name), code["count"], utc(code["first_ms"]), utc(code["last_ms"])]
            for name, code in sorted(chosen.codes.items(), key=lambda item: -item[1]["count"])
        ]
        print_table("", ["code", "letters", "first seen", "last seen"], rows)
        note(
            f"Each goes to the partition it came from, at most {rate:g} a second: "
            f"{_duration(chosen.total / rate)} or more."
        )
    for why, count in report["skipped"].items():
        note(f"left out: {count:,} {WHY_NOT[why].format(max_attempts=max_attempts, to=report['to'])}")
    if prepared.older:
        note(f"left out: {prepared.older:,} from before --since {since}")
    if prepared.forgotten:
        partitions = ", ".join(map(str, prepared.forgotten))
        note(
            f"What the group {report['group']} remembers of partitions {partitions} is not of this topic: "
            "it is not heeded."
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _tell(report: dict[str, Any], total: int, outcome: "Outcome", json: bool) -> None:
    left = total - outcome.sent - outcome.too_large
    unread = 0 if outcome.interrupted or outcome.failure else left
    report |= {
        "sent": outcome.sent, "too_large": outcome.too_large, "unread": unread, "interrupted": outcome.interrupted,
        "seconds": outcome.seconds, "per_s": outcome.sent / outcome.seconds if outcome.seconds else 0.0,
    }  # fmt: skip
    if json:
        emit_json(report)
    else:
        stdout_console.print(
            f"{outcome.sent:,} of {total:,} replayed in {outcome.seconds:.1f} s ({report['per_s']:,.0f}/s)",
            markup=False,
        )
    how_on = "the same command, without --again, goes on from there"
    if outcome.failure is not None:
        raise OpsError(
            f"Kafka refused a replayed event ({type(outcome.failure).__name__}: {outcome.failure}) after "
            f"{outcome.sent:,} of {total:,}; {how_on}."
        )
    if outcome.interrupted and left:
        note(f"Interrupted after {outcome.sent:,} of {total:,}; {how_on}.")
        raise typer.Exit(INTERRUPTED_EXIT_CODE)
    if outcome.too_large or unread:
        raise OpsError(
            f"not replayed: {outcome.too_large:,} larger than {report['to']} takes (max.message.bytes), {unread:,} "
            "that could not be read; see `tagstream deadletter list`."
        )
