"""A data set a stretch at a time says and refuses what the whole one does."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model import rows as streamed
from model.dataset import load
from model.errors import ModelError
from model.rows import Rows, SeenIds
from tests.model_data import MOODS_ONLY, SMALL, make_dataset, write_dataset


@pytest.fixture(params=["parquet", "csv"])
def suffix(request):
    return request.param


@pytest.fixture
def small_reads(monkeypatch):
    """Several reads of a file, with ends that fall anywhere."""
    monkeypatch.setattr(streamed, "READ_ROWS", 7)
    monkeypatch.setattr(streamed, "READ_BYTES", 700)


def collected(rows, size, start=0):
    parts = list(rows.stretches(size, start))
    ids = [track_id for part in parts for track_id in part.track_ids]
    assert [part.start for part in parts] == list(range(start, start + len(ids), size))
    return ids, np.concatenate([part.probabilities for part in parts])


@pytest.mark.parametrize("size", [1, 10, 33, 100, 1000])
def test_stretches_are_the_data_set(tmp_path, suffix, small_reads, size):
    rows = Rows(write_dataset(tmp_path, make_dataset(100), suffix=suffix))
    whole = load(tmp_path)
    assert rows.vocabulary == whole.vocabulary
    assert abs(rows.about() - 100) <= (10 if suffix == "csv" else 0)
    for start in (0, 1, 36, 99):
        ids, probabilities = collected(rows, size, start)
        assert ids == whole.track_ids[start:]
        np.testing.assert_array_equal(probabilities, whole.probabilities[start:])
    for start in (100, 1000):
        assert list(rows.stretches(size, start)) == []


def test_row_groups_are_left_out_where_they_are_done(tmp_path):
    """A resumed run reads no row group twice."""
    dataset = make_dataset(100, MOODS_ONLY)
    write_dataset(tmp_path, dataset)
    path = tmp_path / "input_moods_tags_data.parquet"
    pq.write_table(pq.read_table(path), path, row_group_size=10)
    content = bytearray(path.read_bytes())
    content[4:200] = b"\0" * 196  # of the first row group
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        collected(Rows(tmp_path), 10)
    assert collected(Rows(tmp_path), 10, start=40)[0] == dataset.track_ids[40:]


def test_labels_are_not_looked_at(tmp_path, suffix):
    write_dataset(tmp_path, make_dataset(20), suffix=suffix)
    (tmp_path / f"output_genres_tags_data.{suffix}").write_text("rubbish")
    (tmp_path / f"tracks.{suffix}").unlink()
    assert len(collected(Rows(tmp_path), 8)[0]) == 20


def reorder(path, order):
    pq.write_table(pq.read_table(path).take(order), path)


def test_files_in_different_orders_are_read_at_once_and_it_is_told(tmp_path):
    dataset = make_dataset(60)
    write_dataset(tmp_path, dataset)
    last = np.r_[0:40, np.arange(59, 39, -1)]
    reorder(tmp_path / "input_moods_tags_data.parquet", last)
    told = []
    ids, probabilities = collected(Rows(tmp_path, told.append), 16)
    assert ids == dataset.track_ids and len(told) == 1 and "different orders" in told[0]
    np.testing.assert_array_equal(probabilities, dataset.probabilities)
    ids, probabilities = collected(Rows(tmp_path), 16, start=32)
    np.testing.assert_array_equal(probabilities, dataset.probabilities[32:])


def test_a_file_that_ends_early_is_told_without_reading_on(tmp_path, monkeypatch):
    write_dataset(tmp_path, make_dataset(60))
    monkeypatch.setattr(streamed, "load_inputs", None)
    for left in (50, 48, 0):
        reorder(tmp_path / "input_moods_tags_data.parquet", np.arange(left))
        with pytest.raises(ModelError, match=rf"moods_tags.* has no row for ChallengeID 'T-000{left:02d}'"):
            collected(Rows(tmp_path), 16)


@pytest.mark.parametrize(("row", "text", "told"), [
    (3, "", "is empty"), (70, "abc", "is 'abc', not a number"), (70, "1.5", "is 1.5, not in [0, 1]"),
    (99, "inf", "is inf, not a finite number"), (0, "-0.1", "is -0.1"),
])  # fmt: skip
def test_a_bad_cell_is_named(tmp_path, small_reads, row, text, told):
    write_dataset(tmp_path, make_dataset(100), suffix="csv")
    path = tmp_path / "input_genres_tags_data.csv"
    lines = path.read_text().splitlines()
    cells = lines[row + 1].split(",")
    lines[row + 1] = ",".join([*cells[:2], text, *cells[3:]])
    path.write_text("\n".join(lines))
    for read in (lambda: collected(Rows(tmp_path), 16), lambda: load(tmp_path)):
        with pytest.raises(ModelError) as caught:
            read()
        assert f"column 'jazz', row {row + 1} (ChallengeID 'T-{row:05d}') {told}" in str(caught.value)


def test_bad_cells_of_parquet_and_bad_files(tmp_path, small_reads):
    write_dataset(tmp_path, make_dataset(100))
    path = tmp_path / "input_genres_tags_data.parquet"
    good = pq.read_table(path)
    values = good.column("jazz").to_pylist()
    values[83] = float("nan")
    pq.write_table(good.set_column(2, "jazz", pa.array(values)), path)
    with pytest.raises(ModelError, match=r"column 'jazz', row 84 \(ChallengeID 'T-00083'\) is nan, not a finite"):
        collected(Rows(tmp_path), 16)
    for content in (b"", b"PAR1", path.read_bytes()[:-100]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"input_genres_tags_data\.parquet cannot be read"):
            Rows(tmp_path)
    path.unlink()
    assert Rows(tmp_path).vocabulary != SMALL, "its other files are a data set all the same"


@pytest.mark.parametrize(("content", "told"), [
    ("", "cannot be read"), ("ChallengeID,calm\n", "has no rows"), ("id,calm\nT-1,0.5\n", "no column ChallengeID"),
    ("ChallengeID,calm,calm\nT-1,0.5,0.5\n", "'calm' twice"), ("ChallengeID,calm\nT-1,0.5,0.6\n", "cannot be read"),
    ("ChallengeID,calm\nT-1,0.5\nT-1,0.6\n", "'T-1' twice, again in row 2"),
    ("ChallengeID,calm\n,0.5\n", "row 1 is empty"), ("ChallengeID,calm\nT-1,\xff\n", "invalid UTF8"),
])  # fmt: skip
def test_bad_csv_files(tmp_path, content, told):
    (tmp_path / "input_moods_tags_data.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError) as caught:
        collected(Rows(tmp_path), 16)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_no_data_set(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="is not a data set"):
            Rows(folder)


def test_an_id_that_comes_again_is_seen_however_far_apart():
    rng = np.random.default_rng(0)
    seen = SeenIds()
    for block in range(100):
        ids = [f"T-{number}" for number in range(block * 37, block * 37 + 37)]
        if block % 10 == 9:
            ids[5] = f"T-{rng.integers(block * 37)}"
            assert seen.again(ids) == [ids[5]]
        else:
            assert seen.again(ids) == []
