"""Drift as a picture: when tags moved and by which cause, and for those that moved most what did how much."""

from pathlib import Path
from typing import Any

import numpy as np

from ops.drift import Cause
from ops.drift_report import Report
from ops.errors import OpsError
from streamer.core.outputs import utc_text

COLOURS = {
    Cause.MODEL: "#7a5cc7", Cause.INPUTS: "#e08a2e", Cause.THRESHOLDS: "#3d7fc4", Cause.UNKNOWN: "#888888",
}  # fmt: skip
TAGS_SHOWN = 12
DPI = 110
NAME_CHARACTERS = 30
MARKS_MAX = 8  # moments named along the axis


def draw(report: Report, path: Path) -> None:
    """Write the picture to `path`, in the format of its suffix.

    Raises:
        OpsError: the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(
        2, 1, figsize=(9, 7.2), layout="constrained", gridspec_kw={"height_ratios": [1, 1.7]}
    )
    _over_time(above, report)
    _steps(below, report)
    try:
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise OpsError(f"the picture cannot be written to {path}: {error.strerror}.") from None
    finally:
        pyplot.close(figure)


def _over_time(axes: Any, report: Report) -> None:
    """Tags moved, by cause, window by window."""
    places = np.arange(len(report.windows))
    width = 0.8 / len(COLOURS)
    for number, (cause, colour) in enumerate(COLOURS.items()):
        counts = [report.count(cause, window) for window in places.tolist()]
        if cause is not Cause.UNKNOWN or any(counts):
            drawn = axes.bar(places + (number - 1) * width, counts, width, color=colour, label=f"by the {cause}")
            axes.bar_label(drawn, [str(count) if count else "" for count in counts], fontsize=8)
    every = -(-len(places) // MARKS_MAX)
    starts = [utc_text(window.span[0])[:16].replace("T", "\n") for window in report.windows]
    axes.set_xticks(places[::every], starts[::every], fontsize=8)
    axes.set(ylabel="tags that have moved", title=f"Against the reference of {report.base}; a window begins at")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.15)
    axes.legend(fontsize=8, loc="upper left", frameon=False)


def _steps(axes: Any, report: Report) -> None:
    """The share of tracks with a tag, now beside what the model was made for, and the steps in between."""
    shown = sorted(report.moved or report.now, key=lambda one: -abs(one.decided - one.base))[:TAGS_SHOWN][::-1]
    for place, one in enumerate(shown):
        at = one.base
        for cause, step in (
            (Cause.MODEL, one.by_model),
            (Cause.INPUTS, one.by_inputs),
            (Cause.THRESHOLDS, one.by_thresholds),
        ):
            axes.barh(place, 100 * step, 0.55, left=100 * at, color=COLOURS[cause])
            at += step
        axes.plot([100 * one.base], [place], "|", color="black", markersize=16)
        axes.plot([100 * one.decided], [place], "o", color="black", markersize=4)
    names = [one.tag[:NAME_CHARACTERS].replace("$", r"\$") for one in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    title = "The newest window: from what the model was made for (bar) to now (dot)"
    axes.set(xlabel="tracks with the tag, %", title=title)
    axes.margins(x=0.04)
    axes.set_xlim(left=0)
    axes.grid(axis="x", alpha=0.3)
