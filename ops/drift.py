"""Whether more or fewer tracks get a tag than the model was made for, and which of three things did it.

The share of tracks with a tag goes from that of the base model's reference to that of a window in three steps, and
their sum is exact: what the *model* does to it (its reference beside the base's), what the *inputs* do (the tuned
thresholds on the window beside the reference), what the *thresholds* do (those the tracks were decided under beside
the tuned ones, on the same scores). Which of them have moved is judged by the size of the step and by the population
stability index of scores and of upstream's probabilities (`streamer.core.drift`). Scores that moved while no
probability did are the model's doing. Pure: reads the local cache, writes nothing.

Notable choices:
- Small windows must not cry wolf: beyond its cut, a figure must be more than chance gives one window in a thousand,
  over all tags together.
- The reference is of the folds' networks, and what serves was trained on all folds: of rare tags its scores lie
  otherwise by an index of up to 0.2 from the first day. So scores that move by themselves must move far.
- Tracks of an artist come together and are alike, so so many of them count as one (`ALIKE`): on simulated and real
  catalogues chance moved shares and indices by up to that much more than single tracks would.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ops.thresholds_scores import RetainedScores
from streamer.core.drift import FAR, MOVED, Groups, Reference, bins_by_bits, by_chance
from streamer.core.float16 import least_bits

SHARE_MOVED, SHARE_FAR = 1.25, 2.0  # so many times more, or fewer, tracks with a tag; the alert's is the second
TRACKS_MIN = 500  # of a window that is judged
TRACKS_TOUCHED_MIN = 10  # by thresholds
ALIKE = 5.0
CHANCE = 0.001  # of a false alarm, a window

Span = tuple[int, int]  # of a window: milliseconds, the second not in it


class Cause(StrEnum):
    """What has changed."""

    THRESHOLDS = "thresholds"
    INPUTS = "inputs"
    MODEL = "model"
    UNKNOWN = "inputs or model"  # the artefact has no reference of upstream's probabilities, or the topic no events


@dataclass(frozen=True)
class Known:
    """A model's reference, and its tuned thresholds `[T]` (inf is off)."""

    reference: Reference
    tuned: NDArray[np.float64]


@dataclass(frozen=True)
class Inputs:
    """Upstream's probabilities of a window's events: histograms `[F, B]` of so many tracks."""

    counts: NDArray[np.int64]
    tracks: int


@dataclass(frozen=True)
class Index:
    """The index of R distributions, of a sample of so many tracks against a reference of so many."""

    psi: NDArray[np.float64]  # [R]
    groups: NDArray[np.intp]  # [R] that it was taken over
    tracks: int
    reference_tracks: int

    @classmethod
    def of(cls, counts: NDArray[np.number], n: int, reference: NDArray[np.number], m: int) -> "Index":
        """From histograms `[R, B]`; the reference's may be averages of several models'."""
        groups = Groups.of(np.rint(reference).astype(np.int64))
        return cls(groups.psi(counts, reference), groups.count, n, m)

    def moved(self, cut: float = MOVED) -> NDArray[np.bool_]:
        """`[R]` beyond a cut, and beyond chance."""
        n, m = int(self.tracks / ALIKE), int(self.reference_tracks / ALIKE)
        return (self.psi >= cut) & (self.psi > by_chance(self.groups, n, m, CHANCE / max(len(self.psi), 1)))


@dataclass(frozen=True)
class Share:
    """The share of tracks that get each tag `[T]`, of so many tracks."""

    of: NDArray[np.float64]
    tracks: int

    def moved_from(self, other: "Share") -> NDArray[np.bool_]:
        """`[T]` beyond the first cut, and beyond chance."""
        n, m = max(self.tracks, 1), max(other.tracks, 1)
        pooled = (self.of * n + other.of * m) / (n + m)
        deviation = np.sqrt(pooled * (1 - pooled) * ALIKE * (1 / n + 1 / m))
        most = NormalDist().inv_cdf(1 - CHANCE / (2 * max(len(self.of), 1)))
        return _ratio(self.of, other.of, SHARE_MOVED) & (np.abs(self.of - other.of) > most * deviation)


@dataclass(frozen=True)
class Window:
    """What is counted of one span."""

    span: Span
    models: Mapping[str, int]  # tracks by model
    unexplained: int  # tracks whose table nobody knows any more: left out of `decided`
    decided: NDArray[np.float64]  # [T] shares under the tables that the tracks name
    tuned: Share  # under the tuned thresholds of their models
    reference: Share  # of their models' references
    base: Share  # of the base model's
    scores: Index  # [T]
    model: Index  # [T] of the models' references against the base's
    inputs: Index | None  # [F] of upstream's probabilities; None where they are not known

    @property
    def tracks(self) -> int:
        return self.tuned.tracks


@dataclass(frozen=True, slots=True)
class TagDrift:
    """One tag in one window; the three steps add up from `base` to `decided`."""

    tag: str
    class_name: str
    base: float
    by_model: float
    by_inputs: float
    by_thresholds: float
    decided: float
    score_psi: float
    input_psi: float | None  # of its own probability
    model_psi: float
    causes: tuple[Cause, ...]
    far: bool  # beyond the second cut of anything


@dataclass(frozen=True)
class _Counted:
    """Counts of one window: scores `[T, B]`, tracks with each tag `[T]`, upstream's probabilities."""

    scores: NDArray[np.int64]
    decided: NDArray[np.int64]
    tuned: NDArray[np.int64]
    inputs: Inputs | None


@dataclass(frozen=True)
class _Part:
    """Tracks of one window, model and table."""

    window: int
    model: str
    table: NDArray[np.float64] | None  # [T] thresholds
    rows: NDArray[np.int64]


def spans(scores: RetainedScores, models: Sequence[str], since_ms: int, count: int) -> list[Span]:
    """So many windows of equal length over the tracks of these models since a moment; none where there are none."""
    times = [scores.window(model, since_ms=since_ms).span_ms for model in models if model in scores.models()]
    times = [one for one in times if one != (0, 0)]
    if not times:
        return []
    first, last = min(one[0] for one in times), max(one[1] for one in times)
    edges = np.linspace(first, last + 1, count + 1).round().astype(np.int64).tolist()
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]


def measure(
    scores: RetainedScores,
    windows: Sequence[Span],
    known: Mapping[str, Known],
    tables: Mapping[tuple[str, str], NDArray[np.float64]],
    base: Known,
    inputs: Sequence[Inputs | None],
) -> list[Window]:
    """Every window; `tables` are thresholds `[T]` by model and version, as far as they are known."""
    parts = _parts(scores, windows, known, tables)
    edges = base.reference.edges
    n_tags, bins = len(base.tuned), bins_by_bits(edges)
    counts = np.zeros((len(windows), n_tags, len(edges) - 1), np.int64)
    decided, tuned = np.zeros((2, len(windows), n_tags), np.int64)
    for tag in range(n_tags):
        column = scores.stored.column(tag)
        for part in parts:
            bits = column[part.rows]
            counts[part.window, tag] += np.bincount(bins[bits], minlength=counts.shape[2])
            tuned[part.window, tag] += np.count_nonzero(bits >= least_bits(known[part.model].tuned[tag]))
            if part.table is not None:
                decided[part.window, tag] += np.count_nonzero(bits >= least_bits(part.table[tag]))
    return [
        _window(
            span, [part for part in parts if part.window == number], known, base,
            _Counted(counts[number], decided[number], tuned[number], inputs[number]),
        )
        for number, span in enumerate(windows)
    ]  # fmt: skip


def _parts(
    scores: RetainedScores,
    windows: Sequence[Span],
    known: Mapping[str, Known],
    tables: Mapping[tuple[str, str], NDArray[np.float64]],
) -> list[_Part]:
    meta, stored = scores.stored.meta, scores.stored.rows[scores.newest]
    parts = []
    for number, (start, stop) in enumerate(windows):
        inside = (stored["at_ms"] >= start) & (stored["at_ms"] < stop)
        for model in known:
            if model not in meta.models:
                continue
            mine = inside & (stored["model"] == meta.models.index(model))
            for place in np.unique(stored["thresholds"][mine]).tolist():
                rows = scores.newest[mine & (stored["thresholds"] == place)]
                parts.append(_Part(number, model, tables.get((model, meta.thresholds[place])), rows))
    return parts


def _window(span: Span, parts: Sequence[_Part], known: Mapping[str, Known], base: Known, counted: _Counted) -> Window:
    models: dict[str, int] = {}
    for part in parts:
        models[part.model] = models.get(part.model, 0) + len(part.rows)
    tracks = sum(models.values())
    explained = sum(len(part.rows) for part in parts if part.table is not None)
    references = [known[model].reference for model in models] or [base.reference]
    weights = np.array([*models.values()] or [1]) / max(tracks, 1)
    fewest = min(one.tracks for one in references)
    mixed = sum(weight * one.scores / max(one.tracks, 1) for weight, one in zip(weights, references, strict=True))
    mixed = np.asarray(mixed) * fewest  # [T, B]
    shares = np.asarray(sum(weight * one.shares for weight, one in zip(weights, references, strict=True)))
    expected = references[int(np.argmax(weights))]  # models of a stream learn from much the same inputs
    of_inputs = None
    if counted.inputs is not None and expected.inputs is not None:
        of_inputs = Index.of(counted.inputs.counts, counted.inputs.tracks, expected.inputs, expected.tracks)
    tuned = counted.tuned / max(tracks, 1)
    return Window(
        span=span,
        models=models,
        unexplained=tracks - explained,
        decided=counted.decided / explained if explained else tuned,
        tuned=Share(tuned, tracks),
        reference=Share(shares, fewest),
        base=Share(base.reference.shares, base.reference.tracks),
        scores=Index.of(counted.scores, tracks, mixed, fewest),
        model=Index.of(mixed, fewest, base.reference.scores, base.reference.tracks),
        inputs=of_inputs,
    )


def judge(window: Window, classes: Mapping[str, str]) -> list[TagDrift]:
    """Every tag of a window that has tracks enough (`TRACKS_MIN`); `classes` by tag, in vocabulary order."""
    base, reference, tuned, decided = window.base.of, window.reference.of, window.tuned.of, window.decided
    touched = np.abs(decided - tuned) * window.tracks >= TRACKS_TOUCHED_MIN
    by_thresholds = _ratio(decided, tuned, SHARE_MOVED) & touched
    share_off = window.tuned.moved_from(window.reference)
    scores_off = window.scores.moved() | share_off
    inputs = None if window.inputs is None else window.inputs.moved()  # [F], the tags' own first
    own = np.zeros(len(tuned), bool) if inputs is None else inputs[: len(tuned)]
    by_inputs = own | (scores_off & (inputs is not None and bool(inputs.any())))
    unexplained = (window.scores.moved(FAR) | share_off) & ~by_inputs
    by_model = window.model.moved() | window.reference.moved_from(window.base)
    far = (scores_off & (window.scores.psi >= FAR)) | (by_model & (window.model.psi >= FAR))
    far |= _ratio(decided, base, SHARE_FAR)
    if window.inputs is not None:
        far |= own & (window.inputs.psi[: len(own)] >= FAR)
        by_model = by_model | unexplained
    found = []
    for number, (tag, class_name) in enumerate(classes.items()):
        causes = [
            (Cause.THRESHOLDS, by_thresholds[number]),
            (Cause.INPUTS, by_inputs[number]),
            (Cause.MODEL, by_model[number]),
            (Cause.UNKNOWN, unexplained[number] and inputs is None),
        ]
        moved = tuple(cause for cause, so in causes if so)
        found.append(
            TagDrift(
                tag=tag,
                class_name=class_name,
                base=float(base[number]),
                by_model=float(reference[number] - base[number]),
                by_inputs=float(tuned[number] - reference[number]),
                by_thresholds=float(decided[number] - tuned[number]),
                decided=float(decided[number]),
                score_psi=float(window.scores.psi[number]),
                input_psi=None if window.inputs is None else float(window.inputs.psi[number]),
                model_psi=float(window.model.psi[number]),
                causes=moved,
                far=bool(far[number]) and bool(moved),
            )
        )
    return found


def _ratio(now: NDArray[np.float64], then: NDArray[np.float64], cut: float) -> NDArray[np.bool_]:
    low, high = np.minimum(now, then), np.maximum(now, then)
    return (high > 0) & (high >= cut * low)


def begun(judged: Sequence[tuple[Span, Mapping[str, TagDrift]]], tag: str, cause: Cause) -> int:
    """When the newest unbroken run of windows with this cause began, milliseconds; windows oldest first."""
    start = judged[-1][0][0]
    for span, tags in reversed(judged):
        if cause not in tags[tag].causes:
            break
        start = span[0]
    return start
