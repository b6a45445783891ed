"""The simulated catalogue meets every aim that was measured on real tag sets and real taggers, computed from its files.

Where an aim is a number, the tolerance stands beside it: what 20,000 tracks of 1,300 artists scatter, or less. Of the
upstream's making (noise, jitter, missed and unheard labels) no figure of the files tells, so these come from the world.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model import catalogue_figures, metrics, synthetic_world
from model.dataset import load_splits
from model.synthetic import synthesize
from model.synthetic_world import Shape, draw, make_world
from model.vocabulary import CLASSES
from tests.rescoring import gains

QUICK = replace(Shape(), earlier_tracks=1_000, population=1_000, fit_steps=5)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small sums: more threads only wait for each other, the more so on a machine that does other things too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    synthesize(20_000, 0, folder)
    return load_splits(folder)


@pytest.fixture(scope="module")
def found(splits):
    return catalogue_figures.describe(splits["train"])


@pytest.fixture(scope="module")
def gained(splits):
    return gains(splits["train"], splits["val"])


def of_classes(found, figure):
    return [found["classes"][name][figure] for name in CLASSES]


def test_vocabulary(found):
    assert of_classes(found, "tags") == [110, 60, 78] and sum(of_classes(found, "categories")) == 40


def test_frequencies(found):
    labels = found["labels"]
    assert 0.030 <= labels["density"] <= 0.036
    assert 7 <= labels["tags_per_track"] <= 9
    assert of_classes(found, "gini") == pytest.approx([0.60, 0.55, 0.35], abs=0.02)
    assert labels["most_frequent"] == pytest.approx(0.30, abs=0.02)
    assert labels["rarest"] == pytest.approx(0.0015, abs=0.0005)


def test_correlation(found):
    genres, instruments, moods = of_classes(found, "mean_phi")
    assert [genres, moods] == pytest.approx([0.02, 0.02], abs=0.006)
    assert instruments == pytest.approx(0.11, abs=0.015)
    assert found["labels"]["explained_by_other_tags"] == pytest.approx(0.145, abs=0.015)


def test_artists(found):
    assert found["labels"]["tracks_per_artist"] == pytest.approx(15, abs=1)
    assert found["labels"]["same_tags_as_artists_last"] == pytest.approx(0.44, abs=0.02)


def test_upstream_is_of_low_rank(found):
    assert all(0.29 <= share <= 0.49 for share in of_classes(found, "first_component"))
    assert all(share >= 0.88 for share in of_classes(found, "ten_components"))


def test_upstream_is_over_confident(found):
    assert found["upstream"]["over_confidence"] == pytest.approx(0.8, abs=0.05)


def test_the_half_rule(splits, found):
    labels = np.concatenate([split.labels for split in splits.values()])
    said = np.concatenate([split.probabilities[:, : labels.shape[1]] for split in splits.values()])
    assert metrics.weighted_f1(labels, said >= 0.5) == pytest.approx(0.456, abs=0.005)
    assert 0.970 <= found["upstream"]["accuracy_of_0.5_rule"] <= 0.975
    assert 0.085 <= found["upstream"]["bce"] <= 0.095


def test_what_thresholds_and_a_rescorer_gain(gained):
    assert 0.015 <= gained.thresholds - gained.rule <= 0.03
    assert 0.010 <= gained.rescorer - gained.thresholds <= 0.025
    assert 0.077 <= gained.rescored_bce <= 0.083


def test_noise_of_the_upstreams_logits():
    shape = Shape()
    taggers = make_world(shape).taggers
    per_logit = [shape.noise * np.linalg.norm(tagger.inner @ tagger.outer, axis=0) for tagger in taggers]
    assert np.concatenate(per_logit).mean() == pytest.approx(0.83, abs=0.05)


def test_jitter_of_the_over_confidence():
    offsets = [
        np.concatenate([tagger.offset for tagger in make_world(replace(QUICK, jitter=jitter)).taggers])
        for jitter in (0.0, Shape().jitter)
    ]
    assert (offsets[1] - offsets[0]).std() == pytest.approx(0.1, abs=0.015)


def test_labels_missing_where_the_upstream_was_fitted(monkeypatch):
    drawn, fitted = [], []
    draw, fit = synthetic_world.draw, synthetic_world._fit_tagger

    def noting_draw(*arguments):
        drawn.append(draw(*arguments))
        return drawn[-1]

    def noting_fit(audio, targets, *rest):
        fitted.append(targets)
        return fit(audio, targets, *rest)

    monkeypatch.setattr(synthetic_world, "draw", noting_draw)
    monkeypatch.setattr(synthetic_world, "_fit_tagger", noting_fit)
    world = make_world(QUICK)
    tags = [np.array(world.vocabulary.tag_class).tolist().count(index) for index in range(len(CLASSES))]
    annotated = sum(targets[:, :count].sum() for targets, count in zip(fitted, tags, strict=True))
    assert annotated / drawn[0].labels.sum() == pytest.approx(0.8, abs=0.02)


def test_labels_that_leave_no_trace():
    quiet = replace(QUICK, noise=0.0, artist_shift=0.0)
    catalogue = draw(make_world(quiet), quiet, 8_000, np.random.default_rng(0))
    alone = catalogue.labels.sum(axis=1) == 1
    assert alone.sum() > 300
    assert (catalogue.audio[alone] == 0).all(axis=1).mean() == pytest.approx(0.10, abs=0.04)
