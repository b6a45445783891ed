"""Record batches that no honest producer writes: read as far as can be, within bounds, neighbours untouched."""

import gc
import random
import resource
import struct
import sys
import time
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, PartitionRecords
from aiokafka.structs import TopicPartition

from streamer.adapters.kafka_records import (
    CRC_ATTEMPTS,
    FETCH_UNPACKED_BYTES,
    BatchReader,
    Corrupt,
    Mismatches,
    UnreadableBatch,
    UnreadableBatchDecoder,
    _cut_at,
)
from streamer.adapters.kafka_unpack import (
    HEADER_BYTES_MAX,
    HEADERS_CUT,
    HEADERS_KEPT,
    HEADERS_MAX,
    UNPACKED_BYTES_MAX,
    scratch,
)
from streamer.core.events import Code, Rejected
from streamer.core.records import Records
from tests.fakes import FakeRecord
from tests.raw_batches import ATTRIBUTES_AT, CODECS, COUNT_AT, FIRST_RECORD, Rec, batch, packed, signed, with_headers

TP = TopicPartition("tracks.probabilities", 3)
MIB = 2**20
ROOM = scratch()  # one for all, as a consumer has it


def good(count: int = 3, base: int = 0, codec: str = "none") -> bytes:
    return bytes(batch(*(Rec(b"k%d" % n, b"v%d" % n, [("h", b"x")]) for n in range(count)), codec=codec, base=base))


def read(data: bytes, mismatches: Mismatches | None = None, start: int = 0) -> list[Any]:
    """As aiokafka does, with its own iterator around ours; in chunks it is the same."""
    mismatches = {} if mismatches is None else mismatches
    before = dict(mismatches)
    found = list(PartitionRecords(TP, BatchReader(data, TP, mismatches, ROOM), [], start, None, None, True, 0))
    partition = PartitionRecords(
        TP, BatchReader(data, TP, before, ROOM, in_chunks=True), [], start, None, None, True, 0
    )
    partition._consumer_record = _cut_at(partition)
    in_chunks = [record for chunk in partition for record in chunk.records]
    assert [fields(record) for record in in_chunks] == [fields(record) for record in found]
    for one, other in zip(in_chunks, found, strict=True):
        assert isinstance(one.value, UnreadableBatch) == isinstance(other.value, UnreadableBatch)
    return found


def fields(record: Any) -> tuple[Any, ...]:
    return record.offset, record.timestamp, record.key, record.value, tuple(record.headers)


def refusal(record: Any) -> Rejected:
    track_ids, dead = UnreadableBatchDecoder().decode_all(Records.of([record]), np.zeros((1, 1)))
    assert not track_ids
    return dead[0]


@pytest.mark.parametrize("codec", CODECS)
def test_good_batches_are_read_as_aiokafka_reads_them(codec: str):
    found = read(good(50, 0, codec) + good(50, 50, codec))
    assert [record.offset for record in found] == list(range(100))
    assert [record.value for record in found] == [b"v%d" % (n % 50) for n in range(100)]
    assert found[7].headers == (("h", b"x"),) and found[7].timestamp == 1_007


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_name_that_is_not_utf_8_changes_its_own_record_only(codec: str):
    plain = (Rec(b"a", b"1", [("h", b"x")]), Rec(b"b", b"2", [("name", b"y"), ("é", None)]), Rec(b"c", b"3"))
    raw = batch(*plain)
    raw[raw.index(b"name")] = 0xFF
    found = read((signed(raw) if codec == "none" else packed(raw, codec)) + good(2, 3))
    assert [record.offset for record in found] == [0, 1, 2, 3, 4]
    assert found[1].headers == (("\\xffame", b"y"), ("é", None))
    assert [(record.key, record.value) for record in found[:3]] == [one[:2] for one in plain]
    "".join(name for name, _ in found[1].headers).encode()  # a dead letter of it can be written


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_bomb_is_one_dead_letter_in_little_memory_and_time(codec: str):
    bomb = bytes(batch(Rec(b"b", bytes(UNPACKED_BYTES_MAX + MIB)), Rec(b"c", b"x"), codec=codec, base=10))
    gc.collect()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.thread_time()  # not by the clock: a busy machine takes its time
    found = read(bomb + good(2, 12), start=10)
    assert time.thread_time() - began_s < 1.0
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert grown_mib < 2.5 * UNPACKED_BYTES_MAX / MIB
    assert [record.offset for record in found] == [11, 12, 13], "at the last offset of what cannot be read"
    why = refusal(found[0])
    assert why.code == Code.TOO_LARGE and "offsets 10 to 11" in why.message and codec in why.message
    assert found[0].value == bomb and found[0].key is None, "nothing is lost: the batch itself"


def test_many_bombs_in_one_fetch_are_read_a_few_at_a_time():
    """Four kilobytes could hold a gigabyte in batches that are each within the bound."""
    size = FETCH_UNPACKED_BYTES // 2
    data = b"".join(bytes(batch(Rec(b"k", bytes(size)), codec="zstd", base=n)) for n in range(6))
    offsets, fetches = [], 0
    while len(offsets) < 6:
        rest = data[sum(map(len, split(data)[: len(offsets)])) :]
        offsets += [record.offset for record in read(rest, start=len(offsets))]
        fetches += 1
    assert offsets == list(range(6)) and fetches == 3


def split(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = 12 + struct.unpack_from(">i", data, 8)[0]
        found.append(data[:size])
        data = data[size:]
    return found


def test_millions_of_headers_are_counted_and_not_made():
    """Three bytes in the batch, eighty in memory each."""
    raw = with_headers(3_000_000, Rec(b"k", b"w"))
    assert len(raw) < 10_000
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.thread_time()  # not by the clock: a busy machine takes its time
    many, plain = read(raw)
    assert time.thread_time() - began_s < 1.0
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024 < 60
    assert len(many.headers) == HEADERS_KEPT + 1 and many.value == b"v" and plain.value == b"w"
    assert many.headers[-1] == (HEADERS_CUT, str(3_000_000 - HEADERS_KEPT).encode())


def test_what_the_stream_itself_reads_is_kept_of_many_headers():
    headers = [(f"h{n}", b"x") for n in range(300)]
    headers[200], headers[250] = ("content-type", b"text/csv"), ("attempt", b"4")
    (record,) = read(bytes(batch(Rec(b"k", b"v", headers))))
    assert record.headers == (*headers[:HEADERS_KEPT], headers[200], headers[250], (HEADERS_CUT, b"198"))


def test_up_to_so_many_headers_none_is_left_out():
    headers = [(f"h{n}", b"x") for n in range(HEADERS_MAX)]
    (record,) = read(bytes(batch(Rec(b"k", b"v", headers))))
    assert record.headers == tuple(headers)
    large = Rec(b"k", bytes(2 * MIB), headers)
    assert read(bytes(batch(large)))[0].headers == tuple(headers), "the patient way"


def test_long_headers_of_a_large_record_are_left_out():
    headers = [("a", bytes(HEADER_BYTES_MAX)), ("b", b"x"), ("c", bytes(MIB))]
    (record,) = read(bytes(batch(Rec(b"k", b"v", headers))))
    assert record.headers == (("b", b"x"), (HEADERS_CUT, b"2"))


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_codec_is_a_dead_letter(codec: int):
    raw = batch(Rec(b"k", b"v"))
    raw[ATTRIBUTES_AT + 1] |= codec
    dead, *others = read(signed(raw) + good(2, 1))
    assert refusal(dead).code == Code.UNREADABLE and str(codec) in refusal(dead).message
    assert [record.offset for record in others] == [1, 2]


@pytest.mark.parametrize("start", [0, 1, 127, 128, 129, 299, 300])
def test_a_fetch_from_the_middle_of_a_batch(start: int):
    """Of compressed batches brokers send the whole, and of a chunk some may have been read."""
    assert [record.offset for record in read(good(300, codec="lz4"), start=start)] == list(range(start, 300))


def test_what_can_be_read_before_a_break_is_no_part_of_the_dead_letter():
    raw = batch(*(Rec(b"k%d" % n, b"v" * 20) for n in range(5)))
    raw[raw.index(b"k3") - 1] = 0x7E  # the key's length: more than there is
    *first, dead = read(signed(raw))
    assert [record.offset for record in first] == [0, 1, 2]
    assert dead.offset == 4 and "offsets 3 to 4" in refusal(dead).message


def test_a_batch_that_lies_about_its_count():
    for count in (-1, 0, 2, 4, 2**31 - 1):
        raw = batch(*(Rec(b"k", b"v") for _ in range(3)))
        struct.pack_into(">i", raw, COUNT_AT, count)
        offsets = [record.offset for record in read(signed(raw) + good(1, 3))]
        assert offsets[-1] == 3 and offsets == sorted(set(offsets)), count


def test_a_wrong_checksum_is_fetched_again_and_then_told():
    data = bytearray(good(2, 0) + good(2, 2))
    data[-1] ^= 1
    mismatches: Mismatches = {}
    assert [record.offset for record in read(bytes(data), mismatches)] == [0, 1]
    for _ in range(CRC_ATTEMPTS - 2):
        assert read(bytes(data)[len(good(2)) :], mismatches, start=2) == []
    with pytest.raises(Corrupt, match=r"tracks\.probabilities/3 at offset 2 .*--reset-offsets"):
        read(bytes(data)[len(good(2)) :], mismatches, start=2)


def test_a_fetch_that_ends_in_the_middle_of_a_batch():
    whole = good(2)
    for cut in range(1, len(whole)):
        assert [record.offset for record in read(whole + good(2, 2)[:cut])] == [0, 1]


def test_any_damage_leaves_the_neighbours_and_raises_nothing():
    """Bytes of the records at random, the checksum made to fit: in order, nothing twice, the batch behind it whole."""
    choice = random.Random(4)
    source = (Rec(b"k%d" % n, b"v" * 30, [("name", b"value"), ("b", None)]) for n in range(8))
    whole = batch(*source)
    for _ in range(3_000):
        raw = bytearray(whole)
        for _ in range(choice.randrange(1, 5)):
            raw[choice.randrange(FIRST_RECORD, len(raw))] = choice.choice(
                (0, 1, 0x7F, 0x80, 0xFF, choice.randrange(256))
            )
        offsets = [record.offset for record in read(signed(raw) + good(2, 8))]
        assert offsets[-2:] == [8, 9] and offsets == sorted(set(offsets))


def test_who_only_says_that_he_is_an_unreadable_batch_is_refused():
    assert refusal(FakeRecord(0, b"hello", b"k")).code == Code.UNREADABLE
    assert not isinstance(b"hello", UnreadableBatch)


def test_aiokafka_still_has_what_is_hooked():
    assert hasattr(Fetcher, "_proc_fetch_request") and sys.version_info >= (3, 11)
    assert {"_client", "_records"} <= set(Fetcher.__init__.__code__.co_names)
    assert "_max_poll_records" in AIOKafkaConsumer.__init__.__code__.co_names


def test_of_millions_of_empty_records_only_some_are_made_at_a_time():
    """Seven bytes in the batch, some hundred each in memory."""
    raw = batch(Rec(b"", b""))
    size = 1 + raw[FIRST_RECORD] // 2
    raw[FIRST_RECORD:] = bytes(raw[FIRST_RECORD : FIRST_RECORD + size]) * 1_000_000
    struct.pack_into(">i", raw, COUNT_AT, 1_000_000)
    records = BatchReader(packed(raw, "zstd"), TP, {})
    unpacked = PartitionRecords(TP, records, [], 0, None, None, True, 0)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert next(unpacked).offset == 0
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024 < 60
