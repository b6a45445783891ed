"""What a change of thresholds would do, before it is made: on the tracks of lately, and by the artefact's curves.

The retained scores say how many tracks gain or lose each tag, and which; the curves, traced on labelled tracks the
network had not seen, say what that does to precision and recall. Either may be missing: an artefact without curves, a
stream without retained scores. Pure: reads nothing, writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.curves import Curves, Point
from ops.errors import OpsError
from ops.thresholds_admin import Live
from ops.thresholds_scores import Window, least_bits
from streamer.core.thresholds import OFF, ThresholdTable

EXAMPLES = 3  # of each side, a tag
NEAR_SHARE = 0.9  # a score of at least that part of its threshold is a near miss
SUPPORT_FEW = 20  # below, precision and recall are hardly known


@dataclass(frozen=True, slots=True)
class Example:
    """A track that a change would touch."""

    track_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What a threshold is worth by the artefact's curve."""

    before: Point
    after: Point
    support: int  # labelled tracks with the tag that this was counted on


@dataclass(frozen=True, slots=True)
class TagPreview:
    """One tag's part of a change. Counts are tracks of the window; 0 without one."""

    tag: str
    before: str
    after: str
    decided_before: int
    decided_after: int
    gained: int
    lost: int
    gaining: Sequence[Example]
    losing: Sequence[Example]
    rates: Rates | None


@dataclass(frozen=True, slots=True)
class Preview:
    """A change, seen before it is made."""

    model: str
    before: str  # thresholds versions
    after: str
    tracks: int  # of the window
    touched: int  # of them, those whose tags change at all
    tags: Sequence[TagPreview]


@dataclass(frozen=True, slots=True)
class _Move:
    """One tag's threshold, going from one value to another; inf is off."""

    number: int
    tag: str
    before: str
    after: str
    low: float  # the lesser of the two
    high: float
    falls: bool


def preview(
    live: Live, table: ThresholdTable, window: Window | None, curves: Curves | None, *, examples: int = EXAMPLES
) -> Preview:
    """What going from the live table to `table` does, tag by tag in vocabulary order."""
    before, after = live.table.as_hash(), table.as_hash()
    moves = []
    for number, tag in enumerate(table.tags):
        if before[tag] != after[tag]:
            old, new = float(live.table.values[number]), float(table.values[number])
            moves.append(_Move(number, tag, before[tag], after[tag], min(old, new), max(old, new), new < old))
    tags = [_of_tag(move, window, curves, examples) for move in moves]
    tracks, touched = (0, 0) if window is None else (window.tracks, _touched(window, moves))
    return Preview(live.model, live.table.version, table.version, tracks, touched, tags)


def _of_tag(move: _Move, window: Window | None, curves: Curves | None, examples: int) -> TagPreview:
    rates = _rates(move, curves) if curves is not None else None
    if window is None:
        return TagPreview(move.tag, move.before, move.after, 0, 0, 0, 0, (), (), rates)
    low, high = (window.decided(move.number, end) for end in (move.low, move.high))
    shown = [Example(*one) for one in window.examples(move.number, move.low, move.high, examples)]
    return TagPreview(
        tag=move.tag,
        before=move.before,
        after=move.after,
        decided_before=high if move.falls else low,
        decided_after=low if move.falls else high,
        gained=low - high if move.falls else 0,
        lost=0 if move.falls else low - high,
        gaining=shown if move.falls else (),
        losing=() if move.falls else shown,
        rates=rates,
    )


def _rates(move: _Move, curves: Curves) -> Rates:
    figures = curves.tags[move.tag]
    before, after = (OFF if text == OFF else float(text) for text in (move.before, move.after))
    return Rates(figures.curve.at(before), figures.curve.at(after), figures.support)


def _touched(window: Window, moves: Sequence[_Move]) -> int:
    touched = np.zeros(window.tracks, bool)
    for move in moves:
        bits = window.bits(move.number)
        touched |= (bits >= least_bits(move.low)) & (bits < least_bits(move.high))
    return int(touched.sum())


@dataclass(frozen=True, slots=True)
class Lately:
    """What a threshold has done to the tracks of a window."""

    decided: int
    near_misses: int  # tracks just under it


def lately(window: Window, table: ThresholdTable) -> dict[str, Lately]:
    """Every tag of a table."""
    found = {}
    for number, tag in enumerate(table.tags):
        threshold = float(table.values[number])
        near = window.between(number, threshold * NEAR_SHARE, threshold) if threshold <= 1 else 0
        found[tag] = Lately(window.decided(number, threshold), near)
    return found


def suggest_by_curve(curves: Curves, tag: str, *, precision: float | None = None, recall: float | None = None) -> float:
    """The threshold with the most recall that reaches a precision, or with the most precision that reaches a recall.

    Raises:
        OpsError: no threshold does, with what is the most.
    """
    curve = curves.tags[tag].curve
    if not curve.support:
        raise OpsError(f"no labelled track of the training had {tag!r}: nothing is known of its precision or recall.")
    points = [(float(at), point) for at in curve.thresholds if (point := curve.at(float(at))).share > 0]
    name, wanted = ("precision", precision) if precision is not None else ("recall", recall)
    reached = [at for at, point in points if getattr(point, name) >= wanted]
    if not reached:
        at, best = max(points, key=lambda pair: getattr(pair[1], name))
        raise OpsError(
            f"no threshold of {tag!r} has {name} {wanted:g}: the most is {getattr(best, name):.3f}, at {at:g}."
        )
    return min(reached) if precision is not None else max(reached)


def suggest_by_share(window: Window, number: int, tag: str, share: float) -> float:
    """The threshold under which the tracks of a window come nearest to this share of them having the tag.

    Raises:
        OpsError: there are no tracks.
    """
    if not window.tracks:
        raise OpsError(f"there are no retained scores to take the share of {tag!r} from.")
    at_least = window.at_least(number)
    reached = np.unique(window.bits(number))  # only a score that occurs changes what is decided
    distance = np.abs(at_least[reached] - share * window.tracks)
    value = float(reached[int(np.argmin(distance))].view(np.float16))
    return float(np.floor(value * 1e6) / 1e6)  # six decimals, and still not above the score
