"""Retained scores on this machine: the newest of each track, whole after anything, and exact for any threshold."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import thresholds_store
from ops.thresholds_scores import RetainedScores, least_bits
from ops.thresholds_store import IDS, META, ROWS, SCORED, UNUSABLE, WITHDRAWN, ScoreStore
from tests.retained import append, retained

TAGS = ("a", "b", "c")
THRESHOLDS = st.floats(0, 1) | st.integers(0, 10**6).map(lambda n: n / 10**6) | st.just(math.inf)


def some(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((n, len(TAGS))).astype(np.float16)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[np.ndarray, RetainedScores]:
    scores = some(3000)
    scores[:50, 0] = 0
    scores[50:90, 0] = 1
    ids = [f"T-{n}" for n in range(len(scores))]
    return scores, retained(tmp_path_factory.mktemp("many"), TAGS, ids, scores)


@given(THRESHOLDS, THRESHOLDS)
def test_counts_are_those_of_the_contracts_own_comparison(many, one, other):
    scores, kept = many
    window = kept.window("M")
    for tag in range(len(TAGS)):
        wide = scores[:, tag].astype(np.float64)
        assert window.decided(tag, one) == (wide >= one).sum()
        low, high = sorted((one, other))
        assert window.between(tag, low, high) == ((wide >= low) & (wide < high)).sum()
        for track, score in window.examples(tag, low, high, 5):
            assert float(scores[int(track[2:]), tag]) == score and low <= score < high


@given(st.integers(0, 0x3C00), THRESHOLDS)
def test_the_least_bits_that_reach_a_threshold(bits, threshold):
    score = float(np.uint16(bits).view(np.float16))
    assert (bits >= least_bits(threshold)) == (score >= threshold)


def test_a_histogram_counts_as_numpy_does(many):
    scores, kept = many
    edges = np.array([0, 0.1, 0.25, 0.999, 1.0])
    for tag in range(len(TAGS)):
        expected = np.histogram(scores[:, tag].astype(np.float64), edges)[0]
        assert kept.window("M").histogram(tag, edges).tolist() == expected.tolist()


def test_windows_by_number_time_and_model(tmp_path):
    store = ScoreStore(tmp_path, "test", len(TAGS))
    append(store, [f"T-{n}" for n in range(10)], some(10))
    append(store, [f"U-{n}" for n in range(5)], some(5), model="N", start_ms=100)
    kept = RetainedScores(TAGS, store.reader())
    assert kept.models() == {"M": 10, "N": 5}
    assert kept.window("M", last=3).span_ms == (7, 9) and kept.window("M", since_ms=4).tracks == 6
    assert kept.window("N").tracks == 5 and kept.window("other").tracks == 0
    assert kept.window("other").decided(0, 0.0) == 0


def test_the_newest_of_each_track_counts_and_withdrawn_ones_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(thresholds_store, "SEGMENT_ROWS", 4)  # several segments
    store = ScoreStore(tmp_path, "test", len(TAGS))
    first, second = some(6), some(4, seed=2)
    append(store, [f"T-{n}" for n in range(6)], first)
    append(store, ["T-1", "T-2", "T-3", "T-9"], second, states=[SCORED, WITHDRAWN, UNUSABLE, SCORED])
    kept = RetainedScores(TAGS, ScoreStore(tmp_path, "test", len(TAGS)).reader())
    assert sorted(kept.stored.track_id(row) for row in kept.newest) == ["T-0", "T-1", "T-4", "T-5", "T-9"]
    again = kept.track("T-1")
    assert again is not None and again["scores"].tolist() == second[0].tolist()
    assert kept.track("T-2") is None and kept.track("T-3") is None and kept.track("T-77") is None
    assert kept.window("M").decided(1, 0.5) == (np.r_[first[[0, 4, 5], 1], second[[0, 3], 1]] >= 0.5).sum()


def test_what_was_not_committed_was_not_written(tmp_path):
    store = ScoreStore(tmp_path, "test", len(TAGS))
    append(store, ["T-0", "T-1"], some(2))
    whole = store.meta.rows
    store.commit = lambda: None  # type: ignore[method-assign]  # the process ends before it
    append(store, ["T-2", "T-3"], some(2, seed=2))
    after = ScoreStore(tmp_path, "test", len(TAGS))
    assert after.meta.rows == whole
    append(after, ["T-4"], some(1, seed=3))
    kept = RetainedScores(TAGS, after.reader())
    assert [kept.stored.track_id(row) for row in kept.newest] == ["T-0", "T-1", "T-4"]
    assert kept.stored.scores(2).tolist() == some(1, seed=3)[0].tolist()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / META).write_text("{"),
        lambda folder: (folder / META).write_text('{"format": 0}'),
        lambda folder: (folder / ROWS).write_bytes(b"short"),
        lambda folder: (folder / IDS).unlink(),
        lambda folder: next(folder.glob("scores-*")).unlink(),
    ],
)
def test_files_that_are_not_whole_count_as_none(tmp_path: Path, damage):
    append(ScoreStore(tmp_path, "test", len(TAGS)), ["T-0"], some(1))
    assert ScoreStore(tmp_path, "test", len(TAGS)).meta.rows == 1
    assert ScoreStore(tmp_path, "of another topic", len(TAGS)).meta.rows == 0
    damage(tmp_path)
    assert ScoreStore(tmp_path, "test", len(TAGS)).meta.rows == 0


def test_who_reads_goes_on_while_the_files_are_made_anew(tmp_path):
    store = ScoreStore(tmp_path, "test", len(TAGS))
    scores = some(5)
    append(store, [f"T-{n}" for n in range(5)], scores)
    kept = RetainedScores(TAGS, store.reader())
    with store.writing():
        store.clear()
        append(store, ["U-0"], some(1, seed=9))
    assert kept.window("M").decided(0, 0.5) == (scores[:, 0] >= 0.5).sum() and kept.stored.track_id(4) == "T-4"
