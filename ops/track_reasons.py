"""For each tag of a track: decided or not, and why; what was nearly decided comes first. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ops.thresholds_preview import NEAR_SHARE
from streamer.core.layout import CLASSES, Layout
from streamer.core.thresholds import ThresholdTable


class Why(StrEnum):
    """What became of a tag, in the order in which a person wants to see them."""

    NEAR = "near miss"
    DECIDED = "decided"
    BELOW = "below"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Reason:
    """One tag of one track. Thresholds are inf where the tag is off."""

    tag: str
    class_name: str
    probability: float | None  # upstream's
    score: float
    threshold: float  # under which the track was decided
    live: float | None  # of now; None where it is not known
    why: Why

    @property
    def margin(self) -> float:
        """How far above its threshold the score is; below it where negative."""
        return self.score - self.threshold

    @property
    def reached(self) -> float:
        """The part of the threshold that the score has reached."""
        return self.score / self.threshold if self.threshold > 0 else np.inf

    @property
    def decided(self) -> bool:
        return self.why is Why.DECIDED

    @property
    def changes(self) -> bool:
        """Whether the live table would decide otherwise."""
        return self.live is not None and (self.score >= self.live) != self.decided


def explain(
    layout: Layout,
    scores: NDArray[np.float16],
    table: ThresholdTable,
    live: ThresholdTable | None,
    probabilities: NDArray[np.float64] | None,
) -> list[Reason]:
    """Every tag: near misses first (the nearest before), then what is decided (the closest call first), then the rest.

    `scores` are [T], `probabilities` [F] with the tags' own first.
    """
    values = scores.astype(np.float64)
    reasons = [
        Reason(
            tag=tag,
            class_name=CLASSES[layout.tag_class[number]],
            probability=None if probabilities is None else float(probabilities[number]),
            score=float(values[number]),
            threshold=float(table.values[number]),
            live=None if live is None else float(live.values[number]),
            why=_why(float(values[number]), float(table.values[number])),
        )
        for number, tag in enumerate(layout.tags)
    ]
    return sorted(reasons, key=_order)


def _why(score: float, threshold: float) -> Why:
    if score >= threshold:
        return Why.DECIDED
    if not np.isfinite(threshold):
        return Why.OFF
    return Why.NEAR if score >= NEAR_SHARE * threshold else Why.BELOW


_RANK = {why: rank for rank, why in enumerate(Why)}


def _order(reason: Reason) -> tuple[int, float]:
    closeness = reason.margin if reason.why is Why.DECIDED else -reason.reached
    return _RANK[reason.why], closeness if np.isfinite(closeness) else -reason.score


def of(reasons: Sequence[Reason], why: Why) -> list[Reason]:
    """Those with one fate."""
    return [reason for reason in reasons if reason.why is why]
