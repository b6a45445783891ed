"""The sample that a worker takes of its own work, and the gauges that are made of it."""

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from model.curves import histograms
from streamer.adapters.drift_gauges import TRACKS_MIN, DriftGauges, SamplingLoader, SamplingScorer
from streamer.core.drift_sample import ROWS, SLICE_S, SLICES, TRACKS_PER_S, DriftSample
from streamer.core.layout import Layout
from streamer.ports import LoadedModel, Serving
from tests.drift_world import TAGS, Rescorer, trained, upstream
from tests.fakes import FakeClock

OURS = Rescorer.seeded(1)
KNOWN = trained(OURS)
ROUND = 4096


def fed(sample: DriftSample, probabilities: np.ndarray, seconds: float = 1.0, scorer: Rescorer = OURS) -> float:
    """Small micro-batches, as often as a sample is taken; returns when it ended."""
    for start in range(0, len(probabilities), ROWS):
        rows = probabilities[start : start + ROWS]
        sample.add(rows, scorer.score(rows), seconds)
        seconds += ROWS / TRACKS_PER_S
    return seconds


def a_sample() -> DriftSample:
    return DriftSample(KNOWN.reference, KNOWN.tuned)


def test_it_counts_as_the_trainer_did():
    sample, probabilities = a_sample(), upstream(ROUND, seed=2)
    fed(sample, probabilities)
    scores = OURS.score(probabilities)
    assert sample.tracks == ROUND
    assert sample.tuned_shares().tolist() == (scores.astype(np.float64) >= KNOWN.tuned).mean(axis=0).tolist()
    psi, inputs = sample.psi()
    reference = KNOWN.reference
    assert inputs is not None and reference.inputs is not None
    expected = sample._groups.psi(
        np.concatenate([histograms(scores), histograms(probabilities)]),
        np.concatenate([reference.scores, reference.inputs]),
    )
    assert psi.tolist() == expected[:TAGS].tolist() and inputs.tolist() == expected[TAGS:].tolist()
    assert max(psi.max(), inputs.max()) < 0.1, "nothing has changed"


def test_few_of_a_micro_batch_and_seldom():
    sample, probabilities = a_sample(), upstream(ROUND, seed=3)
    for moment in np.linspace(100, 110, 1001).tolist():
        sample.add(probabilities, OURS.score(probabilities), moment)
    assert 10 * TRACKS_PER_S <= sample.tracks <= 11 * TRACKS_PER_S
    for moment in np.linspace(110, 120, 301).tolist():
        sample.add(probabilities[:3], OURS.score(probabilities[:3]), moment)
    assert 20 * TRACKS_PER_S <= sample.tracks <= 21.1 * TRACKS_PER_S, "small ones are taken whole"


def test_rows_that_were_rejected_do_not_count():
    sample, probabilities = a_sample(), upstream(ROWS, seed=4)
    scores = OURS.score(probabilities)
    probabilities[3, 5], probabilities[4, 6], probabilities[5, 7] = np.nan, 1.5, -0.5
    scores[6, 1] = np.nan
    sample.add(probabilities, scores, 1.0)
    assert sample.tracks == ROWS - 4


def test_after_an_hour_a_track_is_forgotten():
    sample = a_sample()
    seconds = fed(sample, upstream(ROUND, seed=5, moved={0: 2.0}))
    assert sample.psi()[0][0] > 0.25
    sample.add(upstream(ROWS, seed=6), OURS.score(upstream(ROWS, seed=6)), seconds + (SLICES - 2) * SLICE_S)
    assert sample.tracks == ROUND + ROWS
    fed(sample, upstream(ROUND, seed=7), seconds + SLICES * SLICE_S)
    assert sample.tracks == ROUND + ROWS and sample.psi()[0][0] < 0.1
    fed(sample, upstream(ROWS, seed=8), seconds + 100 * SLICES * SLICE_S)
    assert sample.tracks == ROWS


class Loader:
    """Hands out one model."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def champion(self) -> str | None:
        return self._model.version

    def load(self, version: str) -> LoadedModel:
        return self._model


class Serves:
    """What `DriftGauges` asks of `ServingControl`."""

    def __init__(self, model: LoadedModel) -> None:
        self.ready = True
        self._serving = Serving(model, None)  # type: ignore[arg-type]

    def current(self) -> Serving:
        return self._serving


def gauges(model: LoadedModel) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What /metrics would say, by name."""
    registry = CollectorRegistry()
    registry.register(DriftGauges(Serves(model)))  # type: ignore[arg-type]
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {family.name: [(one.labels, one.value) for one in family.samples] for family in families}


def test_the_gauges_tell_the_three_causes_apart():
    names = [f"tag{n:02d}" for n in range(TAGS)]
    layout = Layout.build("f", {"genres": {"tags": names, "categories": [f"c{n}" for n in range(12)]}})
    clock = FakeClock()
    bare = LoadedModel("M", layout, dict(zip(names, KNOWN.tuned.tolist(), strict=True)), OURS, KNOWN.reference)
    model = SamplingLoader(Loader(bare), clock).load("M")
    assert isinstance(model.scorer, SamplingScorer)
    first = gauges(model)
    assert "tagstream_score_psi" not in first, "too few tracks to tell anything"
    assert (
        dict((labels["tag"], value) for labels, value in first["tagstream_tag_reference_share"])["tag59"]
        == (KNOWN.reference.shares[59])
    )
    changed = upstream(ROUND, seed=9, moved={7: 1.5})
    fed(model.scorer.sample, changed)
    found = gauges(model)
    assert found["tagstream_drift_sample_tracks"][0][1] == ROUND >= TRACKS_MIN
    inputs = {labels["name"]: value for labels, value in found["tagstream_input_psi"]}
    assert inputs.pop("tag07") > 0.25 and max(inputs.values()) < 0.1
    assert {labels["list"] for labels, _ in found["tagstream_input_psi"]} == {"tags", "categories"}
    tuned = {labels["tag"]: value for labels, value in found["tagstream_tag_tuned_share"]}
    assert tuned["tag07"] > 1.5 * KNOWN.reference.shares[7]
    assert np.array_equal(model.scorer.score(changed), OURS.score(changed)), "what is scored is left as it is"


def test_a_model_without_a_reference_is_not_sampled():
    layout = Layout.build("f", {"genres": {"tags": ["a"], "categories": []}})
    bare = LoadedModel("M", layout, {"a": 0.5}, OURS)
    assert SamplingLoader(Loader(bare), FakeClock()).load("M") is bare and gauges(bare) == {}
