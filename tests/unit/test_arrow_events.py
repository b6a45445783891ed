"""The bulk lane's decoder: what it reads, and for each way a message or a row can be wrong the code and the field."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from ops.bulk_lane import bulk_message, pack
from streamer.adapters.arrow_events import MAX_COLUMNS, ArrowEventDecoder
from streamer.core.events import MAX_BULK_BYTES, MAX_BULK_ROWS, Code, Rejected
from tests.fakes import LAYOUT
from tests.fuzz.arrow_inputs import message

ROWS = np.array([[0.0, 1.0, 0.5, 0.25], [0.1, 0.2, 0.3, 0.4]], np.float32)  # rock, jazz, calm, loud
DOUBLES = pa.array([[0.5], [0.3]], pa.list_(pa.float64(), 1))
PAIRS = pa.array([[0.5, 1], [0, 1]], pa.list_(pa.float32(), 2))
DECODER = ArrowEventDecoder(LAYOUT)


def columns(**changes: pa.Array | None) -> dict[str, pa.Array]:
    """Two good rows, with these columns in place of their own (dots written as __); None leaves one out."""
    usual = {
        "track_id": pa.array(["A", "B"]),
        "genres.tags": pa.array([[0.0, 1.0], [0.1, 0.2]], pa.list_(pa.float32(), 2)),
        "moods.tags": pa.array([[0.5], [0.3]], pa.list_(pa.float16(), 1)),
        "genres.categories": pa.array([[0.25], [0.4]], pa.list_(pa.float32(), 1)),
    }
    usual |= {name.replace("__", "."): array for name, array in changes.items()}
    return {name: array for name, array in usual.items() if array is not None}


def stream(found: dict[str, pa.Array], vocabulary: str | None = LAYOUT.fingerprint) -> bytes:
    metadata = {} if vocabulary is None else {"vocabulary": vocabulary}
    return message([pa.record_batch(found, metadata=metadata)])


def refusal(value: bytes) -> Rejected:
    with pytest.raises(Rejected) as why:
        DECODER.decode(value)
    return why.value


def filled(bulk) -> np.ndarray:
    rows = np.full((len(bulk), LAYOUT.n_inputs), np.nan)
    bulk.fill(LAYOUT, 0, rows)
    return rows


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_what_is_written_is_read(kind):
    bulk = DECODER.decode(bulk_message(LAYOUT, ["A", "B"], ROWS.astype(kind)))
    assert list(bulk.track_ids) == [b"A", b"B"] and not bulk.dead
    assert np.array_equal(filled(bulk), ROWS.astype(kind).astype(np.float64))


def test_several_record_batches_in_one_message_and_columns_that_are_not_ours():
    found = columns(extra=pa.array([{"x": 1}, None]))
    batch = pa.record_batch(found, metadata={"vocabulary": LAYOUT.fingerprint})
    bulk = DECODER.decode(message([batch, batch.slice(1), batch]))
    assert list(bulk.track_ids) == [b"A", b"B", b"B", b"A", b"B"]
    assert np.allclose(filled(bulk)[[0, 2]], [[0.0, 1.0, 0.5, 0.25], [0.1, 0.2, 0.3, 0.4]], atol=2e-4)


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        (b"", Code.EMPTY_VALUE, ""),
        (b"not Arrow", Code.NOT_ARROW, ""),
        (bytes(MAX_BULK_BYTES + 1), Code.TOO_LARGE, ""),
        (stream(columns())[:-300], Code.NOT_ARROW, ""),
        (stream({name: array.slice(0, 0) for name, array in columns().items()}), Code.EMPTY_VALUE, ""),
        (stream(columns(), None), Code.FINGERPRINT_REQUIRED, "vocabulary"),
        (stream(columns(), "000000000000"), Code.FINGERPRINT_MISMATCH, "vocabulary"),
        (stream(columns(track_id=None)), Code.MISSING_FIELD, "track_id"),
        (stream(columns(moods__tags=None)), Code.MISSING_FIELD, "moods.tags"),
        (stream(columns(track_id=pa.array([1, 2]))), Code.WRONG_SHAPE, "track_id"),
        (stream(columns(moods__tags=pa.array([[0.5], [0.3]]))), Code.WRONG_SHAPE, "moods.tags"),
        (stream(columns(moods__tags=DOUBLES)), Code.WRONG_SHAPE, "moods.tags"),
        (stream(columns(moods__tags=PAIRS)), Code.WRONG_LENGTH, "moods.tags"),
        (stream(columns(moods__tags=pa.nulls(2))), Code.WRONG_SHAPE, "moods.tags"),
        (stream(columns(track_id=pa.array(["A", "B"]).dictionary_encode())), Code.WRONG_SHAPE, ""),
        (stream(columns(**{f"c{n}": pa.array([1, 2]) for n in range(MAX_COLUMNS)})), Code.TOO_LARGE, ""),
    ],
)  # fmt: skip
def test_a_message_that_is_refused_whole(value: bytes, code: Code, field: str):
    why = refusal(value)
    assert (why.code, why.field) == (code, field), why.message


def test_a_column_that_is_there_twice_and_compressed_buffers_are_refused():
    found = columns()
    names, arrays = [*found, "moods.tags"], [*found.values(), found["moods.tags"]]
    schema = pa.schema(
        [pa.field(n, a.type) for n, a in zip(names, arrays, strict=True)], {"vocabulary": LAYOUT.fingerprint}
    )
    assert (
        refusal(message([pa.record_batch(arrays, schema=schema)])).message == "the column moods.tags is there 2 times"
    )
    one = pa.record_batch(columns(), metadata={"vocabulary": LAYOUT.fingerprint})
    assert "compressed" in refusal(message([one], compression="lz4")).message


def test_nothing_may_follow_the_end_of_the_stream():
    value = stream(columns())
    assert "bytes follow the end of the stream" in refusal(value + value).message
    assert len(DECODER.decode(value)) == 2
    assert len(DECODER.decode(value[:-8])) == 2, "a stream that ends with its message needs no mark of its end"


def test_too_many_rows_are_refused_unread():
    rows = np.zeros((MAX_BULK_ROWS + 1, LAYOUT.n_inputs), np.float16)
    value = bulk_message(LAYOUT, ["T"] * len(rows), rows)
    assert refusal(value).code == Code.TOO_LARGE
    assert len(DECODER.decode(bulk_message(LAYOUT, ["T"] * MAX_BULK_ROWS, rows[:-1]))) == MAX_BULK_ROWS


def test_bad_rows_are_told_one_by_one_and_each_is_a_message_of_its_own():
    found = columns(
        track_id=pa.array(["A", None, "", "x" * 257, "E", "F", "G"]),
        genres__tags=pa.array([[0, 1]] * 4 + [None, [0.5, None], [0.5, 1.5]], pa.list_(pa.float32(), 2)),
        moods__tags=pa.array([[0.5]] * 7, pa.list_(pa.float16(), 1)),
        genres__categories=pa.array([[0.5]] * 7, pa.list_(pa.float32(), 1)),
    )
    bulk = DECODER.decode(stream(found))
    told = {row: (str(why.code), why.field) for row, why in bulk.dead.items()}
    assert told == {
        1: ("bad-track-id", "track_id"), 2: ("bad-track-id", "track_id"), 3: ("bad-track-id", "track_id"),
        4: ("wrong-shape", "genres.tags"), 5: ("wrong-shape", "genres.tags[1]"),
    }  # fmt: skip
    out_of_range = bulk.explain(LAYOUT, 6)
    assert out_of_range is not None and out_of_range.field == "genres.tags[1]" and "1.5" in out_of_range.message
    assert bulk.explain(LAYOUT, 0) is None
    for row in range(7):
        alone = DECODER.decode(bulk.letter(row))
        assert len(alone) == 1 and [w.message for w in alone.dead.values()] == [
            why.message for at, why in bulk.dead.items() if at == row
        ]
    assert pa.ipc.open_stream(bulk.letter(5)).read_all().column("genres.tags").to_pylist() == [[0.5, None]]


def test_what_came_along_is_not_copied_into_dead_letters():
    found = columns(track_id=pa.array(["A", ""]), extra=pa.array(["x" * 10_000] * 2))
    batch = pa.record_batch(found, metadata={"vocabulary": LAYOUT.fingerprint, "more": "x" * 100_000})
    assert len(DECODER.decode(message([batch])).letter(1)) < 2_000


def test_its_numbers_are_read_where_they_lie():
    """No Python object per number, and no copy of the matrix: what is made is the track ids."""
    rows = np.random.default_rng(1).random((10_000, LAYOUT.n_inputs)).astype(np.float32)
    value = bulk_message(LAYOUT, [f"T-{n}" for n in range(len(rows))], rows)
    tracemalloc.start()
    bulk = DECODER.decode(value)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 100 * len(rows)
    assert all(column.base is not None for column in bulk.columns)


def test_tracks_are_packed_by_the_partition_of_their_id():
    tracks = [(f"T-{n}", ROWS[n % 2]) for n in range(100)]
    packed = list(pack(LAYOUT, tracks, partitions=3, rows_per_message=16))
    assert {count for _, count, _ in packed[:-3]} == {16} and sum(count for _, count, _ in packed) == 100
    by_partition: dict[int, list[str]] = {}
    for partition, _, value in packed:
        by_partition.setdefault(partition, []).extend(DECODER.decode(value).track_ids)
    assert sorted(by_partition) == [0, 1, 2]
    assert all(ids == sorted(ids, key=lambda one: int(one[2:])) for ids in by_partition.values())
