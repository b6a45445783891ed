"""Record batches of the output topics, written in one go from columns.

aiokafka's builder takes a record at a time, and what a call, its arguments and its header list cost is more than the
bytes themselves. Here a record is one join of prepared pieces, since all records of a span share their headers but
for one value. A test holds every batch to what aiokafka's own builder writes of the same records, byte for byte.

Format: https://kafka.apache.org/documentation/#recordbatch (version 2).
"""

import struct
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import google_crc32c
from aiokafka.codec import snappy_encode
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch
from aiokafka.record.util import encode_varint

from streamer.core.outputs import OutputColumns

_HEADER = DefaultRecordBase.HEADER_STRUCT
_ATTRIBUTES_AT = struct.calcsize(">qiiBI")  # from here on the checksum is taken
_MAGIC = 2
_NULL, _EMPTY = b"\x01", b"\x00"  # the lengths -1 and 0


def varint(number: int) -> bytes:
    """Kafka's zigzag varint."""
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


@cache
def _short() -> tuple[bytes, ...]:
    """The varints of usual lengths and offsets: a decision has half a kilobyte."""
    return tuple(varint(number) for number in range(4096))


class PreparedBatch(BatchBuilder):
    """A finished record batch in the shape of the builder that aiokafka's `send_batch` takes."""

    def __init__(self, pieces: Sequence[bytes], count: int, times_ms: tuple[int, int], *, snappy: bool) -> None:
        self._records = b"".join(pieces)
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
    times_ms = [now_ms if given is None else given for given in columns.timestamps_ms] or [now_ms] * len(columns)
    start = 0
    while start < len(columns):
        pieces = _records(columns, times_ms, start, most_bytes)
        count = len(pieces) // 2
        latest_ms = max(times_ms[start : start + count])
        yield PreparedBatch(pieces, count, (times_ms[start], latest_ms), snappy=snappy)
        start += count


def _records(columns: OutputColumns, times_ms: list[int], start: int, most_bytes: int) -> list[bytes]:
    """Length and body of each record from `start` on that fits into a batch, and of the first in any case."""
    names = [*columns.before, (columns.own_name, b""), *columns.after]
    before = varint(len(names)) + b"".join(map(_header, columns.before)) + _field(columns.own_name.encode())
    after = b"".join(map(_header, columns.after))
    short, join = _short(), b"".join
    shorts = len(short)
    first_ms, size = times_ms[start], _HEADER.size
    pieces: list[bytes] = []
    rows = zip(columns.keys[start:], columns.values[start:], columns.own[start:], times_ms[start:], strict=True)
    for at, (key, value, own, time_ms) in enumerate(rows):
        delta = time_ms - first_ms
        moment = short[delta] if 0 <= delta < shorts else varint(delta)
        place = short[at] if at < shorts else varint(at)
        named = short[len(key)] + key if key is not None and len(key) < shorts else _field(key)
        if value is None:
            body = join((_EMPTY, moment, place, named, _NULL, _EMPTY))
        else:
            width = short[len(value)] if len(value) < shorts else varint(len(value))
            body = join((_EMPTY, moment, place, named, width, value, before, short[len(own)], own, after))
        length = short[len(body)] if len(body) < shorts else varint(len(body))
        size += len(length) + len(body)
        if size > most_bytes and at:
            break
        pieces += (length, body)
    return pieces


def _field(value: bytes | None) -> bytes:
    return _NULL if value is None else varint(len(value)) + value


def _header(header: tuple[str, bytes]) -> bytes:
    return _field(header[0].encode()) + _field(header[1])
