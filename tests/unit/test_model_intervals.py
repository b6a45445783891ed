"""The bootstrap over artists: what a resample is, and that intervals contain their figure."""

import numpy as np
import pytest

from model import metrics
from model.intervals import RESAMPLES, draw, f1_intervals, sum_by_artist


def world(tracks=300, artists=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((tracks, 4)) < (0.3, 0.1, 0.02, 0.0)
    decisions = labels ^ (rng.random(labels.shape) < 0.1)
    return labels, decisions, np.array([f"A-{number}" for number in rng.integers(artists, size=tracks)])


def test_a_resample_is_the_artists_drawn_with_all_their_tracks():
    labels, decisions, artists = world()
    found = f1_intervals(labels, decisions, artists, seed=3)
    names = np.unique(artists)
    times = draw(np.random.default_rng(3), 50, len(names))
    assert (times.sum(axis=1) == len(names)).all()
    for index in (0, 7, 49):
        rows = np.concatenate(
            [np.flatnonzero(artists == n) for n, t in zip(names, times[index], strict=True) for _ in range(int(t))]
        )
        assert found.resamples[index] == pytest.approx(metrics.weighted_f1(labels[rows], decisions[rows]))
    assert len(found.resamples) == RESAMPLES


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("tracks", "artists"), [(1, 1), (12, 3), (300, 40)])
def test_the_figure_lies_in_its_interval(tracks, artists, seed):
    labels, decisions, names = world(tracks, artists, seed)
    for who in (names, None):
        found = f1_intervals(labels, decisions, who, seed)
        f1 = metrics.f1_per_tag(labels, decisions)
        assert (found.low <= f1).all() and (f1 <= found.high).all()
        assert (found.low >= 0).all() and (found.high <= 1).all()
        assert found.weighted == pytest.approx(metrics.weighted_f1(labels, decisions))
        assert found.weighted_low <= found.weighted <= found.weighted_high


def test_tracks_that_come_together_make_it_wider():
    rng = np.random.default_rng(1)
    artists = np.repeat(np.arange(30), 20)
    good = rng.random(30) < 0.5  # an artist's tracks are all decided rightly, or none
    labels = np.ones((600, 1), dtype=bool)
    decisions = good[artists][:, None]
    together, apart = f1_intervals(labels, decisions, artists), f1_intervals(labels, decisions, None)
    assert together.high[0] - together.low[0] > 3 * (apart.high[0] - apart.low[0])


def test_the_same_seed_gives_the_same_resamples_whatever_the_order_of_tracks():
    labels, decisions, artists = world()
    order = np.random.default_rng(5).permutation(len(artists))
    one, other = f1_intervals(labels, decisions, artists), f1_intervals(labels[order], decisions[order], artists[order])
    assert np.allclose(one.resamples, other.resamples)
    assert sum_by_artist(labels, artists).sum() == labels.sum()
