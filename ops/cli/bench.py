"""`tagstream bench`: measurements on real parts. Each checks its outputs, and fails where they are wrong."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ops.cli import bench_redecide, bench_swap, bench_worker
from ops.cli.bench_worker import DEFAULT_OUT, OutOption
from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar

app = typer.Typer(help="Measure on real parts; outputs are checked before figures are told.", no_args_is_help=True)
app.command("worker", epilog="Example: tagstream bench worker --scorer served --workers 2")(bench_worker.worker)
app.command("scale", epilog="Example: tagstream bench scale --lane arrow")(bench_worker.scale)
app.command("stages", epilog="Example: tagstream bench stages --lane arrow")(bench_worker.stages)
app.command("latency", epilog="Example: tagstream bench latency --load 50 --seconds 30")(bench_worker.latency)
app.command("model", epilog="Example: tagstream bench model --scorer served --batch 1024 --device cuda")(
    bench_worker.model
)


class MemoryKind(StrEnum):
    """Which runs of `bench memory`."""

    OVERLOAD = "overload"
    BACKLOG = "backlog"
    BOTH = "both"


@app.command("peers", epilog="Example: tagstream bench peers --system confluent-simdjson --system tagstream-json")
def peers(
    *,
    events: Annotated[int, typer.Option(min=1_000, help="Events in the preloaded topic.")] = 150_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; the median is told.")] = 3,
    system: Annotated[list[str] | None, typer.Option(help="Only these; more than once for several.")] = None,
    out: OutOption = DEFAULT_OUT,
    json: JsonFlag = False,
) -> None:
    """One worker beside every other way to do its job: the same events, weights, core and acks, on a real Kafka.

    Systems far slower or faster than the others get a quarter, or four times, of the events. Those of other projects
    are optional: what is not installed is told. `make bench` installs them and runs all.
    """
    from ops.bench import peers_report
    from ops.bench.compare_peers import choose, run_peers
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    with progress_bar() as bar:
        task = bar.add_task("", total=1)
        report = run_peers(
            choose(system or ()), events, rounds,
            lambda title, done, total: bar.update(task, description=title, completed=done, total=total),
        )  # fmt: skip
    picture = peers_report.save(report, out)
    if json:
        emit_json(report)
    else:
        print_table(peers_report.title(report), peers_report.COLUMNS, peers_report.rows(report))
    for line in peers_report.notes(report):
        note(line)
    note(f"Picture: {picture}")
    if not report["agree"]:
        note("The systems' decisions differ: the figures are void.")
        raise typer.Exit(1)


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


app.command("swap", epilog=bench_swap.EPILOG)(bench_swap.swap)
app.command("redecide", epilog=bench_redecide.EPILOG)(bench_redecide.redecide)
