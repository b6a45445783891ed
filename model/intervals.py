"""How far a figure could be off: a bootstrap over artists.

Tracks of one artist resemble each other, so tracks alone would promise too much. Whole artists are drawn with
replacement, as many as there are, and F1 is computed anew each time (percentile bootstrap: Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13). Counts per artist are summed first, so a resample is one row of a
matrix product. Knows arrays only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 500
LEVEL = 0.95
DECIMALS = 5  # of a resample in a manifest
RESAMPLES_AT_ONCE = 50  # bounds the memory: that many rows of one number an artist


@dataclass(frozen=True)
class Intervals:
    """Ends of the intervals: of each tag's F1 `[T]`, and of the weighted F1.

    `resamples` `[R]` is the weighted F1 of each resample. Two models that were measured on the same tracks meet the
    same resampled artists, so the difference of theirs has an interval too.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    weighted: float
    weighted_low: float
    weighted_high: float
    resamples: NDArray[np.float64]

    def plain(self) -> dict[str, list[float]]:
        """The weighted F1's part as a manifest holds it."""
        return {
            "weighted_f1_interval": [self.weighted_low, self.weighted_high],
            "resamples": self.resamples.round(DECIMALS).tolist(),
        }


def f1_intervals(labels: NDArray, decisions: NDArray, artists: NDArray | None, seed: int = 0) -> Intervals:
    """Intervals of F1 for labels and decisions `[N, T]`; the figure itself always lies inside.

    Without artists each track stands alone.
    """
    labels, decisions = labels.astype(bool), decisions.astype(bool)
    hits = sum_by_artist(labels & decisions, artists)  # [A, T]
    positives = sum_by_artist(labels, artists)
    whole = positives + sum_by_artist(decisions, artists)
    everything = np.ones((1, len(hits)), dtype=np.float32)
    rng = np.random.default_rng(seed)
    drawn = [everything @ part for part in (hits, whole, positives)]
    for start in range(0, RESAMPLES, RESAMPLES_AT_ONCE):
        times = draw(rng, min(RESAMPLES_AT_ONCE, RESAMPLES - start), len(hits))
        drawn = [np.concatenate([old, times @ part]) for old, part in zip(drawn, (hits, whole, positives), strict=True)]
    f1 = np.divide(2 * drawn[0], drawn[1], out=np.zeros(drawn[0].shape, np.float64), where=drawn[1] > 0)  # [1 + R, T]
    weights = drawn[2].astype(np.float64)
    weighted = (f1 * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)  # [1 + R]
    low, high = _ends(f1)
    weighted_low, weighted_high = _ends(weighted)
    return Intervals(low, high, float(weighted[0]), float(weighted_low), float(weighted_high), weighted[1:])


def _ends(values: NDArray) -> NDArray[np.float64]:
    """The ends `[2, ...]` over resamples; `values[0]` is the figure itself, which an end never passes."""
    ends = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.stack([np.minimum(ends[0], values[0]), np.maximum(ends[1], values[0])])


def sum_by_artist(cells: NDArray, artists: NDArray | None) -> NDArray[np.float32]:
    """`[A, T]` sums of `[N, T]`."""
    if artists is None:
        return cells.astype(np.float32)
    order = np.argsort(artists, kind="stable")
    starts = np.flatnonzero(np.append(True, artists[order][1:] != artists[order][:-1]))
    return np.add.reduceat(cells[order], starts, axis=0, dtype=np.float32)


def draw(rng: np.random.Generator, resamples: int, artists: int) -> NDArray[np.float32]:
    """How often each artist is drawn in each resample `[R, A]`."""
    picked = rng.integers(artists, size=(resamples, artists)) + np.arange(resamples)[:, None] * artists
    return np.bincount(picked.ravel(), minlength=resamples * artists).reshape(resamples, artists).astype(np.float32)
