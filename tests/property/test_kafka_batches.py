"""Batches written from columns are those that aiokafka's own builder writes of the same records, byte for byte."""

import numpy as np
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.adapters.kafka_batches import record_batches
from streamer.core.outputs import HeaderPlan, OutputColumns
from streamer.core.packed import Packed

PRODUCER = (4_711, 3, 17)  # id, epoch, first sequence number
NAMES = st.sampled_from(["model", "source", "é"])
HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=5)), max_size=3)
ROWS = st.tuples(
    st.none() | st.binary(max_size=6) | st.just(b"k" * 5_000),
    st.none() | st.binary(max_size=40) | st.sampled_from([b"", b"v" * 4_095, b"v" * 4_096, bytes(range(256)) * 100]),
    st.binary(max_size=20),
    st.integers(0, 2**41),
)


def columns(before, name, after, rows) -> OutputColumns:
    keys, values, own, times = zip(*rows, strict=True)
    times_ms = np.array([-1 if time is None else time for time in times], np.int64)
    return OutputColumns(HeaderPlan(before, name, after), Packed.of(keys), Packed.of(values), Packed.of(own), times_ms)


def by_aiokafka(records: OutputColumns, most_bytes: int, codec: int) -> list[bytes]:
    """As a sink does it that takes a record at a time."""
    builders = [BatchBuilder(most_bytes, codec)]
    for record in records:
        fields = {"timestamp": record.timestamp_ms, "key": record.key, "value": record.value, "headers": record.headers}
        if builders[-1].append(**fields) is None:
            builders.append(BatchBuilder(most_bytes, codec))
            assert builders[-1].append(**fields) is not None
    for builder in builders:
        builder._set_producer_state(*PRODUCER)
    return [bytes(builder._build()) for builder in builders]


@settings(deadline=None)
@given(HEADERS, NAMES, HEADERS, st.lists(ROWS, min_size=1, max_size=12), st.sampled_from([100, 5_000, 900_000]))
@example([], "id", [], [(b"k", b"v", b"o", 1_000 + n % 7) for n in range(5_000)], 900_000)
@example(
    [],
    "id",
    [],
    [(None, None, b"", 0), (None, None, b"", 8192), (None, None, b"", 2**27), (bytes(4), None, b"", 64)],
    100,
)
@example([("a", b"b")], "id", [], [(b"k", b"v" * 400, b"o", 1) for _ in range(5_000)], 900_000)
def test_they_are_the_same_bytes(before, name, after, rows, most_bytes):
    given_columns = columns(before, name, after, rows)
    for snappy in (True, False):
        made = list(record_batches(given_columns, most_bytes, snappy=snappy))
        sizes = [batch.size() for batch in made]
        for batch in made:
            batch._set_producer_state(*PRODUCER)
        built = [batch._build() for batch in made]
        wanted = by_aiokafka(given_columns, most_bytes, 0)
        if snappy:  # aiokafka's compresses what grows by it, too
            packed = by_aiokafka(given_columns, most_bytes, DefaultRecordBatch.CODEC_SNAPPY)
            wanted = [min(pair, key=len) for pair in zip(wanted, packed, strict=True)]
        assert built == wanted
        assert [batch._build() for batch in made] == built, "a repetition sends the same bytes"
        assert sum(batch.record_count() for batch in made) == len(rows)
        assert all(size >= len(bytes_) == batch.size() for size, bytes_, batch in zip(sizes, built, made, strict=True))


def test_what_has_no_time_of_its_own_has_that_of_its_sending():
    two = columns([], "id", [], [(b"k", b"v", b"1", None), (b"k", None, b"", None)])
    (batch,) = record_batches(two, 900_000, snappy=True)
    first, second = DefaultRecordBatch(batch._build())
    assert first.timestamp == second.timestamp > 1_700_000_000_000
    assert (first.headers, second.headers, second.value) == ([("id", b"1")], [], None)
