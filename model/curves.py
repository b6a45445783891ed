"""What is known of each tag, kept in the artefact: how good its threshold is, and what any other would have done.

All of it is out of fold: scores of networks that saw none of the artist's tracks. Precision, recall and F1 are
cross-fitted on top of that (each fold decided by thresholds of the other folds), because a threshold flatters itself
on the tracks it was tuned on; the curve is of the tuned scores themselves, so compare curve with curve. Counts are
stored, not ratios: they interpolate without falling out of step with each other. Also the histograms of scores and of
upstream's probabilities, the reference for drift. Knows one file, `curves.json`; draws nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import manifest as manifests
from model.errors import ModelError
from model.intervals import LEVEL, Intervals, f1_intervals
from model.objective import f_beta
from model.thresholds import DECIMALS, OFF, Threshold, number

CURVES = "curves.json"
FORMAT = 1
CURVES_BYTES_MAX = 16 * 2**20
POINTS_PER_SCALE = 30  # of a curve: evenly over the hits, over the tracks decided, and over the latter's logarithm
POINTS_MAX = 1024  # of a curve that is read
LOGIT_CLIP = 1e-6  # thresholds below differ by nothing anybody could set
EDGES = np.concatenate([[0.0], 1 / (1 + np.exp(-np.linspace(-8, 8, 31))), [1.0]]).round(DECIMALS)  # of the histograms


@dataclass(frozen=True)
class Point:
    """What a threshold does: rates of one tag, `share` being the share of all tracks that get it."""

    precision: float
    recall: float
    f1: float
    share: float


@dataclass(frozen=True)
class Curve:
    """How many tracks a threshold decides, and how many of them rightly, at `thresholds` `[K]` from 0 to 1."""

    thresholds: NDArray[np.float64]
    decided: NDArray[np.int64]
    hits: NDArray[np.int64]
    tracks: int
    support: int  # tracks with the tag

    def at(self, threshold: Threshold) -> Point:
        """What this threshold (or `off`) does; between two points by interpolation of the counts over the logit.

        Raises:
            ValueError: where it is no threshold.
        """
        at = number(threshold)
        if not np.isfinite(at):
            return Point(0.0, 0.0, 0.0, 0.0)
        place, places = _logit(at), _logit(self.thresholds)
        decided = float(np.interp(place, places, self.decided))
        hits = float(np.interp(place, places, self.hits))
        return Point(
            precision=hits / max(decided, 1e-12),
            recall=hits / max(self.support, 1),
            f1=float(f_beta(hits, decided, self.support)),
            share=decided / max(self.tracks, 1),
        )


@dataclass(frozen=True)
class TagFigures:
    """One tag: its threshold, what that is worth out of fold, and the means to preview another."""

    threshold: Threshold
    support: int  # tracks with the tag
    precision: float  # 0 where nothing was decided
    recall: float
    f1: float
    f1_low: float
    f1_high: float
    curve: Curve
    histogram: NDArray[np.int64]  # tracks by score, between EDGES
    histogram_positive: NDArray[np.int64]  # of them, those with the tag


@dataclass(frozen=True)
class Curves:
    """Every tag of a model, in vocabulary order."""

    tracks: int
    tags: Mapping[str, TagFigures]
    inputs: NDArray[np.int64] | None = None  # [F, len(EDGES) - 1] tracks by probability; older trainers kept none

    def scores(self) -> NDArray[np.int64]:
        """`[T, len(EDGES) - 1]` tracks by score."""
        return np.array([figures.histogram for figures in self.tags.values()])

    def tuned_shares(self) -> NDArray[np.float64]:
        """`[T]` of the tracks, how many each tuned threshold decides."""
        return np.array([figures.curve.at(figures.threshold).share for figures in self.tags.values()])

    def to_json(self) -> bytes:
        """The content of the file."""
        head = {"format": FORMAT, "tracks": self.tracks, "level": LEVEL, "edges": EDGES.tolist()}
        if self.inputs is not None:
            head["inputs"] = self.inputs.tolist()
        tags = {name: _plain(figures) for name, figures in self.tags.items()}
        return json.dumps({**head, "tags": tags}, ensure_ascii=False, separators=(",", ":")).encode()


def measure(
    tags: Sequence[str],
    thresholds: Mapping[str, Threshold],
    scores: NDArray[np.float16],
    labels: NDArray,
    decisions: NDArray[np.bool_],
    artists: NDArray | None,
    probabilities: NDArray[np.float32],
) -> tuple[Curves, Intervals]:
    """All figures from out-of-fold `scores`, `labels` and cross-fitted `decisions`, `[N, T]` each.

    `probabilities` `[N, F]` are upstream's.
    """
    intervals = f1_intervals(labels, decisions, artists)
    labelled = labels.astype(bool)
    support, decided = labelled.sum(axis=0), decisions.sum(axis=0)  # [T]
    hits = (labelled & decisions).sum(axis=0)
    f1 = f_beta(hits, decided, support)
    found = {}
    for index, tag in enumerate(tags):
        mine, have = scores[:, index].astype(np.float64), labelled[:, index]
        found[tag] = TagFigures(
            threshold=thresholds[tag],
            support=int(support[index]),
            precision=float(hits[index] / max(decided[index], 1)),
            recall=float(hits[index] / max(support[index], 1)),
            f1=float(f1[index]),
            f1_low=float(intervals.low[index]),
            f1_high=float(intervals.high[index]),
            curve=trace(mine, have, thresholds[tag]),
            histogram=np.histogram(mine, EDGES)[0],
            histogram_positive=np.histogram(mine[have], EDGES)[0],
        )
    return Curves(len(scores), found, histograms(probabilities)), intervals


def histograms(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """`[C, len(EDGES) - 1]` of the columns of `values` `[N, C]`, rounded to float16 as the stream samples them."""
    wide = values.astype(np.float16).astype(np.float64)
    counts = [np.histogram(wide[:, column], EDGES)[0] for column in range(wide.shape[1])]
    return np.array(counts, np.int64).reshape(-1, len(EDGES) - 1)


def trace(scores: NDArray[np.float64], labels: NDArray[np.bool_], tuned: Threshold) -> Curve:
    """The curve of one tag's scores and labels `[N]`; exact at its points, of which `tuned` is one."""
    rising = np.sort(scores)
    rising_hits = np.sort(scores[labels])
    few, many = np.geomspace(1, len(rising), POINTS_PER_SCALE), np.linspace(1, len(rising), POINTS_PER_SCALE)
    counts = np.unique(np.concatenate([few, many]).astype(np.int64))
    at = [rising[-counts], np.array([0.0, 1.0])]
    if len(rising_hits):
        at.append(rising_hits[np.linspace(0, len(rising_hits) - 1, POINTS_PER_SCALE).astype(np.int64)])
    if tuned != OFF:
        at.append(np.array([tuned], dtype=np.float64))
    thresholds = np.unique(np.concatenate(at).round(DECIMALS))
    return Curve(
        thresholds=thresholds,
        decided=len(rising) - np.searchsorted(rising, thresholds, side="left"),
        hits=len(rising_hits) - np.searchsorted(rising_hits, thresholds, side="left"),
        tracks=len(rising),
        support=len(rising_hits),
    )


def read(folder: Path, manifest: Mapping[str, Any]) -> Curves:
    """The curves of the artefact in `folder`, its checksum, size and form checked.

    Raises:
        ModelError: where there are none, or they are not as the manifest says.
    """
    if CURVES not in manifest["files"]:
        raise ModelError(f"{folder.name} has no {CURVES}: it was not made by training, or by an older trainer.")
    content = manifests.read_checked(folder, manifest, CURVES, CURVES_BYTES_MAX)
    try:
        value = json.loads(content)
        if value["format"] != FORMAT or value["edges"] != EDGES.tolist():
            raise ValueError("another format")
        if set(value["tags"]) != set(manifest["thresholds"]):
            raise ValueError("other tags than the manifest's")
        tracks = _count(value["tracks"])
        tags = {name: _figures(value["tags"][name], tracks) for name in manifest["thresholds"]}
        return Curves(tracks, tags, _inputs(value.get("inputs"), manifest, tracks))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{folder / CURVES} is damaged: {reason[:120]}.") from None


def _plain(figures: TagFigures) -> dict[str, Any]:
    curve = figures.curve
    return {
        "threshold": figures.threshold,
        "support": figures.support,
        **{name: round(getattr(figures, name), 4) for name in ("precision", "recall", "f1", "f1_low", "f1_high")},
        "curve": {name: getattr(curve, name).tolist() for name in ("thresholds", "decided", "hits")},
        "histogram": figures.histogram.tolist(),
        "histogram_positive": figures.histogram_positive.tolist(),
    }


def _figures(item: Mapping[str, Any], tracks: int) -> TagFigures:
    rates = {name: number(item[name]) for name in ("precision", "recall", "f1", "f1_low", "f1_high")}
    number(item["threshold"])
    support = _count(item["support"], tracks)
    return TagFigures(
        threshold=item["threshold"],
        support=support,
        **rates,
        curve=_curve(item["curve"], tracks, support),
        histogram=_counts(item["histogram"], len(EDGES) - 1, tracks),
        histogram_positive=_counts(item["histogram_positive"], len(EDGES) - 1, support),
    )


def _inputs(rows: Any, manifest: Mapping[str, Any], tracks: int) -> NDArray[np.int64] | None:
    if rows is None:
        return None
    columns = max((int(one["stop"]) for one in manifest["features"]["columns"]), default=0)
    if not isinstance(rows, list) or len(rows) != columns:
        raise ValueError(f"histograms that are not of {columns} probabilities")
    return np.array([_counts(row, len(EDGES) - 1, tracks) for row in rows], dtype=np.int64)


def _curve(item: Mapping[str, Any], tracks: int, support: int) -> Curve:
    points = len(item["thresholds"])
    if not 2 <= points <= POINTS_MAX:
        raise ValueError(f"a curve of {points} points")
    thresholds = np.array([number(value) for value in item["thresholds"]])
    decided = _counts(item["decided"], points, tracks)
    hits = _counts(item["hits"], points, support)
    if thresholds[0] != 0 or thresholds[-1] != 1 or (np.diff(thresholds) <= 0).any():
        raise ValueError("a curve whose thresholds do not rise from 0 to 1")
    if (np.diff(decided) > 0).any() or (np.diff(hits) > 0).any() or (hits > decided).any():
        raise ValueError("a curve whose counts do not fall together")
    return Curve(thresholds, decided, hits, tracks, support)


def _counts(values: Sequence[Any], length: int, largest: int) -> NDArray[np.int64]:
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"a list that is not of {length} counts")
    return np.array([_count(value, largest) for value in values], dtype=np.int64)


def _count(value: Any, largest: int = 2**53) -> int:
    if type(value) is not int or not 0 <= value <= largest:
        raise ValueError(f"{str(value)[:40]!r} is not a count up to {largest}")
    return value


def _logit(threshold: NDArray | float) -> NDArray[np.float64]:
    clipped = np.clip(threshold, LOGIT_CLIP, 1 - LOGIT_CLIP)
    return np.log(clipped / (1 - clipped))
