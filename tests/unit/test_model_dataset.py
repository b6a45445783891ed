"""Data sets are read whole or refused with the file, the column and the row."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from model.dataset import load, load_splits
from model.errors import ModelError
from tests.model_data import MOODS_ONLY, SMALL, make_dataset, write_dataset, write_table


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("prefix", ["input_", ""])
def test_reads_what_was_written(tmp_path, suffix, prefix):
    written = make_dataset(30)
    read = load(write_dataset(tmp_path / "d", written, suffix=suffix, prefix=prefix))
    assert read.track_ids == written.track_ids
    assert read.vocabulary == SMALL
    np.testing.assert_allclose(read.probabilities, written.probabilities, rtol=1e-6)
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_array_equal(read.artists, written.artists)
    assert read.probabilities.dtype == np.float32 and read.labels.dtype == np.uint8


def test_columns_are_all_tags_then_all_categories(tmp_path):
    read = load(write_dataset(tmp_path / "d", make_dataset(5)))
    names = [f"{group.class_name}.{group.list_name}" for group in read.vocabulary.groups]
    assert names == [
        "genres.tags",
        "instruments.tags",
        "moods.tags",
        "genres.categories",
        "instruments.categories",
        "moods.categories",
    ]
    assert read.vocabulary.tag_class == (0, 0, 0, 1, 1, 2, 2)


def test_files_in_another_row_order_are_aligned(tmp_path):
    written = make_dataset(20)
    folder = write_dataset(tmp_path / "d", written)
    order = np.random.default_rng(0).permutation(20)
    names = SMALL.classes["moods"]["tags"]
    ids = [written.track_ids[row] for row in order]
    write_table(folder / "output_moods_tags_data.parquet", ids, names, written.labels[order, 5:])
    np.testing.assert_array_equal(load(folder).labels, written.labels)


def test_numeric_ids_and_label_columns_in_another_order(tmp_path):
    written = make_dataset(6, MOODS_ONLY)
    folder = tmp_path / "d"
    folder.mkdir()
    text = "ChallengeID,calm,wild,odd\n007,0.5,0.25,1\n8,0,0,0\n"
    (folder / "input_moods_tags_data.csv").write_text(text)
    (folder / "output_moods_tags_data.csv").write_text("ChallengeID,odd,calm,wild\n007,1,0,0\n8,0,0,1\n")
    read = load(folder)
    assert read.track_ids == ["007", "8"]
    assert read.labels.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert written.vocabulary == read.vocabulary


def test_labels_and_artists_may_be_absent(tmp_path):
    bare = replace(make_dataset(8), labels=None, artists=None)
    read = load(write_dataset(tmp_path / "d", bare))
    assert read.labels is None and read.artists is None
    with pytest.raises(ModelError, match="no labels"):
        read.need_labels()


def test_splits(tmp_path):
    write_dataset(tmp_path / "train", make_dataset(9))
    write_dataset(tmp_path / "val", make_dataset(6, seed=1))
    assert {name: len(split) for name, split in load_splits(tmp_path).items()} == {"train": 9, "val": 6}
    shutil.rmtree(tmp_path / "val")
    write_dataset(tmp_path / "val", make_dataset(6, MOODS_ONLY))
    with pytest.raises(ModelError, match="other columns"):
        load_splits(tmp_path)


def bad_file(cell: str) -> str:
    return f"ChallengeID,calm,wild,odd\nT-1,0.5,0.5,0.5\nT-2,0.5,{cell},0.5\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bad_file("1.2"), ["wild", "row 2", "T-2", "1.2", "[0, 1]"]),
        (bad_file("-0.1"), ["wild", "row 2", "-0.1"]),
        (bad_file("nan"), ["wild", "row 2"]),
        (bad_file(""), ["wild", "row 2", "empty"]),
        (bad_file("loud"), ["wild", "row 2", "'loud'", "not a number"]),
        (bad_file("inf"), ["wild", "row 2", "inf"]),
        ("id,calm\nT-1,0.5\n", ["no column ChallengeID"]),
        ("ChallengeID,calm\nT-1,0.5\nT-1,0.5\n", ["T-1", "twice", "row 2"]),
        ("ChallengeID,calm\n,0.5\n", ["ChallengeID", "row 1", "empty"]),
        ("ChallengeID,calm\n", ["no rows"]),
        ("ChallengeID,calm,calm\nT-1,0.5,0.5\n", ["'calm' twice"]),
        ("ChallengeID,calm\nT-1,0.5,0.5\n", ["cannot be read"]),
        ("ChallengeID\nT-1\n", ["no tags"]),
    ],
)
def test_bad_input_files(tmp_path, text, words):
    (tmp_path / "input_moods_tags_data.csv").write_text(text)
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ChallengeID,calm\nT-1,2\nT-2,0\n", ["calm", "row 1", "0 or 1"]),
        ("ChallengeID,wild\nT-1,1\nT-2,0\n", ["'wild'", "input columns lack"]),
        ("ChallengeID,calm,odd\nT-1,1,0\nT-2,0,0\n", ["'odd'", "input columns lack"]),
        ("ChallengeID,calm\nT-1,1\n", ["no row", "T-2"]),
        ("ChallengeID,calm\nT-1,1\nT-2,1\nT-3,1\n", ["T-3", "other files lack"]),
    ],
)
def test_bad_label_files(tmp_path, text, words):
    (tmp_path / "input_moods_tags_data.csv").write_text("ChallengeID,calm\nT-1,0.5\nT-2,0.5\n")
    (tmp_path / "output_moods_tags_data.csv").write_text(text)
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_not_a_data_set(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="is not a data set"):
            load(folder)
    (tmp_path / "input_moods_tags_data.parquet").write_bytes(b"no parquet")
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path)


def test_labels_for_some_classes_only(tmp_path):
    folder = write_dataset(tmp_path / "d", make_dataset(6))
    (folder / "output_moods_tags_data.parquet").unlink()
    with pytest.raises(ModelError, match="output_moods_tags_data"):
        load(folder)


def test_a_tag_in_two_classes_is_refused(tmp_path):
    for class_name in ("genres", "moods"):
        (tmp_path / f"input_{class_name}_tags_data.csv").write_text("ChallengeID,dark\nT-1,0.5\n")
    with pytest.raises(ModelError, match="'dark' is in genres and in moods"):
        load(tmp_path)


def test_fingerprint_sees_every_part():
    one = make_dataset(10)
    other = replace(one, labels=1 - one.labels)
    assert one.fingerprint() == make_dataset(10).fingerprint()
    assert len({one.fingerprint(), other.fingerprint(), replace(one, labels=None).fingerprint()}) == 3
