"""Kafka's records (format 2) read from and written to columns, byte by byte: see kafka_records.py and kafka_batches.py.

Format: https://kafka.apache.org/documentation/#record
"""

import numpy as np
from numpy.typing import NDArray

from streamer.core.kernel import kernel
from streamer.core.packed import NONE, Bytes, Texts, put

_0, _1, _7, _LOW = np.uint64(0), np.uint64(1), np.uint64(7), np.uint64(0x7F)
_MORE = np.uint64(0x80)
_BROKEN = np.uint64(2**64 - 1)  # where there is no place to go on from
_VARINT_BITS = 70  # of ten bytes

# What a reader finds out about a record, the columns of `found`.
OFFSET, TIMESTAMP, KEY, KEY_BYTES, VALUE, VALUE_BYTES, HEADERS, HEADERS_BYTES = range(8)


@kernel
def write_records(
    keys: Texts,
    values: Texts,
    own: Texts,
    times_ms: NDArray[np.int64],
    first: int,
    before: Bytes,
    after: Bytes,
    most_bytes: int,
    out: Bytes,
) -> tuple[int, int]:
    """Write the records from `first` on into `out`, as many as take less than `most_bytes` and one in any case.

    A record with a value has the headers `before` (their number and all up to the length of its own header's value),
    the value of its own header, and `after`; one without has none. Returns how many there are, and their bytes: of a
    first record that does not fit into `out`, (0, the room it needs).
    """
    at, count = _0, 0
    for item in range(first, len(times_ms)):
        key_bytes, value_bytes = keys[2][item], values[2][item]
        time, place = times_ms[item] - times_ms[first], item - first
        size = 1 + _width(time) + _width(place) + _width(key_bytes) + max(0, key_bytes) + _width(value_bytes)
        if value_bytes == NONE:
            size += 1
        else:
            size += value_bytes + len(before) + _width(own[2][item]) + own[2][item] + len(after)
        end = np.int64(at) + _width(size) + size
        if count > 0 and end >= most_bytes:  # aiokafka leaves out what would fill it exactly
            break
        if end > len(out):
            return count, end
        at = _varint(out, at, size)
        out[at] = 0  # attributes: unused
        at = _varint(out, at + _1, time)
        at = _varint(out, at, place)
        at = _bytes(out, at, keys, item)
        at = _bytes(out, at, values, item)
        if value_bytes == NONE:
            out[at] = 0
            at += _1
        else:
            at = put(out, at, before, _0, np.uint64(len(before)))
            at = _bytes(out, at, own, item)
            at = put(out, at, after, _0, np.uint64(len(after)))
        count += 1
    return count, np.int64(at)


@kernel
def _bytes(out: Bytes, at: np.uint64, texts: Texts, item: int) -> np.uint64:
    """A length and so many bytes; a negative length alone is null."""
    length = texts[2][item]
    at = _varint(out, at, length)
    return put(out, at, texts[0], np.uint64(texts[1][item]), np.uint64(max(0, length)))


@kernel
def _zigzag(number: int) -> np.uint64:
    return np.uint64((number << 1) ^ (number >> 63))


@kernel
def _varint(out: Bytes, at: np.uint64, number: int) -> np.uint64:
    rest = _zigzag(number)
    while rest > _LOW:
        out[at] = np.uint8(rest & _LOW | _MORE)
        rest >>= _7
        at += _1
    out[at] = np.uint8(rest)
    return at + _1


@kernel
def _width(number: int) -> int:
    """The bytes of its varint."""
    rest, width = _zigzag(number) >> _7, 1
    while rest > _0:
        rest >>= _7
        width += 1
    return width


@kernel
def read_records(
    data: Bytes, start: int, found: NDArray[np.int64], most_record_bytes: int, most_headers: int, most_header_bytes: int
) -> tuple[int, int]:
    """Read records from `start` on into `found` [N, 8], where each of their parts begins and how long it is.

    Offset and timestamp are relative to the batch's, a length of -1 is null; of the headers those of a record that has
    some, with their number before them, each checked to lie within. Stops before the first record that breaks the
    format, or that has more than `most_...`. Returns how many were read, and the place after the last of them.
    """
    end = np.uint64(len(data))
    good = np.uint64(start)
    for item in range(len(found)):
        at, size = _number(data, good, end)
        if at == _BROKEN or size < 0 or size > most_record_bytes or np.uint64(size) > end - at:
            return item, np.int64(good)
        stop = at + np.uint64(size)
        at, _ = _number(data, at, stop)  # attributes: unused
        at, found[item, TIMESTAMP] = _number(data, at, stop)
        at, found[item, OFFSET] = _number(data, at, stop)
        at, found[item, KEY], found[item, KEY_BYTES] = _stretch(data, at, stop)
        at, found[item, VALUE], found[item, VALUE_BYTES] = _stretch(data, at, stop)
        headers = at
        at, count = _number(data, at, stop)
        if at == _BROKEN or count < 0 or count > most_headers:
            return item, np.int64(good)
        for _ in range(count):
            at, _, length = _stretch(data, at, stop)
            if length < 0:  # a name is never null
                at = _BROKEN
            at, _, _ = _stretch(data, at, stop)
        if at != stop or np.int64(at - headers) > most_header_bytes:
            return item, np.int64(good)
        found[item, HEADERS] = headers
        found[item, HEADERS_BYTES] = np.int64(at - headers) if count > 0 else NONE
        good = at
    return len(found), np.int64(good)


@kernel
def _number(data: Bytes, at: np.uint64, stop: np.uint64) -> tuple[np.uint64, int]:
    """A varint, and the place after it; broken where it does not end before `stop`."""
    number, shift = _0, _0
    while at < stop and shift < _VARINT_BITS:
        byte = np.uint64(data[at])
        at += _1
        if shift < np.uint64(64):
            number |= (byte & _LOW) << shift
        if byte < _MORE:
            return at, np.int64(number >> _1) ^ -np.int64(number & _1)
        shift += _7
    return _BROKEN, 0


@kernel
def _stretch(data: Bytes, at: np.uint64, stop: np.uint64) -> tuple[np.uint64, int, int]:
    """Bytes with their length before them: the place after them, where they begin, their length; -1 of null."""
    at, length = _number(data, at, stop)
    if at == _BROKEN or length < 0:
        return at, 0, NONE
    if np.uint64(length) > stop - at:
        return _BROKEN, 0, NONE
    return at + np.uint64(length), np.int64(at), length
