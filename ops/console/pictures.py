"""Geometry of the pictures: points and paths for SVG, in the units of each picture's view box. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.curves import Curve

SPARK_WIDTH, SPARK_HEIGHT = 240.0, 44.0
SPARK_PAD = 3.0


class Spark(NamedTuple):
    """A line of the last minutes, the area below it, and its largest value."""

    line: str
    area: str
    top: float


def spark(series: Sequence[tuple[float, float]]) -> Spark | None:
    """None where there is nothing to draw; values are from 0 up."""
    if len(series) < 2:
        return None
    top = max(value for _, value in series)
    scale = (SPARK_HEIGHT - 2 * SPARK_PAD) / (top or 1.0)
    points = [(share * SPARK_WIDTH, SPARK_HEIGHT - SPARK_PAD - value * scale) for share, value in _thinned(series)]
    line = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f"{line}L{points[-1][0]:.1f},{SPARK_HEIGHT:.0f}L{points[0][0]:.1f},{SPARK_HEIGHT:.0f}Z"
    return Spark(line, area, top)


def _thinned(series: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most one point per two units of width: of each few the largest, so that no peak is lost."""
    most = int(SPARK_WIDTH // 2)
    if len(series) <= most:
        return series
    step = -(-len(series) // most)
    return [max(series[at : at + step], key=lambda point: point[1]) for at in range(0, len(series), step)]


# A tag's picture: scores and rates over one axis, the threshold. The axis is the logit, which shows a rare tag's
# thresholds (0.02) as well as a common one's (0.6); a slider below it moves by the same places.
PLACES = 1000  # from one end of the axis to the other
LOGIT_END = 7.6  # 0.0005 and 0.9995; 0 and 1 are the very ends
BINS = 76
TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5, 0.8, 0.9, 0.97, 0.99)
BARS_HEIGHT, RATES_HEIGHT = 150.0, 170.0
SIGNIFICANT = 3  # digits of the distance to the nearer end


def place(threshold: float) -> float:
    """Where a threshold in [0, 1] stands on the axis, from 0 to PLACES."""
    if threshold <= 0:
        return 0.0
    if threshold >= 1:
        return float(PLACES)
    logit = math.log(threshold / (1 - threshold))
    return min(1.0, max(0.0, (logit + LOGIT_END) / (2 * LOGIT_END))) * PLACES


def threshold_at(at: float) -> float:
    """The threshold of a place, rounded as people write them; the ends are 0 and 1."""
    if at <= 0:
        return 0.0
    if at >= PLACES:
        return 1.0
    value = 1 / (1 + math.exp(LOGIT_END - 2 * LOGIT_END * at / PLACES))
    return round(value, SIGNIFICANT - 1 - math.floor(math.log10(min(value, 1 - value))))


def edges() -> NDArray[np.float64]:
    """`[BINS + 1]` of the histogram: bars of equal width on the axis."""
    inner = [1 / (1 + math.exp(LOGIT_END - 2 * LOGIT_END * index / BINS)) for index in range(1, BINS)]
    return np.array([0.0, *inner, 1.0])


class Bar(NamedTuple):
    """One bar, or its part on one side of a threshold."""

    x: float
    width: float
    height: float
    decided: bool


def bars(counts: Sequence[int], ends: Sequence[float], threshold: float) -> list[Bar]:
    """Bars as high as the logarithm of their counts, cut in two where the threshold (inf: none) lies within."""
    top = math.log1p(max(counts, default=0)) or 1.0
    cut = place(threshold) if threshold <= 1 else PLACES + 1.0
    found = []
    for number, tracks in enumerate(counts):
        left, right = place(ends[number]), place(ends[number + 1])
        height = BARS_HEIGHT * math.log1p(tracks) / top
        for start, stop, decided in ((left, min(right, cut), False), (max(left, cut), right, True)):
            if stop > start:
                found.append(Bar(start, max(stop - start - 0.8, 0.4), height, decided))
    return found


def rate_paths(curve: Curve) -> dict[str, str]:
    """Precision, recall and F1 over the threshold, as paths."""
    grid = np.unique(np.concatenate([curve.thresholds, edges()]))
    points = [(place(float(at)), curve.at(float(at))) for at in grid if 0 < at < 1]
    paths = {}
    for name in ("precision", "recall", "f1"):
        mine = [
            (x, RATES_HEIGHT * (1 - getattr(point, name)))
            for x, point in points
            if name != "precision" or point.share > 0
        ]
        paths[name] = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in mine) if len(mine) > 1 else ""
    return paths
