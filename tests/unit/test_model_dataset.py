"""Data sets are read whole or refused with the file, the column and the row."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


def test_a_table_that_is_there_twice_is_refused(tmp_path):
    folder = write_dataset(tmp_path / "d", make_dataset(5), suffix="csv")
    write_dataset(folder, make_dataset(5), suffix="parquet")
    with pytest.raises(ModelError, match=r"has both input_genres_tags_data\.parquet and input_genres_tags_data\.csv"):
        load(folder)


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
        ("ChallengeID,calm\nT-1,0.5\nT-2,0.5,0.5\n", ["row 2", "3 cells", "2 column names"]),
        ("ChallengeID,calm\nT-1,0.5\nT-2\n", ["row 2", "1 cells"]),
        ("ChallengeID,calm\nT-1,NA\n", ["calm", "row 1", "'NA'", "not a number"]),
        ('ChallengeID,calm\nT-1,"0,5"\n', ["calm", "row 1", "'0,5'", "not a number"]),
        ("ChallengeID;calm\nT-1;0.5\n", ["no column ChallengeID"]),
        ("", ["cannot be read", "Empty"]),
        ("ChallengeID,calm\n" + "\x00" * 5 + "\n", ["row 1"]),
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


ODD_CSV = {
    "byte order mark": b"\xef\xbb\xbfChallengeID,calm\nT-1,0.5\nT-2,1\n",
    "CRLF": b"ChallengeID,calm\r\nT-1,0.5\r\nT-2,1\r\n",
    "quoted": b'"ChallengeID","calm"\n"T-1","0.5"\n"T-2",1\n',
    "empty lines": b"ChallengeID,calm\nT-1,0.5\n\nT-2,1e0\n\n",
    "ids not first": b"calm,ChallengeID\n.5,T-1\n1.,T-2\n",
}


@pytest.mark.parametrize("content", ODD_CSV.values(), ids=ODD_CSV)
def test_csv_as_others_write_it(tmp_path, content):
    (tmp_path / "input_moods_tags_data.csv").write_bytes(content)
    read = load(tmp_path)
    assert read.track_ids == ["T-1", "T-2"] and read.vocabulary.tags == ("calm",)
    assert read.probabilities.tolist() == [[0.5], [1.0]]


def test_ids_that_spell_nothing(tmp_path):
    """`NA` and `null` are ids like others, and names of artists too."""
    (tmp_path / "input_moods_tags_data.csv").write_text("ChallengeID,calm\nNA,0.5\nnull,0.5\n")
    (tmp_path / "tracks.csv").write_text("ChallengeID,artist\nnull,NaN\nNA,12\n")
    read = load(tmp_path)
    assert read.track_ids == ["NA", "null"] and read.artists.tolist() == ["12", "NaN"]


def test_a_column_of_whole_numbers_may_turn_into_fractions_late(tmp_path):
    """A reader that guesses types from the first megabyte would stumble over the last row."""
    rows = [f"{row},0,{'x' * 40}" for row in range(30_000)]
    (tmp_path / "tracks.csv").write_text("\n".join(["ChallengeID,year,artist", *rows]))
    whole = "\n".join(f"{row},0" for row in range(29_999))
    (tmp_path / "input_moods_tags_data.csv").write_text(f"ChallengeID,calm\n{whole}\n29999,0.25\n")
    assert load(tmp_path).probabilities[-1, 0] == 0.25


@pytest.mark.parametrize("ids", [[7, 11], [7.0, 11.0], ["7", "11"]])
def test_ids_that_are_numbers_meet_across_files(tmp_path, ids):
    pq.write_table(pa.table({"ChallengeID": ids, "calm": [0.5, 0.25]}), tmp_path / "input_moods_tags_data.parquet")
    (tmp_path / "output_moods_tags_data.csv").write_text("ChallengeID,calm\n11,1\n7,0\n")
    read = load(tmp_path)
    assert read.track_ids == ["7", "11"] and read.labels.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"ChallengeID": [1.5], "calm": [0.5]}, ["ChallengeID", "fractions"]),
        ({"ChallengeID": [[1]], "calm": [0.5]}, ["ChallengeID", "list"]),
        ({"ChallengeID": ["a", None], "calm": [0.5, 0.5]}, ["ChallengeID", "row 2", "empty"]),
        ({"ChallengeID": [1, 2], "calm": [0.5, None]}, ["calm", "row 2", "empty"]),
        ({"ChallengeID": [1, 2], "calm": [0.5, float("nan")]}, ["calm", "row 2", "not a finite number"]),
        ({"ChallengeID": [1], "calm": [[0.5]]}, ["calm", "list"]),
        ({"ChallengeID": [1, 2], "calm": ["0.5", "x"]}, ["calm", "row 2", "'x'", "not a number"]),
    ],
)
def test_bad_parquet_columns(tmp_path, columns, words):
    pq.write_table(pa.table(columns), tmp_path / "input_moods_tags_data.parquet")
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert all(word in str(caught.value) for word in ["input_moods_tags_data.parquet", *words]), str(caught.value)


@pytest.mark.filterwarnings("error")  # such as of a traceback that a reader's own callback leaves on the terminal
@pytest.mark.parametrize("row", ["É,0.5", "T-1,0.5,É"])
def test_bytes_that_are_no_text(tmp_path, row):
    (tmp_path / "input_moods_tags_data.csv").write_bytes(f"ChallengeID,calm\n{row}\n".encode("latin-1"))
    with pytest.raises(ModelError, match=r"cannot be read: it is not UTF-8 text"):
        load(tmp_path)


def test_a_folder_that_spells_a_partition_is_no_column(tmp_path):
    folder = write_dataset(tmp_path / "year=2026", make_dataset(5))
    assert load(folder).vocabulary == SMALL


@pytest.mark.parametrize("tracks", [1, 2])
def test_hardly_any_tracks(tmp_path, tracks):
    written = make_dataset(tracks, MOODS_ONLY)
    read = load(write_dataset(tmp_path / "d", written))
    assert len(read) == tracks and read.labels.shape == (tracks, 3)


def test_an_empty_split_is_named(tmp_path):
    write_dataset(tmp_path / "train", make_dataset(9))
    (tmp_path / "val").mkdir()
    with pytest.raises(ModelError, match="val is not a data set"):
        load_splits(tmp_path)


def test_a_class_with_labels_only(tmp_path):
    folder = write_dataset(tmp_path / "d", make_dataset(6))
    (folder / "input_moods_tags_data.parquet").unlink()
    with pytest.raises(ModelError, match=r"output_moods_tags_data.*'calm'.*input columns lack"):
        load(folder)


def test_not_a_data_set(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="is not a data set"):
            load(folder)
    for content in (b"no parquet", b""):
        (tmp_path / "input_moods_tags_data.parquet").write_bytes(content)
        with pytest.raises(ModelError, match=r"input_moods_tags_data.parquet cannot be read"):
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
