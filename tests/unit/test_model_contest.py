"""A challenger against the champion: the interval of the difference, from data or from two manifests."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from model.contest import by_data, by_manifests
from model.errors import ModelError
from model.intervals import RESAMPLES
from model.training import train
from tests.model_data import make_dataset, quick

DATA = make_dataset(300)


class Fixed:
    """A model whose scores are the labels, but for a share of the cells."""

    def __init__(self, wrong: float, seed: int = 0) -> None:
        self._wrong, self._seed = wrong, seed

    def score(self, probabilities):
        flipped = np.random.default_rng(self._seed).random(DATA.labels.shape) < self._wrong
        return np.where(flipped, 1 - DATA.labels, DATA.labels).astype(np.float16)

    def threshold_row(self):
        return np.full(DATA.labels.shape[1], 0.5)


def figures(**more):
    rng = np.random.default_rng(3)
    drawn = (0.5 + 0.01 * rng.normal(size=RESAMPLES)).tolist()
    return {"tracks": 300, "weighted_f1": 0.5, "fingerprint": "abc", "resamples": drawn, **more}


def shifted(found, by):
    return {**found, "weighted_f1": 0.5 + by, "resamples": [number + by for number in found["resamples"]]}


def manifest(**splits):
    return {"metrics": splits}


def test_worse_better_and_within_the_noise():
    good, same, bad = Fixed(0.10), Fixed(0.10, seed=1), Fixed(0.25)
    assert by_data(good, bad, DATA, "here").worse
    better = by_data(bad, good, DATA, "here")
    assert not better.worse and better.low > 0
    even = by_data(good, same, DATA, "here")
    assert not even.worse and even.low < 0 < even.high
    assert even.low <= even.challenger - even.champion <= even.high
    itself = by_data(good, good, DATA, "here")
    assert itself.low == itself.high == 0.0, "the same artists are drawn for both"
    assert "on here" in itself.sentence() and "95% interval +0.0000 to +0.0000" in itself.sentence()


def test_without_labels_nothing_is_measured():
    bare = SimpleNamespace(need_labels=lambda: (_ for _ in ()).throw(ModelError("no labels")))
    with pytest.raises(ModelError, match="no labels"):
        by_data(Fixed(0.1), Fixed(0.1), bare, "here")


def test_the_noise_of_a_difference_is_less_than_that_of_the_levels():
    one = figures()
    spread = np.quantile(one["resamples"], 0.975) - np.quantile(one["resamples"], 0.025)
    found = by_manifests(manifest(valid=one), manifest(valid=shifted(one, -0.004)))
    assert spread > 0.03 and found.worse, "far within the noise of either, but worse on every resample"


def test_the_reported_split_is_asked_before_the_folds():
    one, other = figures(), figures(fingerprint="folds")
    found = by_manifests(
        manifest(valid=one, out_of_fold=other),
        manifest(valid=shifted(one, 0.01), out_of_fold=shifted(other, -0.1)),
    )
    assert found.where == "on the same reported split" and found.challenger == pytest.approx(0.51)
    found = by_manifests(
        manifest(valid=one, out_of_fold=other),
        manifest(valid=figures(fingerprint="another split"), out_of_fold=shifted(other, -0.1)),
    )
    assert found.where == "out of fold on the same training data" and found.worse


def test_what_the_trainer_writes_is_enough():
    """Two models of the same data are compared by their manifests, as measured on the data itself."""
    data, valid = make_dataset(150), make_dataset(60, seed=5)
    linear, upstream = (train(data, valid, quick(name, epochs=1)).metrics for name in ("linear", "upstream"))
    unreported = train(data, None, quick("upstream")).metrics
    elsewhere = train(make_dataset(150, seed=9), None, quick("upstream")).metrics
    linear, upstream, unreported, elsewhere = (
        json.loads(json.dumps({"metrics": figures})) for figures in (linear, upstream, unreported, elsewhere)
    )
    found = by_manifests(linear, upstream)
    assert found.where == "on the same reported split" and found.tracks == 60
    assert found.champion == linear["metrics"]["valid"]["weighted_f1"]
    assert found.low < found.high and found.low <= found.challenger - found.champion <= found.high
    assert by_manifests(linear, unreported).where == "out of fold on the same training data"
    assert by_manifests(linear, elsewhere) is None


@pytest.mark.parametrize(
    "other",
    [
        {}, {"metrics": {}}, {"metrics": []}, {"metrics": {"valid": 3}},
        manifest(valid=figures(fingerprint="of other data")),
        manifest(valid=figures(resamples=[0.5])), manifest(valid=figures(resamples=["x"] * RESAMPLES)),
        manifest(valid=figures(resamples=None)), manifest(valid=figures(weighted_f1="high")),
        manifest(valid=figures(tracks=None)), manifest(valid={"tracks": 3, "weighted_f1": 0.5}),
        manifest(out_of_fold=figures()),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(other):
    assert by_manifests(manifest(valid=figures()), other) is None
    assert by_manifests(other, manifest(valid=figures())) is None
