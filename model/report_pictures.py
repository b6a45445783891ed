"""The report's pictures, as SVG text to be put into a page.

Text and axes take the page's own colour (`currentColor`), so that a picture is legible on light and on dark. No name
from a vocabulary is ever drawn: names stand in the page, where they are escaped, and matplotlib would read `$` in
them as mathematics. Knows figures and matplotlib; knows nothing of HTML.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.curves import EDGES, Curves, TagFigures
from model.evidence import Reliability
from model.fit import Fit
from model.thresholds import number

WIDE, SMALL = (9.0, 3.8), (6.4, 2.3)  # inches
PAGE_INK = "#010203"  # stands for the page's colour until the SVG is text
COLOURS = {"genres": "#4a90d9", "instruments": "#e08a2e", "moods": "#45a868"}
OURS, OTHER = "#4a90d9", "#e08a2e"
SAME_F1 = (0.2, 0.4, 0.6, 0.8)  # lines of equal F1 behind a precision-recall curve
SCORE_MARKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99)
SHARE_MARKS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
FEW_RECALLED = 0.05
SIDE, FOOT, HEAD = 0.75, 0.5, 0.3  # inches around the axes, for labels
LIGHT = 0.25  # opacity of what stands behind


def learning_curves(fits: Mapping[str, Fit]) -> str:
    """Training (dashed) and held-out losses of every fit."""

    def draw(axes: Any) -> None:
        for name, fit in fits.items():
            epochs = range(1, len(fit.train_losses) + 1)
            line = axes.plot(epochs, fit.train_losses, "--", linewidth=1, label=name)[0]
            if fit.held_losses:
                best = fit.best_epoch
                line.set_label(f"_{name}")  # matplotlib leaves such labels out of the legend
                axes.plot(epochs, fit.held_losses, color=line.get_color(), label=name)
                axes.plot([best], [fit.held_losses[best - 1]], "o", color=line.get_color(), markersize=5)
        axes.set(xlabel="epoch", ylabel="binary cross-entropy")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8, loc="upper right")

    return _svg("learning", WIDE, draw)


def f1_by_frequency(curves: Curves, classes: Sequence[str]) -> str:
    """F1 and its interval of each tag over how often it is labelled; `classes` `[T]` names each tag's class."""
    tags = list(curves.tags.values())
    frequency = np.array([tag.support for tag in tags]) / max(curves.tracks, 1)
    ends = np.array([(tag.f1_low, tag.f1, tag.f1_high) for tag in tags])  # [T, 3]

    def draw(axes: Any) -> None:
        for name, colour in COLOURS.items():
            mine = (np.array(classes) == name) & (frequency > 0)
            if mine.any():
                axes.vlines(frequency[mine], ends[mine, 0], ends[mine, 2], color=colour, alpha=LIGHT, linewidth=1.5)
                axes.scatter(frequency[mine], ends[mine, 1], s=14, color=colour, label=name)
        axes.set(xscale="log", xlabel="share of tracks with the tag", ylabel="F1", ylim=(-0.02, 1.02))
        _mark(axes.xaxis, [mark for mark in SHARE_MARKS if frequency.min() <= mark <= frequency.max()], "{:g}")
        if frequency.any():
            axes.legend(fontsize=9)

    return _svg("frequency", WIDE, draw)


def reliability(diagrams: Mapping[str, Reliability]) -> str:
    """How often a tag is there, over how sure it was said to be; both axes as log odds, where most scores lie."""

    def draw(axes: Any) -> None:
        ends = np.array([1e-4, 1 - 1e-3])
        axes.plot(ends, ends, color=PAGE_INK, alpha=0.5, linewidth=1, linestyle=":", label="as often as said")
        for (name, diagram), colour in zip(diagrams.items(), (OURS, OTHER), strict=False):
            shown = (diagram.seen > 0) & (diagram.seen < 1) & (diagram.said < ends[1])  # 0 and 1 have no log odds
            axes.plot(diagram.said[shown], diagram.seen[shown], "o-", color=colour, markersize=4, label=name)
        axes.set(xscale="logit", yscale="logit", xlim=ends, ylim=ends, xlabel="score", ylabel="share that has the tag")
        for axis in (axes.xaxis, axes.yaxis):
            _mark(axis, SCORE_MARKS, "{:g}")
        axes.legend(fontsize=9)

    return _svg("reliability", (6.4, 4.6), draw)


def score_histograms(curves: Curves, classes: Sequence[str]) -> str:
    """All scores of each class, and those of tags that the track has, on a logarithmic scale."""
    present = [name for name in COLOURS if name in classes]
    counts = np.stack([(tag.histogram, tag.histogram_positive) for tag in curves.tags.values()])  # [T, 2, bins]
    sums = {name: counts[np.array(classes) == name].sum(axis=0) for name in present}

    def draw(*panels: Any) -> None:
        for axes, name in zip(panels, present, strict=True):
            _histogram(axes, sums[name][0], sums[name][1], COLOURS[name])
            axes.set_title(name)
        panels[0].set_ylabel("cells")

    return _svg("scores", (9.0, 2.8), draw, panels=len(present))


def tag_panel(tag: TagFigures, colour: str) -> str:
    """Precision over recall with the chosen point, beside the scores of the tag with its threshold."""
    curve = tag.curve
    kept = curve.decided > 0
    precision, recall = curve.hits[kept] / curve.decided[kept], curve.hits[kept] / max(curve.support, 1)
    chosen, threshold = curve.at(tag.threshold), number(tag.threshold)

    def draw(left: Any, right: Any) -> None:
        for f1 in SAME_F1:
            across = np.linspace(f1 / (2 - f1), 1, 60)  # from where the precision would be 1
            left.plot(across, f1 * across / (2 * across - f1), color=PAGE_INK, alpha=0.15, linewidth=0.8)
        left.plot(recall, precision, color=colour, linewidth=1.5)
        if chosen.share > 0:
            left.plot([chosen.recall], [chosen.precision], "o", color=PAGE_INK, markersize=7, fillstyle="none")
        few = recall <= FEW_RECALLED  # their precision says little, and would hide the rest
        top = max(*precision[~few], chosen.precision, 0.0)
        left.set(xlim=(0, 1.02), ylim=(0, min(1.25 * top + 0.01, 1.02)), xlabel="recall", ylabel="precision")
        _histogram(right, tag.histogram, tag.histogram_positive, colour)
        right.set_ylabel("tracks")
        if np.isfinite(threshold):
            right.axvline(_place(threshold), color=PAGE_INK, linewidth=1.2)

    return _svg("tag", SMALL, draw, panels=2)


def _histogram(axes: Any, every: NDArray, positive: NDArray, colour: str) -> None:
    """Counts between the EDGES, drawn over the log odds of the score; zero counts stand at the foot."""
    edges = np.array([_place(edge) for edge in EDGES])
    axes.stairs(np.maximum(every, 0.5), edges, fill=True, color=PAGE_INK, alpha=LIGHT, baseline=0.5)
    axes.stairs(np.maximum(positive, 0.5), edges, color=colour, linewidth=1.5, baseline=0.5)
    axes.set(xlabel="score", xlim=(edges[0], edges[-1]), yscale="log", ylim=(0.5, max(every.max(), 1) * 2))
    axes.set_xticks([_place(mark) for mark in SCORE_MARKS[1:]], [f"{mark:g}" for mark in SCORE_MARKS[1:]])
    _mark(axes.yaxis, [10**power for power in range(9) if 10**power <= axes.get_ylim()[1]], "{:,}")


def _mark(axis: Any, marks: Sequence[float], form: str) -> None:
    """Marks where we say, in plain numbers: matplotlib would set powers of ten as mathematics, which takes seconds."""
    axis.set_ticks(marks, [form.format(mark) for mark in marks])
    axis.set_ticks([], minor=True)


def _place(score: float) -> float:
    """Where a score stands on the axis of the histograms: its log odds, the open ends one bin further."""
    clipped = min(max(score, EDGES[1] / 2), (1 + EDGES[-2]) / 2)
    return float(np.log(clipped / (1 - clipped)))


def _margins(width: float, height: float, panels: int) -> dict[str, float]:
    """Room for labels, in shares of the picture; matplotlib's own layouts measure every text, which takes seconds."""
    panel = (width - SIDE - 0.1) / panels - SIDE * (panels - 1) / panels  # inches
    return {
        "left": SIDE / width,
        "right": 1 - 0.1 / width,
        "bottom": FOOT / height,
        "top": 1 - HEAD / height,
        "wspace": SIDE / panel,
    }


def _svg(name: str, inches: tuple[float, float], draw: Callable[..., None], panels: int = 1) -> str:
    """One picture, drawn on as many axes side by side as there are panels; the same input gives the same text."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    colours = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), PAGE_INK)
    look: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9, "axes.spines.top": False}
    look |= {"axes.spines.right": False, "legend.frameon": False, "axes.titlesize": 10, **colours}
    with matplotlib.rc_context(look):
        figure = Figure(figsize=inches)
        FigureCanvasSVG(figure)
        axes = np.atleast_1d(figure.subplots(1, panels, gridspec_kw=_margins(*inches, panels)))
        draw(*axes)
        for one in axes:
            one.grid(alpha=0.15, color=PAGE_INK, linewidth=0.6)
            one.patch.set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :].replace(PAGE_INK, "currentColor")
