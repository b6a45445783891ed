"""One threshold per tag that serves an objective, F1 by default, as well as the labels can support.

Scores are taken as float16, because that is what is compared, published and retained. A count of few positives is
noise, so the model's own expected positives steady it (`smoothing`): measured, this is worth .002 to .009 weighted
F1. A tag that cannot do what is asked of it is `off`: infinity in arrays, the word in a manifest, as in Redis.
Knows arrays and names only.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.objective import Objective

OFF = "off"
Threshold = float | str  # a number in [0, 1], or OFF
DECIMALS = 6
SMALLEST = 10.0**-DECIMALS  # a tuned threshold of 0 would decide a tag for every track
NEVER_SEEN = 1.0  # for a tag without a positive: only certainty decides it
BISECTION_SPAN, BISECTION_STEPS = 20.0, 30  # logits; the last step is below 1e-7


def tune(
    scores: NDArray,
    labels: NDArray,
    smoothings: Sequence[float],
    expected: NDArray | None = None,
    objective: Objective | None = None,
) -> NDArray[np.float64]:
    """Thresholds `[S, T]`, a row for each smoothing, for `scores` `[N, T]`; rounded to 6 decimals, infinity is off.

    `expected` are calibrated probabilities of the labels, where the scores themselves are not calibrated.
    """
    scores = np.abs(np.asfortranarray(scores.astype(np.float16)))  # -0.0 becomes 0.0; columns lie together
    expected = scores if expected is None else expected
    goal = objective or Objective()
    tuned = [
        _tune_tag(scores[:, tag], labels[:, tag], expected[:, tag], smoothings, goal) for tag in range(scores.shape[1])
    ]
    return np.array(tuned).T


def _tune_tag(
    scores: NDArray, labels: NDArray, expected: NDArray, smoothings: Sequence[float], goal: Objective
) -> list[float]:
    positives = float(labels.sum())
    if positives == 0:
        return [NEVER_SEEN if goal.takes_the_unseen else np.inf] * len(smoothings)
    order = np.argsort(~scores.view(np.uint16), kind="stable")  # no score is below 0: its bits order as it does
    ranked = scores[order].astype(np.float64)
    hits = np.cumsum(labels[order], dtype=np.float64)
    hoped = np.cumsum(expected[order], dtype=np.float64)
    taken = np.arange(1, len(ranked) + 1, dtype=np.float64)
    below = np.append(ranked[1:], 0.0)
    inside_a_run = ranked == below  # a cut between equal scores does not exist
    tuned = []
    for smoothing in smoothings:
        weight = smoothing + goal.shrinkage / positives
        # What was counted and, `weight` times, what the model expects: the expectation is the prior of the count.
        worth = goal.worth(hits + weight * hoped, (1 + weight) * taken, positives + weight * hoped[-1])
        if goal.asks:
            worth[goal.worth(hits, taken, positives) == -np.inf] = -np.inf
        worth[inside_a_run] = -np.inf
        best = int(np.argmax(worth))
        cut = max(round(float(ranked[best] + below[best]) / 2, DECIMALS), SMALLEST)
        tuned.append(cut if worth[best] > -np.inf else np.inf)
    return tuned


def decide_cross_fitted(
    scores: NDArray, labels: NDArray, folds: NDArray, smoothing: float, expected: NDArray, objective: Objective
) -> NDArray[np.bool_]:
    """Decisions `[N, T]`, each fold's by thresholds that were tuned on the other folds `[N]`."""
    decisions = np.zeros(labels.shape, dtype=bool)
    for fold in range(folds.max() + 1):
        rest, here = folds != fold, folds == fold
        tuned = tune(scores[rest], labels[rest], [smoothing], expected[rest], objective)[0]
        decisions[here] = scores[here].astype(np.float64) >= tuned
    return decisions


def by_tag(tags: Sequence[str], values: NDArray) -> dict[str, Threshold]:
    """Names to thresholds, from `[T]` values in the order of `tags`."""
    return {
        tag: round(value, DECIMALS) if np.isfinite(value) else OFF
        for tag, value in zip(tags, values.tolist(), strict=True)
    }


def number(threshold: object) -> float:
    """A threshold as the number that scores are compared with: infinity for `off`.

    Raises:
        ValueError: where it is neither `off` nor a number in [0, 1].
    """
    if threshold == OFF:
        return np.inf
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ValueError(f"{str(threshold)[:40]!r} is neither a number in [0, 1] nor {OFF}")
    return float(threshold)


def row(tags: Sequence[str], thresholds: Mapping[str, Threshold]) -> NDArray[np.float64]:
    """The thresholds `[T]` as numbers, in the order of `tags`."""
    return np.array([number(thresholds[tag]) for tag in tags])


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
