"""What a change would do, held against counting it by hand; and thresholds suggested for an aim."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.curves import Curves, TagFigures, trace
from model.vocabulary import Vocabulary
from ops.errors import OpsError
from ops.thresholds_admin import Live
from ops.thresholds_preview import NEAR_SHARE, lately, preview, suggest_by_curve, suggest_by_share
from streamer.core.thresholds import ThresholdTable
from tests.retained import retained

TAGS = ("a", "b", "c")
TRACKS = 2000
TEXTS = st.floats(0, 1).map(lambda value: f"{value:.6f}") | st.just("off")
VOCABULARY = Vocabulary.build({"genres": {"tags": list(TAGS), "categories": []}})


def live_table(**texts: str) -> Live:
    tuned = dict.fromkeys(TAGS, 0.5)
    return Live("M", VOCABULARY, tuned, ThresholdTable.build(TAGS, texts, tuned), texts, "")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Scores [N, T], labels [N, T], and the window and curves made of them."""
    rng = np.random.default_rng(5)
    labels = rng.random((TRACKS, len(TAGS))) < (0.3, 0.05, 0.0)
    scores = np.clip(rng.normal(0.3 + 0.3 * labels, 0.15), 0, 1).astype(np.float16)
    window = retained(tmp_path_factory.mktemp("w"), TAGS, [f"T-{n}" for n in range(TRACKS)], scores).window("M")
    none = np.zeros(1, np.int64)
    figures = {}
    for number, tag in enumerate(TAGS):
        curve = trace(scores[:, number].astype(float), labels[:, number], 0.5)
        figures[tag] = TagFigures(0.5, int(labels[:, number].sum()), 0, 0, 0, 0, 0, curve, none, none)
    return scores, labels, window, Curves(TRACKS, figures)


@settings(max_examples=60)
@given(before=st.fixed_dictionaries(dict.fromkeys(TAGS, TEXTS)), after=st.dictionaries(st.sampled_from(TAGS), TEXTS))
def test_a_preview_is_what_deciding_twice_would_show(world, before, after):
    scores, _, window, curves = world
    live = live_table(**before)
    table = ThresholdTable.build(TAGS, {**before, **after}, live.tuned)
    found = preview(live, table, window, curves)
    old, new = (scores.astype(np.float64) >= one.values for one in (live.table, table))  # [N, T]
    assert found.touched == (old != new).any(axis=1).sum() and found.tracks == TRACKS
    assert [one.tag for one in found.tags] == [tag for tag in TAGS if after.get(tag, before[tag]) != before[tag]]
    for one in found.tags:
        number = TAGS.index(one.tag)
        was, will = old[:, number], new[:, number]
        assert (one.decided_before, one.decided_after) == (was.sum(), will.sum())
        assert (one.gained, one.lost) == ((will & ~was).sum(), (was & ~will).sum())
        for example in one.gaining:
            assert (will & ~was)[int(example.track_id[2:])]
        for example in one.losing:
            assert (was & ~will)[int(example.track_id[2:])]
        assert len(one.gaining) + len(one.losing) == min(3, one.gained + one.lost)


def test_rates_are_those_of_the_curve_and_window_or_curves_may_be_missing(world):
    scores, labels, window, curves = world
    live = live_table()
    table = ThresholdTable.build(TAGS, {"a": "0.6", "b": "off"}, live.tuned)
    a, b = preview(live, table, None, curves).tags
    decided = scores[:, 0].astype(float) >= 0.5
    assert a.rates is not None and a.rates.before.precision == pytest.approx(
        (decided & labels[:, 0]).sum() / decided.sum()
    )
    assert a.rates.after.recall < a.rates.before.recall and (a.gained, a.lost) == (0, 0)
    assert b.rates is not None and b.rates.after.share == 0
    assert preview(live, table, window, None).tags[0].rates is None


def test_what_a_table_did_lately(world):
    scores, _, window, _ = world
    live = live_table(b="off")
    found = lately(window, live.table)
    wide = scores[:, 0].astype(np.float64)
    assert found["a"].decided == (wide >= 0.5).sum()
    assert found["a"].near_misses == ((wide >= 0.5 * NEAR_SHARE) & (wide < 0.5)).sum() > 0
    assert (found["b"].decided, found["b"].near_misses) == (0, 0)


def test_a_value_for_a_precision_or_a_recall_is_the_best_that_the_curve_has(world):
    scores, labels, _, curves = world
    wide, has = scores[:, 0].astype(np.float64), labels[:, 0]

    def rates(at):
        decided = wide >= at
        return (decided & has).sum() / decided.sum(), (decided & has).sum() / has.sum()

    at = suggest_by_curve(curves, "a", precision=0.8)
    lower = [t for t in curves.tags["a"].curve.thresholds if t < at]
    assert rates(at)[0] >= 0.8 and all(rates(t)[0] < 0.8 for t in lower)
    at = suggest_by_curve(curves, "a", recall=0.7)
    higher = [t for t in curves.tags["a"].curve.thresholds if t > at and (wide >= t).any()]
    assert rates(at)[1] >= 0.7 and all(rates(t)[1] < 0.7 for t in higher)


def test_an_aim_that_cannot_be_reached_is_told_with_what_can(world):
    _, _, window, curves = world
    three = trace(np.array([0.9, 0.8, 0.7]), np.array([False, True, True]), 0.5)
    hard = Curves(3, {"b": replace(curves.tags["b"], curve=three)})
    with pytest.raises(OpsError, match=r"no threshold of 'b' has precision 0.9: the most is 0\.667, at 0\.$"):
        suggest_by_curve(hard, "b", precision=0.9)
    with pytest.raises(OpsError, match="no labelled track of the training had 'c'"):
        suggest_by_curve(curves, "c", recall=0.5)
    empty = window.scores.window("another model")
    with pytest.raises(OpsError, match="no retained scores"):
        suggest_by_share(empty, 0, "a", 0.1)


@settings(max_examples=40)
@given(st.floats(0.001, 1), st.integers(0, len(TAGS) - 1))
def test_a_value_for_a_share_comes_as_near_as_any_threshold(world, share, number):
    scores, _, window, _ = world
    at = suggest_by_share(window, number, TAGS[number], share)
    assert at == round(at, 6)
    wide = scores[:, number].astype(np.float64)
    every = np.array([(wide >= value).mean() for value in np.unique(wide)])
    assert abs(window.decided(number, at) / TRACKS - share) == pytest.approx(np.abs(every - share).min(), abs=1e-9)
