"""One threshold per tag that makes its F1 as high as the labels can support.

Scores are taken as float16, because that is what is compared, published and retained. A count of few positives is
noise, so the model's own expected positives steady it (`smoothing`): measured, this is worth .002 to .009 weighted
F1. Knows arrays only.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DECIMALS = 6
SMALLEST = 10.0**-DECIMALS  # a tuned threshold of 0 would decide a tag for every track
NEVER_SEEN = 1.0  # for a tag without a positive: only certainty decides it
BISECTION_SPAN, BISECTION_STEPS = 20.0, 30  # logits; the last step is below 1e-7


def tune(
    scores: NDArray, labels: NDArray, smoothings: Sequence[float], expected: NDArray | None = None
) -> NDArray[np.float64]:
    """Thresholds `[S, T]`, a row for each smoothing, for `scores` `[N, T]`; rounded to 6 decimals.

    `expected` are calibrated probabilities of the labels, where the scores themselves are not calibrated.
    """
    scores = scores.astype(np.float16)
    expected = scores if expected is None else expected
    tuned = [_tune_tag(scores[:, tag], labels[:, tag], expected[:, tag], smoothings) for tag in range(scores.shape[1])]
    return np.array(tuned).T


def _tune_tag(scores: NDArray, labels: NDArray, expected: NDArray, smoothings: Sequence[float]) -> list[float]:
    positives = float(labels.sum())
    if positives == 0:
        return [NEVER_SEEN] * len(smoothings)
    order = np.argsort(-scores.astype(np.float32), kind="stable")
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(labels[order], dtype=np.float64)
    hoped = np.cumsum(expected[order], dtype=np.float64)
    taken = np.arange(1, len(ranked) + 1, dtype=np.float64)
    below = np.append(ranked[1:], 0.0)
    inside_a_run = ranked == below  # a cut between equal scores does not exist
    tuned = []
    for weight in smoothings:
        # 2 (TP + l * E[TP]) / (decided + positives + l * (decided + E[positives])): F1, the expectation as prior.
        f1 = 2 * (hits + weight * hoped) / (taken + positives + weight * (taken + hoped[-1]))
        f1[inside_a_run] = -1.0
        best = int(np.argmax(f1))
        tuned.append(max(round(float(ranked[best] + below[best]) / 2, DECIMALS), SMALLEST))
    return tuned


def shift_to_prevalence(logits: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """The number `[T]` to add to each tag's logits so that the mean probability equals its label frequency.

    It mends an over- or under-confident upstream with one number a tag.
    """
    rows = max(len(labels), 1)
    return shift_to_mean(logits, np.clip(labels.mean(axis=0, dtype=np.float64), 0.5 / rows, 1 - 0.5 / rows))


def shift_to_mean(logits: NDArray, target: NDArray) -> NDArray[np.float64]:
    """The number `[T]` to add to `logits` `[N, T]` so that their mean probability is `target` `[T]`: bisection."""
    low, high = np.full(logits.shape[1], -BISECTION_SPAN), np.full(logits.shape[1], BISECTION_SPAN)
    for _ in range(BISECTION_STEPS):
        middle = (low + high) / 2
        mean = (1 / (1 + np.exp(-(logits + middle.astype(logits.dtype))))).mean(axis=0)
        low, high = np.where(mean < target, middle, low), np.where(mean < target, high, middle)
    return (low + high) / 2
