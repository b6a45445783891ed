"""Record batches of the output topics, written in one go from columns.

aiokafka's builder takes a record at a time, and what a call, its arguments and its header list cost is more than the
bytes themselves. Here a kernel writes them all (batch_kernel.py), since all records of a span share their headers but
for one value. A test holds every batch to what aiokafka's own builder writes of the same records, byte for byte.

Format: https://kafka.apache.org/documentation/#recordbatch (version 2).
"""

import struct
import time
from collections.abc import Iterator
from typing import Any

import google_crc32c
import numpy as np
from aiokafka.codec import snappy_encode
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch
from aiokafka.record.util import encode_varint

from streamer.adapters.batch_kernel import write_records
from streamer.core.outputs import OutputColumns

_HEADER = DefaultRecordBase.HEADER_STRUCT
_ATTRIBUTES_AT = struct.calcsize(">qiiBI")  # from here on the checksum is taken
_MAGIC = 2


def varint(number: int) -> bytes:
    """Kafka's zigzag varint."""
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


class PreparedBatch(BatchBuilder):
    """A finished record batch in the shape of the builder that aiokafka's `send_batch` takes."""

    def __init__(self, records: bytes, count: int, times_ms: tuple[int, int], *, snappy: bool) -> None:
        self._records = records
        self._count = count
        self._times_ms = times_ms  # of the first record, and the latest
        self._snappy = snappy
        self._producer = (-1, -1, 0)  # id, epoch, first sequence number
        self._buffer: bytes | None = None
        self._closed = True

    def _set_producer_state(self, *state: int) -> None:
        self._producer = state  # type: ignore[assignment]

    def _build(self) -> bytes:
        """Compressed where that makes it smaller; the same bytes however often it is sent."""
        if self._buffer is None:
            packed = snappy_encode(self._records) if self._snappy else self._records
            small = len(packed) < len(self._records)
            records, codec = (packed, DefaultRecordBatch.CODEC_SNAPPY) if small else (self._records, 0)
            fields: list[Any] = [codec, self._count - 1, *self._times_ms, *self._producer, self._count]
            tail = _HEADER.pack(0, _HEADER.size - 12 + len(records), -1, _MAGIC, 0, *fields)[_ATTRIBUTES_AT:] + records
            head = struct.pack(">qiiBI", 0, len(tail) + _ATTRIBUTES_AT - 12, -1, _MAGIC, google_crc32c.value(tail))
            self._buffer = head + tail
            self._records = b""
        return self._buffer

    def size(self) -> int:
        """In bytes, as it is now: compressed once it has been built."""
        return len(self._buffer) if self._buffer is not None else _HEADER.size + len(self._records)

    def record_count(self) -> int:
        return self._count


def record_batches(columns: OutputColumns, most_bytes: int, *, snappy: bool) -> Iterator[PreparedBatch]:
    """As few batches as hold the records in order, each at most so large before compression; or of one record."""
    now_ms = int(time.time() * 1000)
    times_ms = np.where(columns.timestamps_ms < 0, now_ms, columns.timestamps_ms)
    plan = columns.plan
    names = [*plan.before, (plan.own_name, b""), *plan.after]
    before = varint(len(names)) + b"".join(map(_header, plan.before)) + _field(plan.own_name.encode())
    after = b"".join(map(_header, plan.after))
    fixed = np.frombuffer(before, np.uint8), np.frombuffer(after, np.uint8)
    room = np.empty(most_bytes, np.uint8)  # takes no memory where it is not written
    texts = columns.keys.columns, columns.values.columns, columns.own.columns
    start = 0
    while start < len(columns):
        count, size = write_records(*texts, times_ms, start, *fixed, most_bytes - _HEADER.size, room)
        if count == 0:  # one record that is larger than a batch is to be
            room = np.empty(size, np.uint8)
            continue
        latest_ms = int(times_ms[start : start + count].max())
        yield PreparedBatch(room[:size].tobytes(), count, (int(times_ms[start]), latest_ms), snappy=snappy)
        start += count


def _field(value: bytes) -> bytes:
    return varint(len(value)) + value


def _header(header: tuple[str, bytes]) -> bytes:
    return _field(header[0].encode()) + _field(header[1])
