"""`tagstream bench`: measurements on real parts. Each checks its outputs, and fails where they are wrong."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar

app = typer.Typer(help="Measure on real parts; outputs are checked before figures are told.", no_args_is_help=True)


class MemoryKind(StrEnum):
    """Which runs of `bench memory`."""

    OVERLOAD = "overload"
    BACKLOG = "backlog"
    BOTH = "both"


@app.command("peers", epilog="Example: tagstream bench peers --events 60000 --rounds 3")
def peers(
    *,
    events: Annotated[int, typer.Option(min=1_000, help="Events in the preloaded topic.")] = 60_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; the median is told.")] = 3,
    json: JsonFlag = False,
) -> None:
    """One worker beside a stock Faust worker: the same events, weights, core and acks, on a real Kafka."""
    from ops.bench.compare_peers import run_peers
    from ops.bench.peers import PEERS
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    with progress_bar() as bar:
        task = bar.add_task("", total=1)
        report = run_peers(
            PEERS, events, rounds,
            lambda title, done, total: bar.update(task, description=title, completed=done, total=total),
        )  # fmt: skip
    if json:
        emit_json(report)
    else:
        _print(report)
    if not report["agree"]:
        note("The systems' decisions differ: the figures are void.")
        raise typer.Exit(1)


def _print(report: dict[str, Any]) -> None:
    environment = report["environment"]
    print_table(
        f"{report['events']:,} JSON events of 2 KB, one process on one core, median of {report['rounds']} rounds",
        ["system", "events/s", "lowest..highest", "CPU us", "ratio", "outputs"],
        [
            [
                name,
                f"{system['events_per_s']:,.0f}",
                _span([run["events_per_s"] for run in system["runs"]]),
                f"{system['cpu_us_per_event']:.1f}",
                f"{system['ratio_to_stock_faust']:.2f}",
                "equal" if system["agree"] else "WRONG",
            ]
            for name, system in report["systems"].items()
        ],
    )
    for name, system in report["systems"].items():
        note(f"{name}: {_agreement_line(system['agreement'])}")
    note(
        f"CPU us is per event, ratio to stock Faust; {environment['cores']} cores, load "
        f"{environment['load_1min_before']:.1f} before and {environment['load_1min_after']:.1f} after; "
        f"{report['seconds']:.0f} s in all."
    )


def _span(values: list[float]) -> str:
    return f"{min(values):,.0f}..{max(values):,.0f}"


def _agreement_line(agreement: dict[str, int]) -> str:
    return (
        f"of {agreement['tags']:,} tags {agreement['tags_differing']:,} differ from the reference and "
        f"{agreement['tags_at_threshold']:,} within one float16 step of the threshold; "
        f"{agreement['missing_tracks']:,} tracks missing, {agreement['unknown_tracks']:,} unknown, "
        f"{agreement['repeated_outputs']:,} outputs repeated"
    )


@app.command(
    "memory", epilog="Example: tagstream bench memory --minutes 10 --backlog-gb 2 --partitions 1 --partitions 16"
)
def memory(
    *,
    kind: Annotated[MemoryKind, typer.Option(help="Which runs.")] = MemoryKind.BOTH,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the overload lasts.")] = 10.0,
    carries: Annotated[float, typer.Option(min=1, help="Tracks/s of the slowed scorer; ten times that is sent.")] = 200,
    backlog_gb: Annotated[float, typer.Option(min=0.01, help="Size of the backlog, GiB of events.")] = 2.0,
    partitions: Annotated[
        list[int] | None, typer.Option(min=1, help="Partitions; more than once for several backlogs. Default: 4.")
    ] = None,
    picture: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("build/bench-memory.png"),
    json: JsonFlag = False,
) -> None:
    """A worker's memory at ten times what its scorer can carry, and while a backlog drains, on a real Kafka."""
    from ops.bench.memory import run_backlog, run_overload
    from ops.bench.memory_report import COLUMNS, draw, table_rows, verdict
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    counts = partitions or [4]
    runs = []
    with progress_bar() as bar:
        task = bar.add_task("", total=1)

        def on_progress(title: str, done: int, total: int) -> None:
            bar.update(task, description=title, completed=done, total=total)

        if kind is not MemoryKind.BACKLOG:
            runs.append(run_overload(minutes, carries, counts[0], on_progress))
        if kind is not MemoryKind.OVERLOAD:
            runs += [run_backlog(backlog_gb, count, on_progress) for count in counts]
    draw(runs, picture)
    if json:
        emit_json({"holds": not any(run.failures for run in runs), "runs": [run.as_report() for run in runs]})
    else:
        print_table("A worker's memory", COLUMNS, table_rows(runs))
    for run in runs:
        note(verdict(run))
    note(f"Picture: {picture}")
    if any(run.failures for run in runs):
        raise typer.Exit(1)
