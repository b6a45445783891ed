"""`tagstream bench redecide`: what a re-decide costs the stream beside it."""

from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar
from ops.errors import OpsError

EPILOG = "Example: tagstream bench redecide --tracks 1000000 --rate 1000 --json"


def redecide(
    *,
    tracks: Annotated[int, typer.Option(min=1000, max=100_000_000, help="Retained tracks to re-decide.")] = 1_000_000,
    workers: Annotated[int, typer.Option(min=1, max=4, help="How many workers share the four partitions.")] = 2,
    rate: Annotated[float, typer.Option(min=1, help="Events per second beside it, all workers together.")] = 1_000,
    seconds: Annotated[float, typer.Option(min=1, help="Without a re-decide, before it and after it, each.")] = 30,
    json: JsonFlag = False,
) -> None:
    """Latency of the live stream and memory of the workers before, while and after a re-decide, on a real Kafka.

    One retained track in a hundred changes; that these are published again, and no other, is checked.
    """
    from ops.bench.redecide import GROWTH_MAX, run_redecide
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    with progress_bar() as bar:
        task = bar.add_task("", total=1)
        report = run_redecide(
            tracks, workers, rate, seconds,
            lambda title, done, total: bar.update(task, description=title, completed=done, total=total),
        )  # fmt: skip
    if json:
        emit_json(report)
    else:
        rows = [[name, *one.values(), report["memory_mib"][name]] for name, one in report["latency"].items()]
        title = f"A re-decide of {report['examined']:,} tracks beside {rate:,.0f} events/s"
        print_table(title, ["", "events", "p50 ms", "p99 ms", "most MiB of a worker"], rows)
    note(f"{report['tracks_per_s']:,} tracks/s examined in {report['seconds']:g} s, {report['changed']:,} changed.")
    note(f"p99 while it ran: {report['growth']:g} times that without; at most {GROWTH_MAX:g}.")
    note(f"Memory: {report['memory_grown_mib']:g} MiB more; at most {report['memory_grown_allowed_mib']:g}.")
    note(f"Other work kept {report['environment']['foreign_cores']:g} cores busy.")
    if not report["holds"]:
        raise OpsError("latency or memory grew by more than is allowed.")
