"""A simulated catalogue on disk: the layout, and a seed says all of it. What it looks like: test_synthetic_aims."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from model import synthetic
from model.dataset import load_splits
from model.errors import ModelError
from model.synthetic import synthesize
from model.synthetic_world import Shape

QUICK = replace(Shape(), earlier_tracks=600, population=800, fit_steps=5)


def digest(folder) -> str:
    files = sorted(folder.rglob("*.parquet"))
    assert len(files) == 20
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that a small catalogue has several."""
    monkeypatch.setattr(synthetic, "BLOCK", 500)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "BLOCK", 500)
        told = []
        sizes = synthesize(1_600, 1, folder, shape=QUICK, progress=lambda what, done: told.append((what, done)))
    assert sizes == {"train": 1_200, "val": 400}
    assert told == [("a world", 0), ("train", 0), ("train", 500), ("train", 1000), ("val", 1200), ("done", 1600)]
    return folder


def test_layout(catalogue):
    assert sorted(path.name for path in catalogue.iterdir()) == ["train", "val"]
    splits = load_splits(catalogue)
    train, val = splits["train"], splits["val"]
    assert (train.vocabulary.n_tags, len(train.vocabulary.categories)) == (248, 40)
    assert train.track_ids + val.track_ids == [f"T-{row:06d}" for row in range(1_600)]
    assert not set(train.artists) & set(val.artists)
    changes = int((train.artists[1:] != train.artists[:-1]).sum()) + 1
    assert changes == len(set(train.artists))  # an artist's tracks are together, in blocks too
    assert len(np.unique(train.probabilities, axis=0)) == 1_200  # no block is drawn twice


def test_same_seed_same_bytes(catalogue, tmp_path):
    synthesize(1_600, 1, tmp_path / "again", shape=QUICK)
    synthesize(1_600, 2, tmp_path / "other", shape=QUICK)
    assert digest(catalogue) == digest(tmp_path / "again") != digest(tmp_path / "other")


def test_another_seed_is_the_same_music_under_the_same_upstream(catalogue, tmp_path):
    """So a model trained on one catalogue is good for another."""
    synthesize(1_600, 2, tmp_path, shape=QUICK)
    one, other = load_splits(catalogue)["train"], load_splits(tmp_path)["train"]
    assert not set(one.artists) & set(other.artists)
    frequencies = np.array([one.labels.mean(axis=0), other.labels.mean(axis=0)])
    assert np.corrcoef(frequencies)[0, 1] > 0.9
    synthesize(1_600, 2, tmp_path, shape=replace(QUICK, world=7))
    frequencies[1] = load_splits(tmp_path)["train"].labels.mean(axis=0)
    assert np.corrcoef(frequencies)[0, 1] < 0.5


def test_over_confidence_is_what_is_asked_for(catalogue, tmp_path):
    synthesize(1_600, 1, tmp_path, shape=QUICK, over_confidence=0.0)
    hot, calm = load_splits(catalogue)["val"], load_splits(tmp_path)["val"]
    np.testing.assert_array_equal(hot.labels, calm.labels)
    logits = [np.log(d.probabilities / (1 - d.probabilities)) for d in (hot, calm)]
    np.testing.assert_allclose(logits[0] - logits[1], QUICK.over_confidence, atol=0.01)


def test_a_catalogue_replaces_another_only_when_it_is_whole(tmp_path, monkeypatch):
    synthesize(1_600, 1, tmp_path, shape=QUICK)
    before = digest(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(synthetic.pq.ParquetWriter, "write_table", full)
        with pytest.raises(ModelError, match="No space left on device"):
            synthesize(1_600, 2, tmp_path, shape=QUICK)
    assert digest(tmp_path) == before and sorted(path.name for path in tmp_path.iterdir()) == ["train", "val"]
    synthesize(1_600, 2, tmp_path, shape=QUICK)
    assert digest(tmp_path) != before and sorted(path.name for path in tmp_path.iterdir()) == ["train", "val"]


def test_mistakes(tmp_path):
    with pytest.raises(ModelError, match="at least 20"):
        synthesize(3, 0, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        synthesize(20, 0, tmp_path / "file", shape=QUICK)


def test_the_number_of_threads_is_not_in_the_bytes(tmp_path):
    threads = torch.get_num_threads()
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            synthesize(400, 1, tmp_path / str(count), shape=QUICK)
    finally:
        torch.set_num_threads(threads)
    assert digest(tmp_path / "1") == digest(tmp_path / "4")
