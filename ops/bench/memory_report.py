"""What `bench memory` tells: a table, the verdicts, and a picture of memory and lag over time."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ops.bench.memory import MemoryRun

COLUMNS = ["run", "partitions", "events", "idle MiB", "most MiB", "bound MiB", "slope MiB/h", "most lag", "drained s"]


def table_rows(runs: Sequence[MemoryRun]) -> list[list[str]]:
    """One row per run, in the order of COLUMNS."""
    rows = []
    for run in runs:
        figures = run.figures
        rows.append(
            [
                run.name,
                str(run.partitions),
                f"{figures['events']:,}",
                f"{figures['idle_mib']:.0f}",
                f"{figures['max_mib']:.0f}",
                f"{figures['idle_mib'] + figures['bound_above_idle_mib']:.0f}",
                f"{figures['trend']['slope_per_h']:+.1f}",
                f"{max(sample.lag for sample in run.samples):,}",
                f"{figures['drained_in_s']:.0f}",
            ]
        )
    return rows


def verdict(run: MemoryRun) -> str:
    """One sentence."""
    trend, name = run.figures["trend"], f"{run.name}, {run.partitions} partition{'s' * (run.partitions > 1)}"
    if run.failures:
        return f"{name}: FAILED: {'; '.join(run.failures)}."
    return (
        f"{name}: flat ({trend['rise']:+.1f} MiB in {trend['seconds']:.0f} s after the warm-up, {trend['allowed']:.1f} "
        f"allowed), {run.figures['outputs']:,} of {run.figures['events']:,} decided once, no rebalance."
    )


def draw(runs: Sequence[MemoryRun], path: Path) -> None:
    """A panel per run: resident set on the left axis, lag on the right, the stated bound as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(runs), 1, figsize=(9, 3.2 * len(runs)), squeeze=False, layout="constrained")
    for run, left in zip(runs, axes[:, 0], strict=True):
        bound = run.figures["idle_mib"] + run.figures["bound_above_idle_mib"]
        left.axhline(bound, color="tab:blue", linestyle=":", label=f"stated bound, {bound:.0f} MiB")
        left.set_ylim(0, bound * 1.1)
        left.set_ylabel("resident set, MiB", color="tab:blue")
        left.set_xlabel("seconds")
        left.legend(loc="lower right")
        right = left.twinx()
        for _, phase in groupby(run.samples, key=lambda sample: sample.phase):  # between two there may be no worker
            seen = list(phase)
            at_s = [sample.at_s for sample in seen]
            left.plot(at_s, [sample.rss_mib for sample in seen], color="tab:blue", linewidth=1.5)
            right.plot(at_s, [sample.lag for sample in seen], color="tab:orange", linewidth=1)
        right.set_ylim(bottom=0)
        right.set_ylabel("lag, events", color="tab:orange")
        for before, after in zip(run.samples, run.samples[1:], strict=False):
            if before.phase != after.phase:
                left.axvline(after.at_s, color="gray", linewidth=0.8)
                left.text(after.at_s, bound * 1.03, f" {after.phase}", color="gray", fontsize=8)
        left.set_title(f"{run.name}, {run.partitions} partition{'s' * (run.partitions > 1)}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
