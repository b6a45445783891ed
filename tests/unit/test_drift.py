"""What has changed: each of three causes injected and named, none where there is none, and the index itself."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from model.curves import EDGES, histograms
from ops import drift
from ops.drift import Cause, TagDrift, Window
from ops.thresholds_scores import RetainedScores
from ops.thresholds_store import ScoreStore
from streamer.core.drift import Groups, bins_by_bits, by_chance
from tests.drift_world import CLASSES, TAGS, Rescorer, sampled, trained, upstream
from tests.retained import append

OURS, THEIRS = Rescorer.seeded(1), Rescorer.seeded(2)
KNOWN = {"M": trained(OURS), "N": trained(THEIRS)}
TABLES = {(name, "tuned"): known.tuned for name, known in KNOWN.items()}
TRACKS = 3000


@pytest.fixture
def windows(tmp_path):
    """Measures windows, each made of probabilities, who scored them and the table they were decided under."""
    store = ScoreStore(tmp_path, "test", TAGS)

    def measure(*parts, known=KNOWN, tables=TABLES, inputs=True) -> list[Window]:
        spans, samples = [], []
        for number, (probabilities, scorer, name, table) in enumerate(parts):
            ids = [f"T-{number}-{row}" for row in range(len(probabilities))]
            start = number * 10_000
            append(store, ids, scorer.score(probabilities), model=name, thresholds=table, start_ms=start)
            spans.append((start, start + 10_000))
            samples.append(sampled(probabilities) if inputs else None)
        kept = RetainedScores(list(CLASSES), store.reader())
        return drift.measure(kept, spans, known, tables, known["M"], samples)

    return measure


def moved(window: Window) -> dict[str, tuple[Cause, ...]]:
    return {one.tag: one.causes for one in drift.judge(window, CLASSES) if one.causes}


def adds_up(tags: list[TagDrift]) -> bool:
    """Whether the three steps lead from the reference to what is decided."""
    return all(
        math.isclose(one.base + one.by_model + one.by_inputs + one.by_thresholds, one.decided, abs_tol=1e-9)
        for one in tags
    )


def test_nothing_is_told_where_nothing_has_changed(windows):
    """Windows of new artists: of 40 * 60 tags and 40 * 72 probabilities hardly any may be told to have moved."""
    found = windows(*((upstream(TRACKS, seed=100 + n), OURS, "M", "tuned") for n in range(40)))
    alarms = Counter(cause for window in found for causes in moved(window).values() for cause in causes)
    inputs = sum(int(window.inputs.moved().sum()) for window in found if window.inputs is not None)
    assert alarms.total() + inputs <= 1, (alarms, inputs)


def test_small_windows_do_not_cry_wolf(windows):
    found = windows(*((upstream(drift.TRACKS_MIN, seed=200 + n), OURS, "M", "tuned") for n in range(40)))
    alarms = Counter(cause for window in found for causes in moved(window).values() for cause in causes)
    assert alarms.total() <= 1, alarms


def test_another_threshold(windows):
    edited = KNOWN["M"].tuned.copy()
    edited[7], edited[50] = 0.5 * edited[7], np.inf
    tables = {**TABLES, ("M", "edited"): edited}
    (found,) = windows((upstream(TRACKS, seed=5), OURS, "M", "edited"), tables=tables)
    assert moved(found) == {"tag07": (Cause.THRESHOLDS,), "tag50": (Cause.THRESHOLDS,)}
    tags = drift.judge(found, CLASSES)
    assert adds_up(tags) and tags[7].by_thresholds > 0 and tags[50].decided == 0 and tags[50].far


def test_other_inputs(windows):
    (found,) = windows((upstream(TRACKS, seed=6, moved={7: 1.2, 65: 1.5}), OURS, "M", "tuned"))
    assert found.inputs is not None and np.flatnonzero(found.inputs.moved()).tolist() == [7, 65]
    causes = moved(found)
    assert causes["tag07"] == (Cause.INPUTS,) and set(causes.values()) == {(Cause.INPUTS,)}
    tags = drift.judge(found, CLASSES)
    assert adds_up(tags) and tags[7].by_inputs > 0 and tags[7].by_thresholds == tags[7].by_model == 0
    assert tags[7].score_psi > 0.1 and tags[7].input_psi is not None and tags[7].input_psi > 0.1


def test_another_model(windows):
    before, found = windows(
        (upstream(TRACKS, seed=7), OURS, "M", "tuned"), (upstream(TRACKS, seed=8), THEIRS, "N", "tuned")
    )
    assert moved(before) == {}
    causes = moved(found)
    assert len(causes) > TAGS / 3 and set(causes.values()) == {(Cause.MODEL,)}
    assert adds_up(drift.judge(found, CLASSES))
    assert np.mean([abs(one.by_inputs) for one in drift.judge(found, CLASSES)]) < 0.02, "chance, no more"


def test_a_model_that_no_more_does_what_it_did(windows):
    """Its version is the same, and so is what it is given: a wrong device or library, say."""
    (found,) = windows((upstream(TRACKS, seed=9), Rescorer(OURS.mix, OURS.bias + 1.5), "M", "tuned"))
    causes = moved(found)
    assert len(causes) > TAGS / 2 and set(causes.values()) == {(Cause.MODEL,)}


def test_all_at_once_are_told_apart(windows):
    edited = KNOWN["N"].tuned.copy()
    edited[20] = 0.4 * edited[20]
    tables = {**TABLES, ("N", "edited"): edited}
    _, found = windows(
        (upstream(TRACKS, seed=10), OURS, "M", "tuned"),
        (upstream(TRACKS, seed=11, moved={30: 1.5}), THEIRS, "N", "edited"), tables=tables,
    )  # fmt: skip
    causes = moved(found)
    assert {tag for tag, mine in causes.items() if Cause.THRESHOLDS in mine} == {"tag20"}
    assert Cause.INPUTS in causes["tag30"]
    assert sum(Cause.MODEL in mine for mine in causes.values()) > TAGS / 3


def test_without_a_reference_or_a_sample_of_the_inputs_that_is_said(windows):
    elder = trained(OURS, with_inputs=False)
    changed = upstream(TRACKS, seed=12, moved={7: 1.2})
    (found,) = windows((changed, OURS, "M", "tuned"), known={"M": elder})
    assert found.inputs is None and moved(found)["tag07"] == (Cause.UNKNOWN,)


def test_tracks_whose_table_is_lost_are_left_out_of_what_is_decided(windows):
    half = TRACKS // 2
    one, two = windows(
        (upstream(half, seed=13), OURS, "M", "lost"), (upstream(half, seed=14), OURS, "M", "tuned"), inputs=False
    )
    assert one.unexplained == half and two.unexplained == 0
    assert one.decided.tolist() == one.tuned.of.tolist(), "nothing is put down to thresholds that nobody knows"


def test_since_when():
    def judged(*causes):
        tag = TagDrift("a", "genres", 0, 0, 0, 0, 0, 0, None, 0, (), False)
        return [
            ((n * 10, n * 10 + 10), {"a": TagDrift(*(*tag_fields(tag)[:-2], mine, False))})
            for n, mine in enumerate(causes)
        ]

    def tag_fields(tag):
        return [getattr(tag, name) for name in TagDrift.__slots__]

    inputs = (Cause.INPUTS,)
    assert drift.begun(judged(inputs, (), inputs, inputs), "a", Cause.INPUTS) == 20
    assert drift.begun(judged(inputs, inputs), "a", Cause.INPUTS) == 0


def test_windows_cover_every_track_once(tmp_path):
    store = ScoreStore(tmp_path, "test", 1)
    append(store, [f"T-{n}" for n in range(100)], np.zeros((100, 1), np.float16), start_ms=1000)
    kept = RetainedScores(("a",), store.reader())
    spans = drift.spans(kept, ["M", "absent"], 1010, 7)
    assert spans[0][0] == 1010 and spans[-1][1] == 1100 and len(spans) == 7
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert drift.spans(kept, ["M"], 2000, 7) == [] and len(drift.spans(kept, ["M"], 1099, 7)) == 1


def test_the_index_is_its_formula():
    reference, now = np.array([[0, 50, 50, 100, 0, 0]]), np.array([[5, 20, 40, 30, 5, 0]])
    groups = Groups.of(reference)
    assert groups.place.tolist() == [[0, 0, 1, 2, 2, 2]], "no group without a tenth of the reference"
    then = (np.array([50, 50, 100]) + 0.5) / 201.5
    mine = (np.array([25, 40, 35]) + 0.5) / 101.5
    assert groups.psi(now, reference)[0] == pytest.approx(
        sum((a - e) * math.log(a / e) for a, e in zip(mine, then, strict=True))
    )
    assert groups.psi(reference, reference)[0] == 0 and groups.psi(np.zeros((1, 6), int), reference)[0] == 0


def test_chance_passes_its_bound_as_seldom_as_it_says():
    rng = np.random.default_rng(3)
    draw = lambda: histograms(rng.normal(0.3, 0.1, (800, 2000)).clip(0, 1))  # noqa: E731
    reference = draw()
    groups = Groups.of(reference)
    psi = groups.psi(draw(), reference)
    assert 0.005 < (psi > by_chance(groups.count, 800, 800, 0.01)).mean() < 0.02


def test_bins_are_those_of_numpys_histogram():
    values = np.arange(0x3C01, dtype=np.uint16).view(np.float16)
    counts = np.bincount(bins_by_bits(EDGES), minlength=len(EDGES) - 1)
    assert counts.tolist() == np.histogram(values.astype(np.float64), EDGES)[0].tolist()
