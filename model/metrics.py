"""How good decisions and scores are, in numpy.

Knows labels, scores and decisions as `[N, T]` arrays; knows nothing of tags' names or of how they were made. The
definitions are scikit-learn's (an undefined F1 counts as 0), checked by hand in the tests.
"""

import numpy as np
from numpy.typing import NDArray

LOG_CLIP = 1e-6  # scores are float16 and can be exactly 0 or 1, where the logarithm is not finite
ECE_BINS = 15


def f1_per_tag(labels: NDArray, decisions: NDArray) -> NDArray[np.float64]:
    """F1 of each tag `[T]`; 0 where a tag has neither labels nor decisions."""
    labels, decisions = labels.astype(bool), decisions.astype(bool)
    hits = (labels & decisions).sum(axis=0, dtype=np.float64)
    total = labels.sum(axis=0, dtype=np.float64) + decisions.sum(axis=0, dtype=np.float64)
    return np.divide(2.0 * hits, total, out=np.zeros_like(hits), where=total > 0)


def weighted_f1(labels: NDArray, decisions: NDArray) -> float:
    """The mean of the tags' F1, weighted by how often each tag is labelled."""
    weights = labels.sum(axis=0, dtype=np.float64)
    return float((f1_per_tag(labels, decisions) * weights).sum() / max(weights.sum(), 1.0))


def macro_f1(labels: NDArray, decisions: NDArray) -> float:
    """The plain mean of the tags' F1."""
    return float(f1_per_tag(labels, decisions).mean())


def micro_f1(labels: NDArray, decisions: NDArray) -> float:
    """F1 over all cells at once."""
    return float(f1_per_tag(labels.reshape(-1, 1), decisions.reshape(-1, 1))[0])


def samples_f1(labels: NDArray, decisions: NDArray) -> float:
    """The mean over tracks of the F1 of a track's tag set."""
    return float(f1_per_tag(labels.T, decisions.T).mean())


def bce(labels: NDArray, scores: NDArray) -> float:
    """Mean binary cross-entropy over all cells, in nats."""
    clipped = np.clip(scores.astype(np.float64), LOG_CLIP, 1.0 - LOG_CLIP)
    return float(-np.where(labels.astype(bool), np.log(clipped), np.log1p(-clipped)).mean())


def accuracy(labels: NDArray, decisions: NDArray) -> float:
    """The share of cells decided as labelled."""
    return float((labels.astype(bool) == decisions.astype(bool)).mean())


def ece(labels: NDArray, scores: NDArray, bins: int = ECE_BINS) -> float:
    """Expected calibration error over all cells, equal-width bins."""
    flat = scores.astype(np.float64).ravel()
    slot = np.minimum((flat * bins).astype(np.int64), bins - 1)
    said = np.bincount(slot, weights=flat, minlength=bins)
    seen = np.bincount(slot, weights=labels.ravel().astype(np.float64), minlength=bins)
    return float(np.abs(said - seen).sum() / max(flat.size, 1))


def summary(labels: NDArray, scores: NDArray, thresholds: NDArray | float) -> dict[str, float]:
    """Every figure of `tagstream evaluate`; `thresholds` is one number or one per tag `[T]`."""
    return summary_of(labels, scores, scores.astype(np.float64) >= np.asarray(thresholds, dtype=np.float64))


def summary_of(labels: NDArray, scores: NDArray, decisions: NDArray) -> dict[str, float]:
    """The same for decisions that are made already."""
    return {
        "weighted_f1": weighted_f1(labels, decisions),
        "micro_f1": micro_f1(labels, decisions),
        "macro_f1": macro_f1(labels, decisions),
        "samples_f1": samples_f1(labels, decisions),
        "bce": bce(labels, scores),
        "accuracy": accuracy(labels, decisions),
        "ece": ece(labels, scores),
    }
