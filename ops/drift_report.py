"""What `ops.drift` needs, got together: references of the models, tables, retained scores, a sample of the inputs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model import curves
from model.errors import ModelError
from model.manifest import read_manifest
from model.registry import Registry
from ops import drift, drift_inputs
from ops.drift import TRACKS_MIN, Cause, Known, Span, TagDrift, Window
from ops.errors import OpsError
from ops.thresholds_admin import Live, ThresholdsAdmin
from ops.thresholds_scores import RetainedScores
from streamer.core.drift import Reference
from streamer.core.errors import TagstreamError
from streamer.core.layout import Layout
from streamer.core.thresholds import BadThreshold, ThresholdTable
from streamer.settings import Settings


@dataclass(frozen=True)
class Report:
    """Windows oldest first, those with too few tracks left out; the last one's tags, judged."""

    model: str  # the active one
    base: str  # whose reference the models are compared with
    windows: Sequence[Window]
    judged: Sequence[Mapping[str, TagDrift]]  # by tag, of each window
    notes: Sequence[str]
    inputs: Sequence[tuple[str, float]]  # the last window's upstream probabilities that have moved, with their index

    @property
    def now(self) -> Sequence[TagDrift]:
        return list(self.judged[-1].values())

    @property
    def moved(self) -> list[TagDrift]:
        """The tags that have moved, the most first."""
        return sorted(
            (one for one in self.now if one.causes), key=lambda one: (not one.far, -abs(one.decided - one.base))
        )

    def count(self, cause: Cause, window: int = -1) -> int:
        """How many tags a cause has moved."""
        return sum(cause in one.causes for one in self.judged[window].values())

    def begun_ms(self, tag: str, cause: Cause) -> int:
        """Since when a tag is moved by a cause."""
        spans = [window.span for window in self.windows]
        return drift.begun(list(zip(spans, self.judged, strict=True)), tag, cause)


@dataclass
class _Models:
    """The models of the retained scores whose references are known."""

    registry: Registry
    tags: tuple[str, ...]
    known: dict[str, Known] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, model: str, tracks: int) -> None:
        try:
            self.known[model] = self.read(model)
        except ModelError as error:
            self.notes.append(f"{tracks:,} tracks of {model} are left out: {error}")

    def read(self, model: str) -> Known:
        """Raises ModelError."""
        manifest = read_manifest(self.registry.path(model))
        found = curves.read(self.registry.path(model), manifest)
        reference = Reference(curves.EDGES, found.tracks, found.scores(), found.inputs, found.tuned_shares())
        return Known(reference, ThresholdTable.build(self.tags, {}, manifest["thresholds"]).values)


def make(
    settings: Settings,
    admin: ThresholdsAdmin,
    live: Live,
    scores: RetainedScores,
    *,
    since_ms: int,
    count: int,
    sampled: int,
    base: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Report:
    """The report of now.

    Raises:
        OpsError: the active model has no reference, there are too few tracks, or Redis is away.
    """
    models = _Models(Registry(settings.models_dir), live.vocabulary.tags)
    for model, tracks in scores.models().items():
        models.add(model, tracks)
    if live.model not in models.known:
        try:
            models.known[live.model] = models.read(live.model)
        except ModelError as error:
            raise OpsError(f"drift is measured against what a model was tuned on: {error}") from None
    if models.known[live.model].reference.inputs is None:
        models.notes.append(
            f"{live.model} was made by an older trainer, which kept no distribution of upstream's probabilities: "
            "inputs and model cannot be told apart until the next training."
        )
    spans = drift.spans(scores, list(models.known), since_ms, count)
    if not spans:
        raise OpsError(f"no retained scores of {live.model} in that time: nothing has drifted, or nothing is known.")
    _refuse_too_few(scores, list(models.known), spans[-1])
    layout = Layout.build(live.vocabulary.fingerprint, live.vocabulary.classes)
    try:
        inputs = asyncio.run(drift_inputs.sample(settings, layout, spans, sampled, on_progress))
    except TagstreamError as error:
        models.notes.append(f"No upstream probabilities: {error}")
        inputs = [None] * len(spans)
    known_base = base or _oldest(scores, spans, list(models.known))
    if known_base not in models.known:
        models.known[known_base] = models.read(known_base)
    tables = _tables(admin, scores, models)
    measured = drift.measure(scores, spans, models.known, tables, models.known[known_base], inputs)
    return _report(live, known_base, measured, models.notes, layout)


def _refuse_too_few(scores: RetainedScores, models: Sequence[str], span: Span) -> None:
    tracks = sum(scores.tracks_within(model, *span) for model in models)
    if tracks < TRACKS_MIN:
        raise OpsError(
            f"the newest window has {tracks:,} tracks, {TRACKS_MIN} are needed to tell anything: "
            "ask for fewer --windows, or look back further with --since."
        )


def _report(live: Live, base: str, measured: Sequence[Window], notes: list[str], layout: Layout) -> Report:
    windows = [one for one in measured if one.tracks >= TRACKS_MIN]
    lost = sum(one.unexplained for one in windows)
    if lost:
        notes.append(f"Redis has lost the thresholds of {lost:,} tracks: their decided share is not known.")
    if windows[-1].inputs is None:
        notes.append("The input topic keeps no events of the newest window any more: inputs and model are one.")
    classes = {name: class_name for class_name, lists in live.vocabulary.classes.items() for name in lists["tags"]}
    judged = [{one.tag: one for one in drift.judge(window, classes)} for window in windows]
    names = [f"{one.field} {name}" for one in layout.lists for name in one.names]
    inputs: list[tuple[str, float]] = []
    known = windows[-1].inputs
    if known is not None:
        moved = np.flatnonzero(known.moved())
        inputs = sorted(((names[n], float(known.psi[n])) for n in moved), key=lambda pair: -pair[1])
    return Report(live.model, base, windows, judged, notes, inputs)


def _oldest(scores: RetainedScores, spans: Sequence[Span], models: Sequence[str]) -> str:
    """The model that has most tracks in the oldest window with enough of them."""
    for span in spans:
        counts = {model: scores.tracks_within(model, *span) for model in models}
        if sum(counts.values()) >= TRACKS_MIN:
            return max(counts, key=lambda model: counts[model])
    return models[-1]


def _tables(
    admin: ThresholdsAdmin, scores: RetainedScores, models: _Models
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Thresholds by model and version, as far as Redis holds them."""
    versions = list(scores.stored.meta.thresholds)
    found = {}
    for model in models.known:
        with admin.telling():
            texts = admin.redis.hmget(admin.keys.tables(model), versions) if versions else []
        for version, text in zip(versions, texts, strict=True):
            try:
                table = ThresholdTable.from_canonical(models.tags, text or "")
            except BadThreshold:
                continue
            if table.version == version:
                found[model, version] = table.values
    return found
