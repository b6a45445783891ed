"""`tagstream bench swap`: how soon a change of thresholds decides."""

from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar
from ops.errors import OpsError

EPILOG = "Example: tagstream bench swap --swaps 200 --workers 4 --json"
FIGURES = ("p50_ms", "p99_ms", "max_ms")


def swap(
    *,
    swaps: Annotated[int, typer.Option(min=1, max=10_000, help="How many edits.")] = 200,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many workers, each with two partitions.")] = 4,
    rate: Annotated[float, typer.Option(min=1, help="Events per second, all workers together.")] = 2_000,
    json: JsonFlag = False,
) -> None:
    """Time from an edit in Redis to each worker's first decision by it, under load, on a real Kafka and Redis.

    Every decision is then held against its retained scores and the table that it names, and no micro-batch may be
    decided by two.
    """
    from ops.bench.swap import GOAL_MS, LIMIT_MS, run_swap
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    with progress_bar() as bar:
        task = bar.add_task("", total=1)
        report = run_swap(
            swaps, workers, rate,
            lambda title, done, total: bar.update(task, description=title, completed=done, total=total),
        )  # fmt: skip
    if json:
        emit_json(report)
    else:
        columns = ["worker", "p50 ms", "p99 ms", "longest ms"]
        rows = {**report["workers"], "all": report}
        title = f"From an edit in Redis to the first decision by it, {report['swaps']} edits"
        print_table(title, columns, [[name, *(one[k] for k in FIGURES)] for name, one in rows.items()])
    note(f"{report['decisions']:,} decisions, {report['mixed_batches']} mixed batches.")
    note(f"The 99th percentile is to be {GOAL_MS:g} ms, at most {LIMIT_MS:g} ms.")
    note(f"Other work kept {report['environment']['foreign_cores']:g} cores busy.")
    if report["mixed_batches"] or report["unexplained_decisions"] or report["missed"]:
        raise OpsError(
            f"{report['mixed_batches']} mixed batches, {report['unexplained_decisions']} decisions that their table "
            f"does not explain, {report['missed']} tables that a worker never decided by."
        )
