"""Figures of a data set, each against a plain computation of the same thing or against what was built in."""

import json
from dataclasses import replace

import numpy as np
import pytest

from model import catalogue_figures as figures
from tests.model_data import MOODS_ONLY, SMALL, make_dataset


def test_gini():
    assert figures.gini(np.full(5, 0.2)) == pytest.approx(0)
    assert figures.gini(np.array([0, 0, 0, 1.0])) == pytest.approx(0.75)  # (n - 1) / n
    values = np.random.default_rng(0).random(40)
    apart = np.abs(values[:, None] - values[None, :]).mean()
    assert figures.gini(values) == pytest.approx(apart / (2 * values.mean()))
    assert figures.gini(np.zeros(3)) == 0


def test_correlation_is_numpys():
    labels = make_dataset(200).labels
    np.testing.assert_allclose(figures.correlation(labels), np.corrcoef(labels.T), atol=1e-6)
    labels[:, 2] = 0
    phi = figures.correlation(labels)
    assert np.isnan(phi[2]).all() and not np.isnan(np.delete(np.delete(phi, 2, 0), 2, 1)).any()


def test_explained_by_others_is_a_regression():
    labels = make_dataset(300).labels.astype(float)
    found = figures.explained_by_others(figures.correlation(labels), 300)
    for tag in range(labels.shape[1]):
        others = np.column_stack([np.ones(300), np.delete(labels, tag, axis=1)])
        left = labels[:, tag] - others @ np.linalg.lstsq(others, labels[:, tag], rcond=None)[0]
        plain = 1 - left.var() / labels[:, tag].var()
        assert found[tag] == pytest.approx(1 - (1 - plain) * 299 / (300 - labels.shape[1]), abs=1e-6)


def test_components_of_low_rank():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 30))
    shares = figures.components(logits.astype(np.float32))
    assert shares.sum() == pytest.approx(1) and shares[:2].sum() == pytest.approx(1, abs=1e-6)
    assert len(figures.components(logits[:1])) == 0 and len(figures.components(np.ones((9, 3)))) == 0


def test_confidence_finds_what_was_added():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(40_000, 3)) - 2
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    labels[:, 2] = 0
    found = figures.confidence((logits + np.array([0.8, -0.3, 0.0])).astype(np.float32), labels)
    np.testing.assert_allclose(found[:2], [0.8, -0.3], atol=0.06)
    assert np.isnan(found[2])  # nothing is said of a tag that never comes


def test_noise_share():
    rng = np.random.default_rng(3)
    labels = (rng.random((5_000, 4)) < 0.5).astype(np.uint8)
    logits = 2 * labels + rng.normal(size=labels.shape)  # variance 1 from the label, 1 of noise
    assert figures.noise_share(logits.astype(np.float32), labels) == pytest.approx(np.sqrt(0.5), abs=0.01)


def test_reliability_counts_every_cell():
    dataset = make_dataset(100)
    probabilities = dataset.probabilities[:, : SMALL.n_tags]
    bins = figures.reliability(dataset.labels, probabilities)
    assert sum(row["cells"] for row in bins) == dataset.labels.size
    assert sum(row["cells"] * row["seen"] for row in bins) == pytest.approx(dataset.labels.sum())
    assert sum(row["cells"] * row["said"] for row in bins) == pytest.approx(probabilities.sum(), rel=1e-5)
    certain = figures.reliability(np.array([[1], [0]]), np.array([[1.0], [0.0]]))
    assert [(row["said"], row["seen"]) for row in certain] == [(0, 0), (1, 1)]


def test_description_holds_what_was_put_in():
    dataset = make_dataset(120)
    found = figures.describe(dataset)
    assert found["tracks"] == 120 and found["artists"] == 40
    assert found["labels"]["density"] == pytest.approx(dataset.labels.mean())
    assert list(found["classes"]) == ["genres", "instruments", "moods"]
    assert [(of["tags"], of["categories"]) for of in found["classes"].values()] == [(3, 2), (2, 0), (2, 1)]
    assert [row["positives"] for row in found["tags"]] == dataset.labels.sum(axis=0).tolist()
    assert [row["tag"] for row in found["tags"]] == list(SMALL.tags)
    pair = found["strongest_pairs"][0]
    phi = np.corrcoef(dataset.labels.T)[tuple(SMALL.tags.index(tag) for tag in pair["tags"])]
    assert pair["phi"] == pytest.approx(phi, abs=1e-6)
    assert pair["phi"] == pytest.approx(np.triu(np.corrcoef(dataset.labels.T), 1).max(), abs=1e-6)


@pytest.mark.parametrize("tracks", [1, 2, 7])
@pytest.mark.parametrize("vocabulary", [SMALL, MOODS_ONLY], ids=["three classes", "moods alone"])
def test_hardly_anything_is_described_all_the_same(tracks, vocabulary):
    dataset = make_dataset(tracks, vocabulary)
    bare = replace(dataset, labels=None, artists=None)
    silent = replace(dataset, labels=np.zeros_like(dataset.labels))
    for one in (dataset, bare, silent):
        found = figures.describe(one)
        assert found["tracks"] == tracks
        json.dumps(found, allow_nan=False)
    assert figures.describe(bare)["labels"] is None
