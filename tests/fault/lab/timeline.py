"""A run as a picture: what came in and went out each second, how far the commits were behind, and which fault when."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.fault.lab.nemesis import Happened
from tests.fault.lab.watch import Watch
from tests.fault.lab.world import Exit

INK, IN, OUT, LAG, FAULT, RESTART = "#333333", "#9aa5b1", "#1f6fb2", "#b5651d", "#c0392b", "#444444"
TOUCHES_SHOWN = 0.4  # seconds: the least width of a bar


def draw(
    path: Path, title: str, began_ms: float, watch: Watch, happened: Sequence[Happened], exits: Sequence[Exit]
) -> None:
    """Write the PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    done = [one for one in happened if one.injected_ms]
    names = list(dict.fromkeys(one.name for one in done))
    figure, (rate, lag, bars) = pyplot.subplots(
        3, 1, sharex=True, figsize=(15, 6 + 0.24 * max(4, len(names))), layout="constrained",
        height_ratios=[2.5, 1.5, 0.24 * max(4, len(names))],
    )  # fmt: skip
    figure.suptitle(title, color=INK)
    produced, decided, behind = _curves(began_ms, watch)
    rate.plot(*produced, color=IN, label="produced", linewidth=1.2)
    rate.plot(*decided, color=OUT, label="decided or dead-lettered", linewidth=1.2)
    rate.set_ylabel("events/s")
    rate.legend(loc="upper left", fontsize=8)
    lag.plot(*behind, color=LAG, linewidth=1.2)
    lag.set_ylabel("not committed")
    for one in exits:
        for axis in (rate, lag):
            style = ":" if one.asked else "-"
            axis.axvline((one.at_ms - began_ms) / 1000, color=RESTART, linestyle=style, linewidth=0.7, alpha=0.6)
    for one in done:
        start_s, end_s = (one.injected_ms - began_ms) / 1000, (one.healed_ms - began_ms) / 1000
        bars.barh(names.index(one.name), max(TOUCHES_SHOWN, end_s - start_s), left=start_s, color=FAULT, alpha=0.75)
        for axis in (rate, lag):
            axis.axvspan(start_s, max(end_s, start_s + TOUCHES_SHOWN), color=FAULT, alpha=0.08, linewidth=0)
    bars.set_yticks(range(len(names)), names, fontsize=8)
    bars.invert_yaxis()
    bars.set_xlabel("seconds; vertical lines: a worker's process ended (dotted: by a fault, solid: by itself)")
    for axis in (rate, lag, bars):
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    rate.set_ylim(bottom=0)
    lag.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


Curve = tuple[list[float], list[float]]


def _curves(began_ms: float, watch: Watch) -> tuple[Curve, Curve, Curve]:
    """Produced and decided per second, and what was produced but not committed when a commit was seen."""
    inputs = list(watch.inputs.values())
    produced = Counter(int((seen.at_ms - began_ms) // 1000) for seen in inputs)
    decided = Counter(int((seen.done_ms - began_ms) // 1000) for seen in inputs if seen.done_ms)
    last = max([*produced, *decided], default=0)
    seconds = [float(second) for second in range(last + 1)]
    by_time = sorted(seen.at_ms for seen in inputs)
    behind: Curve = [], []
    sent = 0
    for at_ms, committed in watch.commits:
        while sent < len(by_time) and by_time[sent] <= at_ms:
            sent += 1
        behind[0].append((at_ms - began_ms) / 1000)
        behind[1].append(max(0, sent - committed))
    per_second = [[float(counts[int(second)]) for second in seconds] for counts in (produced, decided)]
    return (seconds, per_second[0]), (seconds, per_second[1]), behind
