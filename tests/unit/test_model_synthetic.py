"""The simulated catalogue has the shape it aims at, and a seed says all of it."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from model.dataset import load_splits
from model.errors import ModelError
from model.synthetic import Shape, synthesize
from model.training import benchmark

QUICK = replace(Shape(), earlier_tracks=1_500, fit_steps=25)


def digest(folder) -> str:
    files = sorted(folder.rglob("*.parquet"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    assert synthesize(4_000, 1, folder, shape=QUICK) == {"train": 3_000, "val": 1_000}
    return folder


def test_what_it_looks_like(catalogue):
    splits = load_splits(catalogue)
    train, val = splits["train"], splits["val"]
    assert (train.vocabulary.n_tags, len(train.vocabulary.categories)) == (248, 40)
    assert not set(train.artists) & set(val.artists)
    assert not set(train.track_ids) & set(val.track_ids)
    assert 0.026 <= train.labels.mean() <= 0.040  # two hundred artists: a small sample
    assert 12 <= len(train) / len(set(train.artists)) <= 18
    frequency = train.labels.mean(axis=0)
    assert frequency.max() <= 0.38 and frequency.min() < 0.005
    same = (train.labels[1:] == train.labels[:-1]).all(axis=1)[train.artists[1:] == train.artists[:-1]]
    assert 0.38 <= same.mean() <= 0.52
    tags = np.array(train.vocabulary.tag_class) == 1
    phi = np.corrcoef(train.labels[:, tags & (frequency > 0)].T)
    assert 0.05 < phi[np.triu_indices(len(phi), 1)].mean() < 0.2  # instruments come together
    assert 0.3 < benchmark(val)["weighted_f1"] < 0.6


def test_same_seed_same_bytes(catalogue, tmp_path):
    synthesize(4_000, 1, tmp_path / "again", shape=QUICK)
    synthesize(4_000, 2, tmp_path / "other", shape=QUICK)
    assert digest(catalogue) == digest(tmp_path / "again") != digest(tmp_path / "other")


def test_mistakes(tmp_path):
    with pytest.raises(ModelError, match="at least 20"):
        synthesize(3, 0, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        synthesize(20, 0, tmp_path / "file", shape=QUICK)
