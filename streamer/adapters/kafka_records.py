"""Record batches as hostile input: read one at a time, unpacked within a bound, never a reason to stand still.

aiokafka unpacks what a fetch brought in one go and raises at whatever it cannot read. Who may produce could stop a
partition with that: a header name that is not UTF-8 raised in every worker in turn, and a megabyte of zstd that
unpacks to gigabytes took all memory. `install` puts a reader of our own between the fetch and aiokafka's parser:

- a batch is unpacked within `UNPACKED_BYTES_MAX`, and a fetch ends where `FETCH_UNPACKED_BYTES` are reached: the
  rest of it is fetched again;
- a header name that is not UTF-8 is passed on with escapes in its place; headers beyond `HEADERS_MAX` or
  `HEADER_BYTES_MAX` are counted and left out;
- a batch that cannot be read, or only so far, becomes one record, its value the batch as it is on the broker, which
  the pipeline makes a dead letter (`UnreadableBatchDecoder`); its offset is the batch's last;
- a checksum that is wrong is nobody's malice, because brokers check it: the batch is fetched again, and after
  `CRC_ATTEMPTS` the worker ends and says where.

Hooks private names of aiokafka 0.14, on the one consumer it is given; a test holds them.
"""

import logging
import struct
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import google_crc32c
import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException, OffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from streamer.adapters.kafka_columns import RECORD_BYTES_FAST, Chunk, in_chunks, read_chunks
from streamer.adapters.kafka_unpack import (
    HEADERS_MAX,
    Headers,
    PlainRecord,
    Room,
    few_headers,
    longest_record_bytes,
    read_patiently,
    scratch,
    unpack,
)
from streamer.core.errors import TagstreamError
from streamer.core.events import Code, Rejected
from streamer.core.packed import Packed
from streamer.core.records import Records

log = logging.getLogger(__name__)

FETCH_UNPACKED_BYTES = 16 * 2**20  # of one fetch of one partition
RECORDS_AT_ONCE = 64  # parsed before the first of them is handed over
POLL_RECORDS = 10_000  # made at a time: a batch within its bounds may hold millions of empty ones
CRC_ATTEMPTS = 5

UNREADABLE_CONTENT_TYPE = "application/vnd.tagstream.unreadable-batch"

_HEADER = DefaultRecordBase.HEADER_STRUCT
_LENGTH_AT = struct.calcsize(">q")
_OVERHEAD = struct.calcsize(">qi")  # base offset and length, before what the length counts
_LENGTH_FIELD, _ATTRIBUTES_FIELD, _COUNT_FIELD = 1, 5, 12  # of the header
_MAGIC_AT = struct.calcsize(">qii")
_CRC_AT = struct.calcsize(">qiib")
_LEGACY_ATTRIBUTES_AT = struct.calcsize(">qiIb")
_LEGACY_BYTES_MIN = _OVERHEAD + 14  # crc, magic, attributes, and two empty fields

Mismatches = dict[TopicPartition, tuple[int, int]]  # base offset, and how often its checksum was wrong


class UnreadableBatch(bytes):
    """The value of the record that stands for a batch, or the rest of one, that cannot be read."""

    why: Rejected


class UnreadableBatchDecoder:
    """`streamer.ports.EventDecoder` of what `install` passes on: refuses it with the reason it carries."""

    def decode_all(self, records: Records, rows: NDArray[np.float64]) -> tuple[Packed, dict[int, Rejected]]:
        """None of them is an event."""
        return Packed.of([]), {place: self.explain(one.key, one.value or b"") for place, one in enumerate(records)}

    def explain(self, key: bytes | None, value: bytes) -> Rejected:
        """The reader's reason; an event that only says of itself that it is such a batch is refused as well."""
        if isinstance(value, UnreadableBatch):
            return value.why
        return Rejected(Code.UNREADABLE, "a record batch that could not be read: not an event", "content-type")


class Corrupt(TagstreamError):
    """A batch whose checksum is wrong however often it is fetched."""


def install(consumer: AIOKafkaConsumer, *, in_chunks: bool = False) -> None:
    """Have this consumer, which has been started, read its batches through `BatchReader`.

    With `in_chunks` it hands over a `Chunk` where it would a record: aiokafka's own cost more than all their reading.
    """
    fetcher: Any = consumer._fetcher
    consumer._max_poll_records = min(consumer._max_poll_records or POLL_RECORDS, POLL_RECORDS)
    process, client = fetcher._proc_fetch_request, fetcher._client
    room = scratch()
    fetched: dict[int, dict[TopicPartition, bytes]] = {}  # by node: aiokafka has one fetch in flight to each
    mismatches: Mismatches = {}
    told: dict[tuple[str, int], int] = {}  # the last offset of each partition

    class Client:
        """aiokafka's, but for a look at what a fetch brought."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        async def send(self, node_id: int, request: Any) -> Any:
            response = await client.send(node_id, request)
            if isinstance(request, FetchRequest):
                _tell_gone(request, response, told)
                fetched[node_id] = {
                    TopicPartition(topic, part[0]): part[-1] for topic, parts in response.topics for part in parts
                }
            return response

    async def process_then_replace(assignment: Any, node_id: int, request: Any) -> bool:
        woken: bool = await process(assignment, node_id, request)
        for tp, data in fetched.pop(node_id, {}).items():
            result = fetcher._records.get(tp)  # untouched: nothing was awaited since it was put there
            if type(result) is FetchResult and type(result._partition_records._records) is MemoryRecords:
                result._partition_records._records = BatchReader(data, tp, mismatches, room, in_chunks=in_chunks)
                if in_chunks:
                    result._partition_records._consumer_record = _cut_at(result._partition_records)
        return woken

    fetcher._client = Client()
    fetcher._proc_fetch_request = process_then_replace


def _cut_at(partition_records: Any) -> Callable[[TopicPartition, Chunk], Chunk]:
    """In the place of what makes a `ConsumerRecord` of each: a chunk may begin before what is asked for."""
    return lambda _tp, chunk: chunk.from_offset(partition_records.next_fetch_offset)


def _tell_gone(request: Any, response: Any, told: dict[tuple[str, int], int]) -> None:
    """Records that were deleted before they were read are lost; aiokafka goes on and says so to nobody.

    An offset of a partition is told once: more fetches may ask for it before a place to go on from is found.
    """
    asked = {(topic, part[0]): part[1] for topic, parts in request.topics for part in parts}
    for topic, parts in response.topics:
        for part in parts:
            tp = (topic, part[0])
            offset = asked.get(tp, -1)
            if part[1] == OffsetOutOfRangeError.errno and told.get(tp) != offset:
                told[tp] = offset
                log.error(
                    "%s/%d holds nothing at offset %d any more: retention has deleted what was not read yet, or the "
                    "log was cut short; reading goes on with the oldest record that is there",
                    *(*tp, offset),
                )


class BatchReader:
    """What a fetch brought for one partition, batch by batch; stands where aiokafka has its `MemoryRecords`."""

    def __init__(
        self,
        data: bytes,
        tp: TopicPartition,
        mismatches: Mismatches,
        room: Room | None = None,
        *,
        in_chunks: bool = False,
    ) -> None:
        self._in_chunks = in_chunks
        self._data = memoryview(data)
        self._room = room
        self._tp = tp
        self._mismatches = mismatches
        self._at = 0
        self._room_bytes = FETCH_UNPACKED_BYTES
        self._last: Batch | None = None

    def has_next(self) -> bool:
        """Whether there is a batch to read; what is left where there is none is fetched again."""
        if self._last is not None:
            self._room_bytes -= self._last.unpacked_bytes
            self._last = None
        raw = self._raw()
        return self._room_bytes > 0 and raw is not None and self._checksum_holds(raw)

    def next_batch(self) -> Any:
        """The batch that `has_next` has found; control batches, which brokers alone write, go to aiokafka as they are.

        Raises:
            CorruptRecordException: there is none.
        """
        raw = self._raw()
        if raw is None:
            raise CorruptRecordException("there is no further batch")
        self._at += len(raw)
        if raw[_MAGIC_AT] >= 2 and DefaultRecordBatch(raw).is_control_batch:
            return DefaultRecordBatch(raw)
        self._last = Batch(raw, self._tp, self._room, in_chunks=self._in_chunks)
        return self._last

    def _raw(self) -> memoryview | None:
        """The next batch's bytes; None at the end, and where the fetch was cut in the middle of one."""
        rest = self._data[self._at :]
        if len(rest) < _LEGACY_BYTES_MIN:
            return None
        size = _OVERHEAD + struct.unpack_from(">i", rest, _LENGTH_AT)[0]
        least = _HEADER.size if rest[_MAGIC_AT] >= 2 else _LEGACY_BYTES_MIN
        return rest[:size] if least <= size <= len(rest) else None

    def _checksum_holds(self, raw: memoryview) -> bool:
        """Whether it does; the fetch ends before a batch where it does not.

        Raises:
            Corrupt: for the `CRC_ATTEMPTS`th time.
        """
        if raw[_MAGIC_AT] >= 2:
            (stated,) = struct.unpack_from(">I", raw, _CRC_AT)
            holds = stated == google_crc32c.value(bytes(raw[_CRC_AT + 4 :]))  # eight times as fast as aiokafka's
        else:
            holds = LegacyRecordBatch(raw, raw[_MAGIC_AT]).validate_crc()
        if holds:
            return True
        (base_offset,) = struct.unpack_from(">q", raw)
        before, attempts = self._mismatches.get(self._tp, (-1, 0))
        attempts = attempts + 1 if before == base_offset else 1
        self._mismatches[self._tp] = (base_offset, attempts)
        if attempts >= CRC_ATTEMPTS:
            raise Corrupt(
                f"the record batch of {self._tp.topic}/{self._tp.partition} at offset {base_offset} is corrupt: its "
                f"checksum was wrong {attempts} times. Mend the broker's disk or the way to it, or skip the batch with "
                "kafka-consumer-groups --reset-offsets while no worker runs."
            )
        return False


def _aiokafkas(raw: memoryview) -> Any:
    magic = raw[_MAGIC_AT]
    return DefaultRecordBatch(raw) if magic >= 2 else LegacyRecordBatch(raw, magic)


class Batch:
    """One batch, iterated once; what `aiokafka.consumer.fetcher.PartitionRecords` asks of its own.

    Whatever the batch holds, iterating it ends, yields records in offset order, and raises nothing.
    """

    is_control_batch = False

    def __init__(self, raw: memoryview, tp: TopicPartition, room: Room | None, *, in_chunks: bool = False) -> None:
        self._raw = raw
        self._in_chunks = in_chunks
        self._room = room
        self._tp = tp
        self._batch = _aiokafkas(raw)
        self._legacy = raw[_MAGIC_AT] < 2
        (self.base_offset,) = struct.unpack_from(">q", raw)
        self.next_offset: int = self._batch.next_offset
        self.producer_id: int | None = self._batch.producer_id
        self.is_transactional: bool = self._batch.is_transactional
        self.unpacked_bytes = len(raw)

    def validate_crc(self) -> bool:
        """`BatchReader` has done it."""
        return True

    def __iter__(self) -> Iterator[Any]:
        return self._chunks() if self._in_chunks else self._each()

    def _chunks(self) -> Iterator[Chunk]:
        offset = self.base_offset
        try:
            if self._legacy:
                chunks = in_chunks(self._records())
            else:
                count = _HEADER.unpack_from(self._raw)[_COUNT_FIELD]
                _, unpacked = self._unpack()
                data = bytes(unpacked)  # the room is used again
                self.unpacked_bytes = len(data)
                log_append = self._batch.timestamp_type == DefaultRecordBase.LOG_APPEND_TIME
                chunks = read_chunks(data, count, self._batch, log_append)
            for chunk in chunks:
                offsets = chunk.records.offsets
                before = np.concatenate(([offset - 1], offsets[:-1]))
                wrong = np.flatnonzero((offsets <= before) | (offsets >= self.next_offset))
                if len(wrong):
                    if wrong[0]:
                        offset = int(offsets[wrong[0] - 1]) + 1
                        yield Chunk(chunk.records[: wrong[0]])
                    raise Rejected(Code.UNREADABLE, f"a record says that its offset is {offsets[wrong[0]]}")
                yield chunk
                offset = chunk.offset + 1
        except Rejected as why:
            yield Chunk.of([self._unreadable(offset, why)])
        except Exception as error:  # whatever a parser makes of what no broker should have let through
            yield Chunk.of([self._unreadable(offset, Rejected(Code.UNREADABLE, f"{type(error).__name__}: {error}"))])

    def _each(self) -> Iterator[Any]:
        offset = self.base_offset
        try:
            for record in self._records():
                if not offset <= record.offset < self.next_offset:  # aiokafka would go on behind it
                    raise Rejected(Code.UNREADABLE, f"a record says that its offset is {record.offset}")
                yield record
                offset = record.offset + 1
        except Rejected as why:
            yield self._unreadable(offset, why)
        except Exception as error:  # whatever a parser makes of what no broker should have let through
            yield self._unreadable(offset, Rejected(Code.UNREADABLE, f"{type(error).__name__}: {error}"))

    def _unreadable(self, offset: int, why: Rejected) -> PlainRecord:
        """What stands for the batch from `offset` to its end: at the last offset, so that nothing of it is left."""
        last = self.next_offset - 1
        value = UnreadableBatch(self._raw)
        message = f"the records at offsets {offset} to {last} cannot be read, the value is their batch: {why.message}"
        value.why = Rejected(why.code, message)
        timestamp_ms = -1 if self._legacy else max(-1, self._batch.max_timestamp)
        content_type: Headers = [("content-type", UNREADABLE_CONTENT_TYPE.encode())]
        return PlainRecord(last, timestamp_ms, 0, None, value, content_type)

    def _records(self) -> Iterator[Any]:
        if self._legacy:
            if self._raw[_LEGACY_ATTRIBUTES_AT] & DefaultRecordBase.CODEC_MASK:
                raise Rejected(Code.UNREADABLE, "it is compressed, and of a format that Kafka gave up in 2017")
            yield from self._batch
            return
        batch, data = self._unpack()
        self.unpacked_bytes = len(data)
        read = 0
        if len(data) <= RECORD_BYTES_FAST or longest_record_bytes(bytes(data)) <= RECORD_BYTES_FAST:
            try:
                parsed = iter(batch)  # may not be asked for again, as a loop would
                while some := list(map(next, repeat(parsed, RECORDS_AT_ONCE))):
                    if max(len(record.headers) for record in some) > HEADERS_MAX:
                        some = [r if len(r.headers) <= HEADERS_MAX else _with_few_headers(r) for r in some]
                    yield from some
                    read += len(some)
                return
            except (CorruptRecordException, ValueError):  # a name that is not UTF-8 is a ValueError
                pass
        count = _HEADER.unpack_from(self._raw)[_COUNT_FIELD]
        yield from read_patiently(bytes(data), count, self._batch, read)

    def _unpack(self) -> tuple[Any, memoryview]:
        """A batch for aiokafka's parser with nothing left to unpack, and the bytes of its records."""
        codec = self._batch.compression_type
        if codec == 0:
            return self._batch, self._raw[_HEADER.size :]
        data = unpack(codec, self._raw[_HEADER.size :], self._room)
        fields = list(_HEADER.unpack_from(self._raw))
        fields[_LENGTH_FIELD] = _HEADER.size - _OVERHEAD + len(data)
        fields[_ATTRIBUTES_FIELD] &= ~DefaultRecordBase.CODEC_MASK
        whole = b"".join((_HEADER.pack(*fields), data))
        return DefaultRecordBatch(whole), memoryview(whole)[_HEADER.size :]


def _with_few_headers(record: Any) -> PlainRecord:
    headers = few_headers(record.headers, len(record.headers))
    return PlainRecord(record.offset, record.timestamp, record.timestamp_type, record.key, record.value, headers)
