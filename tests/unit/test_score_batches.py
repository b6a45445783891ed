"""Record batches by columns are what aiokafka's own parser makes of them, whoever wrote them."""

import random
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from streamer.adapters.kafka_records import BatchReader, Corrupt
from streamer.adapters.score_batches import ScoreBatches
from streamer.core.score_records import ScoreRecords

TP = TopicPartition("tracks.scores", 3)
MODEL, TABLE = b"20261122T094500Z-1a2b3c4d", b"9f03c2d1e4aa"
CODECS = [0, 1, 2, 3, 4]
Written = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int]


def a_record(number: int, value: bytes | None = None, **more: bytes) -> Written:
    """As a worker writes it."""
    names = {
        "model": MODEL,
        "vocabulary": b"3f9c0a17b2de",
        "thresholds": TABLE,
        "source": b"tracks.probabilities/3/%d/0" % number,
    }
    headers: list[tuple[str, bytes | None]] = list((names | more).items())
    return (
        b"T-%d" % number,
        bytes([number % 256]) * 400 if value is None else value,
        headers,
        1_700_000_000_000 + number * 7,
    )


def batch(records: list[Written], base: int = 0, codec: int = 2) -> bytes:
    builder = BatchBuilder(10_000_000, codec)
    for key, value, headers, timestamp_ms in records:
        builder.append(timestamp=timestamp_ms, key=key, value=value, headers=headers)
    builder.close()
    raw = bytearray(builder._build())
    raw[:8] = base.to_bytes(8, "big")
    return bytes(raw)


def rows(records: ScoreRecords) -> list[tuple]:
    """Row by row: offset, time, key, value, source, label."""
    return [
        (
            int(records.offsets[row]),
            int(records.timestamps_ms[row]),
            records.keys[row],
            None if records.value_bytes[row] < 0 else records.value(row),
            None if records.source_bytes[row] < 0 else records.source(row),
            tuple(records.labels[int(records.label[row])]),
        )
        for row in range(len(records))
    ]


def reference(data: bytes) -> list[tuple]:
    """The same by `kafka_records`, record by record."""
    reader: Any = BatchReader(data, TP, {})
    found = []
    while reader.has_next():
        for record in reader.next_batch():
            names = {name: value for name, value in record.headers if value is not None}
            texts = tuple((names.get(name) or b"").decode("utf-8", "replace") for name in ("model", "thresholds"))
            found.append((record.offset, record.timestamp, record.key, record.value, names.get("source"), texts))
    return found


def read(data: bytes) -> list[tuple]:
    return [row for _, records in ScoreBatches(TP).read(data) for row in rows(records)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 3, 200])
def test_what_workers_write(codec: int, size: int):
    data = b"".join(batch([a_record(at + n) for n in range(size)], at, codec) for at in range(0, 600, size))
    assert read(data) == reference(data) and len(read(data)) == 600


def test_many_small_batches_come_as_one():
    data = b"".join(batch([a_record(n)], n) for n in range(50))
    ((covers, records),) = ScoreBatches(TP).read(data)
    assert covers == range(0, 50) and len(records) == 50


ODD: dict[str, list[Written]] = {
    "a tombstone": [a_record(1), (b"T-2", None, [], 5), a_record(3)],
    "an empty value": [a_record(1, b""), a_record(2)],
    "a large value": [a_record(1, b"x" * 300_000), a_record(2)],
    "a long source": [a_record(1, source=b"t" * 249 + b"/1/2/3"), a_record(2)],
    "another model": [a_record(1), a_record(2, model=b"20261123T094500Z-5e6f7a8b"), a_record(3)],
    "a model of another length": [a_record(1), a_record(2, model=b"m"), a_record(3)],
    "no header": [a_record(1), (b"T", b"v", [], 0)],
    "the source in front": [(b"T", b"v", [("source", b"t/0/1/2"), ("model", MODEL)], 0), a_record(1)],
    "two sources": [(b"T", b"v", [("source", b"t/0/1/2"), ("source", b"t/0/3/4")], 0)],
    "a header that is null": [(b"T", b"v", [("model", None), ("source", b"t/0/1/2")], 0)],
    "a header that is not UTF-8": [a_record(1, model=b"\xff\xfe")],
    "no key": [a_record(1), (None, b"v", [], 0)],
    "times that go back": [(b"A", b"v", [], 1_700_000_000_000), (b"B", b"v", [], 0), (b"C", b"v", [], 1 << 45)],
    "too many headers": [a_record(1), (b"T", b"v", [(f"h{n}", b"") for n in range(300)], 0)],
}


@pytest.mark.parametrize("records", ODD.values(), ids=ODD.keys())
def test_what_others_may_write(records: list[Written]):
    data = batch([a_record(0)], 0) + batch(records, 1) + batch([a_record(9)], 100)
    assert read(data) == reference(data) and len(read(data)) == len(records) + 2


def test_a_batch_that_was_cut_is_left_for_the_next_fetch():
    whole, cut = batch([a_record(0)]), batch([a_record(1)], 1)
    assert read(whole + cut[:-1]) == reference(whole)
    assert read(whole + cut[:20]) == reference(whole)
    assert read(b"") == []


def test_a_control_batch_covers_its_offset_and_has_no_records():
    raw = bytearray(batch([(b"\x00\x00\x00\x01", b"\x00" * 6, [], 0)], 7, 0))
    raw[21:23] = (0x20 | 0x10).to_bytes(2, "big")
    raw[17:21] = calc_crc32c(bytes(raw[21:])).to_bytes(4, "big")
    ((covers, records),) = ScoreBatches(TP).read(bytes(raw))
    assert covers == range(7, 8) and len(records) == 0


def test_a_wrong_checksum_ends_it_and_is_told_in_the_end():
    data = bytearray(batch([a_record(0)]))
    data[-1] ^= 1
    batches = ScoreBatches(TP)
    for _ in range(4):
        assert batches.read(bytes(data)) == []
    with pytest.raises(Corrupt, match=r"tracks.scores/3 at offset 0 is corrupt"):
        batches.read(bytes(data))


def test_spoiled_batches_are_what_the_reference_makes_of_them(monkeypatch: pytest.MonkeyPatch):
    """Any byte of the records may be wrong behind a right checksum: nothing raises, nothing is passed over."""
    monkeypatch.setattr("streamer.adapters.kafka_records.BatchReader._checksum_holds", lambda *_: True)
    draw = random.Random(7)
    for _ in range(300):
        data = bytearray(batch([a_record(n) for n in range(4)], 0, 0))
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(61, len(data))] = draw.choice([0, 1, 2, 127, 128, 255, draw.randrange(256)])
        assert read(bytes(data)) == reference(bytes(data)), bytes(data)
