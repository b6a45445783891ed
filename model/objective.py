"""What a threshold is tuned for: F1, F-beta, precision, recall or cost, as a formula over counts of decisions.

An objective sees, for every possible cut of one tag, how many tracks would be decided, how many of those rightly, and
how many have the tag; it says which cuts are admissible and which of them is best. The counts may be steadied
(`model.thresholds`), so they need not be whole. Knows formulas only.

- F-beta: (1 + b^2) TP / (b^2 P + n), van Rijsbergen, Information Retrieval, 1979; b < 1 prefers precision. F1 is b = 1.
- precision at least p, then as many hits as possible; recall at least r, then as precise as possible.
- cost: a false positive costs c, a miss m; the sum is least where m TP - c (n - TP) is greatest. For calibrated
  probabilities that is the threshold c / (c + m): Elkan, The Foundations of Cost-Sensitive Learning, 2001.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.errors import ModelError

KINDS = {"f1": 0, "f-beta": 1, "precision": 1, "recall": 1, "cost": 2}  # and how many numbers each takes
FORMS = "f1, f-beta:B, precision:P, recall:R or cost:FALSE_POSITIVE:MISS, and after it perhaps ,floor:F1"
SHRINKAGE = 10.0  # measured: with few tracks cost and precision get better, with many nothing changes; 3 to 30 do
LARGEST = 1000.0  # of a beta or a cost
ROUNDING = 1e-9  # 4 hits of 5 are a precision of .8, whatever binary fractions say


@dataclass(frozen=True)
class Objective:
    """`numbers` are beta, the least precision, the least recall, or the costs of a false positive and of a miss.

    A tag whose steadied F1 at the best cut is below `floor` is `off`.
    """

    kind: str = "f1"
    numbers: tuple[float, ...] = ()
    floor: float = 0.0

    @property
    def shrinkage(self) -> float:
        """Positives that the model's expectation is worth beside the counted ones: it settles rare tags alone.

        Not for F1, whose smoothing is chosen by cross-fit already: it brought nothing there.
        """
        return 0.0 if self.kind == "f1" else SHRINKAGE

    @property
    def asks(self) -> bool:
        """Whether something is asked of each tag, which its own count has to show too, not the expectation alone."""
        return self.kind in ("precision", "recall") or self.floor > 0

    @property
    def takes_the_unseen(self) -> bool:
        """Whether a tag without a positive is left to certainty; an asked precision, cost or floor turns it off."""
        return self.kind not in ("precision", "cost") and not self.floor

    @classmethod
    def parse(cls, text: str) -> "Objective":
        """From text such as `f-beta:0.5` or `precision:0.8,floor:0.1`.

        Raises:
            ModelError: where it is none.
        """
        main, comma, rest = text.strip().partition(",")
        kind, *words = main.split(":")
        named, *floor = rest.split(":") if comma else ("floor", "0")
        try:
            numbers = tuple(float(word) for word in words)
            least = float(floor[0]) if named.strip() == "floor" and len(floor) == 1 else math.nan
        except ValueError:
            numbers, least = (math.nan,), math.nan
        if KINDS.get(kind) != len(numbers) or not all(_allowed(kind, n) for n in numbers) or not 0 <= least < 1:
            raise ModelError(f"{text[:80]!r} is not an objective: it is one of {FORMS}.")
        return cls(kind, numbers, least)

    def __str__(self) -> str:
        text = ":".join([self.kind, *(f"{number:g}" for number in self.numbers)])
        return f"{text},floor:{self.floor:g}" if self.floor else text

    def worth(self, hits: NDArray, taken: NDArray, positives: float) -> NDArray[np.float64]:
        """How good each cut is, higher is better, -inf where it is not admissible; all `[K]`.

        `taken` tracks are decided by a cut, `hits` of them rightly; `positives` tracks have the tag.
        """
        if self.kind == "precision":
            good = np.where(hits >= self.numbers[0] * taken - ROUNDING, hits, -np.inf)
        elif self.kind == "recall":
            good = np.where(hits >= self.numbers[0] * positives - ROUNDING, hits / taken, -np.inf)
        elif self.kind == "cost":
            false_positive, miss = self.numbers
            saved = miss * hits - false_positive * (taken - hits)
            good = np.where(saved > ROUNDING, saved, -np.inf)  # deciding nothing saves nothing
        else:
            good = f_beta(hits, taken, positives, self.numbers[0] if self.numbers else 1.0)
        if self.floor:
            good = np.where(f_beta(hits, taken, positives) >= self.floor - ROUNDING, good, -np.inf)
        return good


def f_beta(hits: ArrayLike, taken: ArrayLike, positives: ArrayLike, beta: float = 1.0) -> NDArray[np.float64]:
    """The F-beta of counts, element by element; 0 where there is neither a decision nor a positive."""
    square = beta * beta
    whole = np.asarray(square * np.asarray(positives, np.float64) + np.asarray(taken, np.float64))
    return np.divide((1 + square) * np.asarray(hits), whole, out=np.zeros_like(whole), where=whole > 0)


def _allowed(kind: str, number: float) -> bool:
    return 0 < number <= (1.0 if kind in ("precision", "recall") else LARGEST)  # false for NaN
