"""The pictures of a search: its history, its learning curves, what mattered, and each parameter alone.

Knows trials and how to draw them; decides nothing. Every function returns a PNG.
"""

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure  # not pyplot: no global state, no display
from matplotlib.ticker import MaxNLocator, NullFormatter
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState

from model.search_space import Range

WIDTH_INCHES = 9.0
DOTS_PER_INCH = 110
FEW_PER_ROW, MANY_PER_ROW = 3, 4  # slices
EDGE = 0.06  # of a range, left free on both sides
WHISKER = 2.5  # interquartile ranges; a value further out is drawn at the edge, so that the rest can be seen
BLUE, GREY, RED, GOLD = "#2a6fbb", "#b3b9c2", "#c0392b", "#e0a100"


def history(
    trials: Sequence[FrozenTrial], best: FrozenTrial, upstream: float, objective: str, maximises: bool
) -> bytes:
    """The objective by trial, and the best so far; the upstream alone where it is in sight."""
    figure = Figure(figsize=(WIDTH_INCHES, 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    complete = _complete(trials)
    numbers = [trial.number for trial in complete]
    values = np.array([trial.value for trial in complete], dtype=np.float64)
    so_far = np.maximum.accumulate(values) if maximises else np.minimum.accumulate(values)
    limits = _limits(values, maximises)
    _points(axes, numbers, values, limits, color=BLUE, label="completed")
    axes.step([*numbers, trials[-1].number], [*so_far, so_far[-1]], where="post", color=GOLD, label="best so far")
    axes.plot([best.number], best.values, "*", color=GOLD, markersize=15, markeredgecolor="black", label="winner")
    if limits[0] < upstream < limits[1]:
        axes.axhline(upstream, color="black", linewidth=1, linestyle="--", label="upstream alone")
    for state, marker, color, label in (
        (TrialState.PRUNED, "|", GREY, "pruned"),
        (TrialState.FAIL, "x", RED, "failed"),
    ):
        ended = [trial.number for trial in trials if trial.state == state]
        if ended:  # without a value: on the lower edge
            axes.plot(
                ended, [0.02] * len(ended), marker, color=color, transform=axes.get_xaxis_transform(), label=label
            )
    axes.set(xlabel="trial", ylabel=f"{objective}, out of fold", ylim=limits)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, ncols=2)
    return _png(figure)


def curves(trials: Sequence[FrozenTrial], best: FrozenTrial, maximises: bool) -> bytes:
    """The held-out loss of the first fold by epoch: what pruning went by."""
    figure = Figure(figsize=(WIDTH_INCHES, 4.0), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    sign = -1.0 if maximises else 1.0  # losses were reported with the objective's sign
    labelled = set()
    every = []
    for trial in sorted(trials, key=lambda one: one.number == best.number):  # the winner on top
        epochs = sorted(trial.intermediate_values)
        losses = [sign * trial.intermediate_values[epoch] for epoch in epochs]
        if not losses or trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue
        label, color, width = "completed", BLUE, 0.8
        if trial.state == TrialState.PRUNED:
            label, color, width = "pruned", GREY, 0.8
        elif trial.number == best.number:
            label, color, width = f"winner (trial {best.number})", GOLD, 2.5
        axes.plot(epochs, losses, color=color, linewidth=width, label=None if label in labelled else label)
        axes.plot(epochs[-1], losses[-1], ".", color=color, markersize=4)
        labelled.add(label)
        every += losses
    axes.set(xlabel="epoch", ylabel="held-out BCE, first fold", ylim=_limits(np.array(every), maximises=False))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    return _png(figure)


def importances(found: dict[str, float]) -> bytes:
    """Bars, the most important on top."""
    figure = Figure(figsize=(WIDTH_INCHES, 0.8 + 0.27 * len(found)), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    names, shares = list(found)[::-1], list(found.values())[::-1]
    bars = axes.barh(names, shares, color=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set(xlabel="share of importance", xlim=(0, max(shares) * 1.1))
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def slices(
    trials: Sequence[FrozenTrial],
    best: FrozenTrial,
    ranges: dict[str, Range],
    objective: str,
    maximises: bool,
) -> bytes:
    """The objective against each parameter alone; later trials are darker."""
    complete = _complete(trials)
    columns = FEW_PER_ROW if len(ranges) <= 2 * FEW_PER_ROW else MANY_PER_ROW
    rows = math.ceil(len(ranges) / columns)
    figure = Figure(figsize=(WIDTH_INCHES, 0.4 + 2.1 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    values = np.array([trial.value for trial in complete], dtype=np.float64)
    limits = _limits(values, maximises)
    ages = np.array([trial.number for trial in complete])
    shades = {"c": ages, "cmap": "Blues", "vmin": -0.5 * ages.max() - 1, "vmax": ages.max(), "s": 16}
    for axes in grid.flat[len(ranges) :]:
        axes.set_visible(False)
    for axes, (name, distribution) in zip(grid.flat, ranges.items(), strict=False):
        _points(axes, [trial.params[name] for trial in complete], values, limits, **shades)
        axes.plot([best.params[name]], best.values, "*", color=GOLD, markersize=12, markeredgecolor="black")
        axes.set_ylim(limits)
        _show_range(axes, distribution)
        axes.set_xlabel(name, fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supylabel(f"{objective}, out of fold", fontsize=9)
    return _png(figure)


def _show_range(axes: Axes, distribution: Range) -> None:
    """The whole range that was searched, so that a winner at its edge is seen to be there."""
    low, high = float(distribution.low), float(distribution.high)
    if distribution.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low / (high / low) ** EDGE, high * (high / low) ** EDGE)
    else:
        axes.set_xlim(low - EDGE * (high - low), high + EDGE * (high - low))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=isinstance(distribution, IntDistribution)))


def _complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def _points(axes: Axes, places: Sequence[float], values: np.ndarray, limits: tuple[float, float], **style) -> None:
    """Dots; what lies beyond the limits is a triangle on the edge."""
    inside = (values >= limits[0]) & (values <= limits[1])
    axes.scatter(places, np.where(inside, values, np.nan), **style)
    style.pop("label", None)
    margin = 0.03 * (limits[1] - limits[0])
    for outside, marker, edge in (
        (values < limits[0], "v", limits[0] + margin),
        (values > limits[1], "^", limits[1] - margin),
    ):
        if outside.any():
            axes.scatter(places, np.where(outside, edge, np.nan), marker=marker, **style)


def _limits(values: np.ndarray, maximises: bool) -> tuple[float, float]:
    """Of the axis: the good end whole, the bad end no further than the whisker."""
    values = values[np.isfinite(values)]
    low, lower, upper, high = np.quantile(values, (0.0, 0.25, 0.75, 1.0))
    reach = WHISKER * (upper - lower)
    if maximises:
        low = max(low, lower - reach)
    else:
        high = min(high, upper + reach)
    margin = 0.08 * (high - low) or 0.01 * abs(high) or 0.01
    return float(low - margin), float(high + margin)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
