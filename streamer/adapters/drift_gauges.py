"""How far the stream is from what the model was tuned on, as gauges that keep three causes apart.

The share of tracks that get a tag goes from the reference's to today's in three steps, each a gauge's difference from
the next: `tagstream_tag_reference_share` changes with the model alone, from it to `tagstream_tag_tuned_share` it is the
inputs, and from there to what is decided (`tagstream_tag_decisions_total`) it is the thresholds. The indices say
whether upstream's probabilities or the scores have moved.

The sample is taken where the scorer hands its scores back, in its own thread: off the event loop. The series are
bounded: beyond `MAX_SERIES` tags or inputs the rest has none.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.adapters.metrics import gauge
from streamer.core.drift_sample import DriftSample
from streamer.core.layout import CLASSES, Layout
from streamer.core.thresholds import ThresholdTable
from streamer.ports import Clock, LoadedModel, Scorer
from streamer.serving import ModelLoader, ServingControl

MAX_SERIES = 1000
TRACKS_MIN = 500  # in the sample; before, an index is mostly chance


class SamplingScorer:
    """A `Scorer` that hands on to another, and shows a sample of its work."""

    def __init__(self, scorer: Scorer, sample: DriftSample, clock: Clock) -> None:
        self.sample = sample
        self._scorer = scorer
        self._clock = clock

    def score(self, probabilities: NDArray[np.float64]) -> NDArray[np.float16]:
        scores = self._scorer.score(probabilities)
        self.sample.add(probabilities, scores, self._clock.monotonic_s())
        return scores


class SamplingLoader:
    """A `ModelLoader` whose models are sampled where they know what they were tuned on."""

    def __init__(self, loader: ModelLoader, clock: Clock) -> None:
        self._loader = loader
        self._clock = clock

    def champion(self) -> str | None:
        return self._loader.champion()

    def load(self, version: str) -> LoadedModel:
        model = self._loader.load(version)
        if model.reference is None:
            return model
        tuned = ThresholdTable.build(model.layout.tags, {}, model.tuned)
        sample = DriftSample(model.reference, tuned.values)
        return replace(model, scorer=SamplingScorer(model.scorer, sample, self._clock))


class DriftGauges(Collector):
    """Of the model in use, read at scrape time."""

    def __init__(self, serving: ServingControl) -> None:
        self._serving = serving

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        scorer = self._serving.current().model.scorer if self._serving.ready else None
        if not isinstance(scorer, SamplingScorer):
            return
        layout, sample = self._serving.current().model.layout, scorer.sample
        yield gauge("tagstream_drift_sample_tracks", "Tracks of the last hour that drift is measured on", sample.tracks)
        yield _by_tag(
            "tagstream_tag_reference_share",
            "Share of the tracks the model was tuned on that its tuned thresholds decide",
            layout,
            sample.reference.shares,
        )
        if sample.tracks < TRACKS_MIN:
            return
        scores, inputs = sample.psi()
        text = "Share of the sampled tracks that the tuned thresholds, not those of now, would decide"
        yield _by_tag("tagstream_tag_tuned_share", text, layout, sample.tuned_shares())
        text = "Population stability index of a tag's scores against those it was tuned on"
        yield _by_tag("tagstream_score_psi", text, layout, scores)
        if inputs is not None:
            yield _by_input(layout, inputs)


def _by_tag(name: str, text: str, layout: Layout, values: Sequence[float] | NDArray[np.float64]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["class", "tag"])
    for tag, place, value in list(zip(layout.tags, layout.tag_class, values, strict=True))[:MAX_SERIES]:
        family.add_metric([CLASSES[place], tag], float(value))
    return family


def _by_input(layout: Layout, values: NDArray[np.float64]) -> Metric:
    text = "Population stability index of upstream's probabilities against those of the training"
    family = GaugeMetricFamily("tagstream_input_psi", text, labels=["class", "list", "name"])
    names = [(one.class_name, one.list_name, name) for one in layout.lists for name in one.names]
    for labels, value in list(zip(names, values.tolist(), strict=True))[:MAX_SERIES]:
        family.add_metric(labels, value)
    return family
