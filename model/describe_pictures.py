"""Pictures of a data set, as PNG: what its tags and its upstream look like.

Knows figures of `model.catalogue_figures` and how to draw them; measures nothing that a table needs.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.catalogue_figures import Figures, components, correlation, to_logits
from model.dataset import Dataset
from model.vocabulary import CLASSES

DOTS_PER_INCH = 100
COLOURS = dict(zip(CLASSES, ("#2a6f97", "#c1666b", "#6a994e"), strict=True))
NAMED = 20  # most frequent tags of a class that are named
SHOWN_COMPONENTS = 20


def pictures(dataset: Dataset, figures: Figures) -> dict[str, bytes]:
    """PNG files by name, those that this data set can give, in the order to show them."""
    shown = {"components.png": _components(dataset)}
    if dataset.labels is None:
        return shown
    return {
        "frequencies.png": _frequencies(figures),
        "tags-per-track.png": _tags_per_track(dataset, dataset.labels),
        "correlation.png": _correlation(dataset, dataset.labels),
        "reliability.png": _reliability(figures),
        **shown,
    }


def _frequencies(figures: Figures) -> bytes:
    """A row of curves over all tags, and below the most frequent ones by name."""
    from matplotlib.ticker import LogLocator, NullFormatter

    classes = list(figures["classes"])
    figure = _figure(4.4 * len(classes), 7.0)
    grid = figure.subplots(2, len(classes), squeeze=False, height_ratios=(1, 1.7))
    for column, name in enumerate(classes):
        mine = sorted((row for row in figures["tags"] if row["class"] == name), key=lambda row: -row["frequency"])
        share = np.array([row["frequency"] for row in mine]) * 100
        curve, bars = grid[0, column], grid[1, column]
        curve.plot(np.arange(1, len(share) + 1), np.where(share > 0, share, np.nan), color=COLOURS[name], marker=".")
        curve.set(yscale="log", xlabel="rank", title=f"{name}: {len(mine)} tags, Gini {_gini(figures, name)}")
        curve.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        curve.yaxis.set_major_formatter("{x:g}")
        curve.yaxis.set_minor_formatter(NullFormatter())
        curve.grid(alpha=0.3)
        named = mine[:NAMED]
        bars.barh([row["tag"] for row in named], share[: len(named)], color=COLOURS[name])
        bars.invert_yaxis()
        bars.set(xlabel="% of tracks")
        bars.tick_params(axis="y", labelsize=8)
        bars.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("% of tracks")
    return _png(figure)


def _gini(figures: Figures, name: str) -> str:
    return f"{figures['classes'][name]['gini']:.2f}"


def _tags_per_track(dataset: Dataset, labels: NDArray) -> bytes:
    """How many tags tracks have: of each class, and in all."""
    figure = _figure(8, 3.6)
    axes = figure.subplots()
    tag_class = np.array(dataset.vocabulary.tag_class)
    counts = {name: labels[:, tag_class == index].sum(axis=1) for index, name in enumerate(CLASSES)}
    counts = {name: count for name, count in counts.items() if dataset.vocabulary.classes[name]["tags"]}
    styles = {name: {"color": COLOURS[name]} for name in counts}
    if len(counts) > 1:
        counts["all"], styles["all"] = labels.sum(axis=1), {"color": "#333333", "linestyle": "--"}
    for name, count in counts.items():
        share = np.bincount(count) / len(count)
        axes.plot(share * 100, label=f"{name}, mean {count.mean():.1f}", marker=".", **styles[name])
    axes.set(xlabel="tags of a track", ylabel="% of tracks", title="Tags per track", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return _png(figure)


def _correlation(dataset: Dataset, labels: NDArray) -> bytes:
    """Phi of all pairs; within a class, tags that go together stand together."""
    phi = np.nan_to_num(correlation(labels))
    np.fill_diagonal(phi, 0.0)  # a diagonal of ones would be all one sees
    tag_class = np.array(dataset.vocabulary.tag_class)
    blocks = [mine for mine in (np.flatnonzero(tag_class == index) for index in range(len(CLASSES))) if len(mine)]
    order = np.concatenate([mine[side_by_side(phi[np.ix_(mine, mine)])] for mine in blocks])
    limit = float(np.quantile(np.abs(phi), 0.998)) or 1.0
    figure = _figure(7.6, 6.6)
    axes = figure.subplots()
    image = axes.imshow(phi[np.ix_(order, order)], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    edges = np.cumsum([len(mine) for mine in blocks])
    for edge in edges[:-1]:
        axes.axhline(edge - 0.5, color="black", linewidth=0.8)
        axes.axvline(edge - 0.5, color="black", linewidth=0.8)
    middles = edges - np.array([len(mine) for mine in blocks]) / 2 - 0.5
    names = [CLASSES[tag_class[mine[0]]] for mine in blocks]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names, rotation=90, va="center")
    axes.tick_params(length=0)
    axes.set_title("Which tags come together (phi)")
    figure.colorbar(image, ax=axes, shrink=0.8, extend="both")
    return _png(figure)


def side_by_side(phi: NDArray[np.float64]) -> NDArray[np.intp]:
    """An order in which each tag is followed by the one, of those left, that goes with it best."""
    left = set(range(len(phi)))
    at = int(np.argmax(np.abs(phi).sum(axis=0)))
    order = [at]
    left.remove(at)
    while left:
        at = max(left, key=lambda tag, last=order[-1]: (phi[last, tag], -tag))  # type: ignore[misc]
        order.append(at)
        left.remove(at)
    return np.array(order, dtype=np.intp)


def _reliability(figures: Figures) -> bytes:
    """What the upstream says against what is labelled, and how often it says it."""
    figure = _figure(6.4, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    upper.plot((0, 1), (0, 1), color="#999999", linestyle="--", linewidth=1, label="calibrated")
    for name, of_class in figures["classes"].items():
        bins = of_class["reliability"]
        said, seen, cells = (np.array([row[key] for row in bins]) for key in ("said", "seen", "cells"))
        upper.plot(said, seen, marker="o", markersize=4, color=COLOURS[name], label=name)
        lower.plot(said, cells / cells.sum(), marker=".", color=COLOURS[name])
    hot = figures["upstream"]["over_confidence"]
    told = "" if hot is None else f", logits too high by {hot:.2f} on average"
    upper.set(ylabel="share labelled", xlim=(0, 1), ylim=(0, 1), title=f"Upstream's reliability{told}")
    upper.legend(fontsize=8, frameon=False)
    lower.set(yscale="log", xlabel="probability that the upstream gives", ylabel="share of cells")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return _png(figure)


def _components(dataset: Dataset) -> bytes:
    """How much of the upstream's logits few directions hold: a network's are of low rank."""
    figure = _figure(8, 3.6)
    axes = figure.subplots()
    logits = to_logits(dataset.probabilities)
    for name in CLASSES:
        columns = dataset.vocabulary.columns_of(name)
        shares = components(logits[:, columns])[:SHOWN_COMPONENTS] if columns else np.zeros(0)
        if len(shares):
            ranks = np.arange(1, len(shares) + 1)
            axes.plot(ranks, np.cumsum(shares) * 100, marker=".", color=COLOURS[name], label=name)
    axes.set(xlabel="principal components", ylabel="% of variance", ylim=(0, 102))
    axes.set_title("Upstream's logits: variance that the first components hold")
    axes.set_xticks(range(1, SHOWN_COMPONENTS + 1))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False)
    return _png(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
