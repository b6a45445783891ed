"""A record batch's bytes as hostile input: unpacked within a bound, and read record by record where aiokafka gives up.

A compressed batch says nothing reliable about its own size: zstd packs 30,000 bytes into one. So each codec writes
into a buffer that ends where the bound is. The patient reader checks every length it is given, lets a header name be
any bytes, and counts headers before it makes any.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cramjam
import numpy as np
from aiokafka.codec import snappy_decode
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.util import decode_varint
from numpy.typing import NDArray

from streamer.core.events import Code, Rejected

UNPACKED_BYTES_MAX = 32 * 2**20  # of one batch; a producer's own limit, 1 MiB by default, is on what is not packed yet
SCRATCH_BYTES = 2 * 2**20  # twice a producer's own limit; what needs more gets more
HEADERS_MAX = 150
HEADERS_KEPT = 100  # where there are more: a dead letter, which has some of its own besides, is not cut once more
HEADER_BYTES_MAX = 64 * 1024
HEADERS_READ = 10_000  # beyond these none is looked at
HEADERS_CUT = "headers.cut"  # the header that says how many are missing
OWN_HEADERS = ("content-type", "attempt")  # what the stream itself reads
OWN_HEADER_BYTES = 1024

_XERIAL = b"\x82SNAPPY\x00"  # how snappy in blocks begins, which Java's and most other clients write
_XERIAL_BYTES = 16
_SNAPPY_BLOCKS_MAX = 65_536
_VARINT_BYTES = 10
_CODECS = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}

Headers = list[tuple[str, bytes | None]]
Room = NDArray[np.uint8]


class PlainRecord(NamedTuple):
    """A record as aiokafka's own parser would give it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    checksum: None = None


class _TooLarge(Exception):
    """More than the bound."""


def scratch() -> Room:
    """Room for what a usual batch unpacks to, to be used again: new pages for each cost more than the unpacking."""
    return np.empty(SCRATCH_BYTES, np.uint8)


def unpack(codec: int, packed: memoryview, room: Room | None = None) -> bytes | memoryview:
    """The bytes of a batch's records; it may lie in `room`, until that is used for the next.

    Raises:
        Rejected: `too-large` beyond `UNPACKED_BYTES_MAX`, `unreadable` for what the codec cannot read.
    """
    name = _CODECS.get(codec)
    if name is None:
        raise Rejected(Code.UNREADABLE, f"compression codec {codec} is unknown")
    try:
        if name == "gzip":
            return _gunzip(packed)
        if name == "snappy":
            return _unsnap(packed)
        return _unpack_into(cramjam.lz4 if name == "lz4" else cramjam.zstd, packed, room)
    except _TooLarge:
        raise Rejected(Code.TOO_LARGE, f"{name} unpacks to more than {UNPACKED_BYTES_MAX:,} bytes") from None
    except (zlib.error, cramjam.DecompressionError, struct.error, ValueError, OverflowError) as error:
        raise Rejected(Code.UNREADABLE, f"not {name}: {error}") from None


def _unpack_into(codec: Any, packed: memoryview, room: Room | None) -> memoryview:
    space = np.empty(UNPACKED_BYTES_MAX, np.uint8) if room is None else room  # costs no memory until it is written
    try:
        return space.data[: codec.decompress_into(packed, space)]
    except cramjam.DecompressionError as error:
        if "whole buffer" not in str(error):
            raise
    if room is None:
        raise _TooLarge
    return _unpack_into(codec, packed, None)


def _gunzip(packed: memoryview) -> bytes:
    parts, room, rest = [], UNPACKED_BYTES_MAX, bytes(packed)
    while rest:
        member = zlib.decompressobj(wbits=31)
        part = member.decompress(rest, room + 1)
        if len(part) > room:
            raise _TooLarge
        if not member.eof:
            raise ValueError("it ends in the middle")
        parts.append(part)
        room -= len(part)
        rest = member.unused_data
    return b"".join(parts)


def _unsnap(packed: memoryview) -> bytes:
    data = bytes(packed)
    if not data.startswith(_XERIAL):
        if cramjam.snappy.decompress_raw_len(data) > UNPACKED_BYTES_MAX:
            raise _TooLarge
        return snappy_decode(data)
    out, room, at = io.BytesIO(), UNPACKED_BYTES_MAX, _XERIAL_BYTES
    for _ in range(_SNAPPY_BLOCKS_MAX):
        if at >= len(data):
            return out.getvalue()
        (size,) = struct.unpack_from("!i", data, at)
        block, at = data[at + 4 : at + 4 + max(size, 0)], at + 4 + size
        if size <= 0 or at > len(data):
            raise ValueError(f"a block has {size} bytes")
        room -= cramjam.snappy.decompress_raw_len(block)
        if room < 0:
            raise _TooLarge
        out.write(cramjam.snappy.decompress_raw(block))
    raise _TooLarge


def longest_record_bytes(data: bytes) -> int:
    """The length of the longest record in unpacked data, by what the records say of themselves."""
    fields = _Fields(data)
    longest = 0
    try:
        while fields.at < fields.end:
            length = fields.number()
            longest = max(longest, length)
            fields.skip(length)
    except ValueError:
        return len(data)
    return longest


def read_patiently(data: bytes, count: int, batch: Any, skip: int) -> Iterator[PlainRecord]:
    """The records of unpacked `data` but for the first `skip`; `batch` knows offset and time of the first.

    Raises:
        Rejected: `unreadable`, at the first record that breaks the format.
    """
    fields = _Fields(data)
    for number in range(count):
        try:
            length = fields.number()
            start = fields.at
            fields.skip(length)
            record = _read_record(_Fields(data[start : fields.at]), batch) if number >= skip else None
        except ValueError as error:
            raise Rejected(Code.UNREADABLE, f"record {number} of the batch is broken: {error}") from None
        if record is not None:
            yield record
    if fields.at != fields.end:
        raise Rejected(Code.UNREADABLE, f"{fields.end - fields.at} bytes follow the last record of the batch")


class _Fields:
    """Bytes read field by field. aiokafka's varint reads on behind the end, so there is something behind it."""

    def __init__(self, data: bytes) -> None:
        self.data = bytes(data) + bytes(_VARINT_BYTES)
        self.end = len(data)
        self.at = 0

    def number(self) -> int:
        """A varint."""
        number, self.at = decode_varint(self.data, self.at)
        if self.at > self.end:
            raise ValueError("it ends in the middle")
        return number

    def skip(self, length: int) -> None:
        if not 0 <= length <= self.end - self.at:
            raise ValueError(f"a length of {length} with {self.end - self.at} bytes left")
        self.at += length

    def bytes_or_none(self) -> bytes | None:
        """A length and so many bytes; a negative length is null."""
        length = self.number()
        if length < 0:
            return None
        start = self.at
        self.skip(length)
        return self.data[start : self.at]


def _read_record(fields: _Fields, batch: Any) -> PlainRecord:
    fields.number()  # attributes: unused
    time_delta, offset_delta = fields.number(), fields.number()
    log_append = batch.timestamp_type == DefaultRecordBase.LOG_APPEND_TIME
    return PlainRecord(
        batch.base_offset + offset_delta,
        batch.max_timestamp if log_append else batch.first_timestamp + time_delta,
        batch.timestamp_type,
        fields.bytes_or_none(),
        fields.bytes_or_none(),
        _read_headers(fields),
    )


def read_headers(raw: bytes) -> Headers:
    """The headers of a record, their number before them.

    Raises:
        ValueError: they break the format.
    """
    return _read_headers(_Fields(raw))


def _read_headers(fields: _Fields) -> Headers:
    """Of many only so many as are kept, and those that the stream itself reads."""
    count = fields.number()
    if not 0 <= count <= fields.end:
        raise ValueError(f"it has {count} headers")
    headers: Headers = []
    for _ in range(min(count, HEADERS_READ)):
        name = fields.bytes_or_none()
        if name is None:
            raise ValueError("a header has no name")
        headers.append((name.decode("utf-8", "backslashreplace"), fields.bytes_or_none()))
    return few_headers(headers, count)


def few_headers(headers: Sequence[tuple[str, bytes | None]], count: int) -> Headers:
    """Of too many the first, and the last of those that the stream itself reads; how many are missing is told too."""
    most = HEADERS_KEPT if count > HEADERS_MAX else HEADERS_MAX
    kept: Headers = []
    room_bytes = HEADER_BYTES_MAX
    own: dict[str, tuple[str, bytes | None]] = {}
    for place, (name, value) in enumerate(headers[:HEADERS_READ]):
        size = len(name) + len(value or b"")
        if place < most and size <= room_bytes:
            kept.append((name, value))
            room_bytes -= size
        elif name in OWN_HEADERS and size <= OWN_HEADER_BYTES:
            own[name] = (name, value)
    kept += own.values()
    return kept if len(kept) == count else [*kept, (HEADERS_CUT, str(count - len(kept)).encode())]
