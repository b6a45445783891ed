"""Record batches of `tracks.scores`, read by columns.

A record object with its headers costs several microseconds, more than all that a re-decide does with it. Workers
write these records, so nearly all of them look alike: their boundaries are found one by one, everything else by whole
columns. A batch that does not look like that (somebody else wrote it) is read by `kafka_records`, record by record.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from streamer.adapters.kafka_records import BatchReader
from streamer.adapters.kafka_unpack import unpack
from streamer.core.events import Rejected
from streamer.core.score_records import Label, ScoreRecords

NO_LABEL = Label("", "")
LABELS_MAX = 4096  # remembered: who writes others by the thousand is read without a memory
_HEADER = DefaultRecordBase.HEADER_STRUCT
_PREFIX = struct.Struct(">qi")  # base offset, and the length of what follows
_MAGIC_AT = struct.calcsize(">qii")
_UNUSUAL = DefaultRecordBase.CONTROL_MASK | DefaultRecordBase.TRANSACTIONAL_MASK | DefaultRecordBase.TIMESTAMP_TYPE_MASK
_LONG_VARINT_BYTES = 10


class _Odd(Exception):
    """Not as workers write it."""


@dataclass(frozen=True, slots=True)
class _Body:
    """One batch as workers write it, unpacked."""

    raw: bytes
    covers: range  # its offsets
    first_ms: int
    data: bytes
    starts: list[int]  # of its records' fields
    ends: list[int]


class ScoreBatches:
    """Reads what fetches bring; remembers the labels it has met."""

    def __init__(self, tp: TopicPartition) -> None:
        self._tp = tp
        self._labels: list[Label] = [NO_LABEL]
        self._places: dict[Label, int] = {NO_LABEL: 0}
        self._prefixes: dict[bytes, int] = {}  # headers up to the source's value -> place of the label
        self._prefix_bytes = 0
        self._mismatches: dict[Any, tuple[int, int]] = {}

    def read(self, data: bytes) -> list[tuple[range, ScoreRecords]]:
        """What a fetch brought, in order: the offsets that were covered, and their records.

        A batch that was cut, or whose checksum is wrong, ends it: it is fetched again.

        Raises:
            kafka_records.Corrupt: for the fifth time with the same batch.
        """
        if len(self._labels) > LABELS_MAX:
            self._labels, self._places, self._prefixes = [NO_LABEL], {NO_LABEL: 0}, {}
        found: list[tuple[range, ScoreRecords]] = []
        alike: list[_Body] = []
        for raw in _batches(data):
            if not BatchReader(raw, self._tp, self._mismatches).has_next():
                break
            body = _body(raw)
            if body is None:
                found += self._of_bodies(alike)
                alike = []
                found.append(self._of_batch(raw))
            else:
                alike.append(body)
        return found + self._of_bodies(alike)

    def _of_bodies(self, bodies: list[_Body]) -> list[tuple[range, ScoreRecords]]:
        """Many batches at once, since small ones cost as much as large ones; one by one where one of them is odd."""
        if not bodies:
            return []
        try:
            return [(range(bodies[0].covers.start, bodies[-1].covers.stop), self._of_columns(bodies))]
        except (_Odd, IndexError):
            return [self._of_batch(body.raw) for body in bodies]

    def _of_batch(self, raw: bytes) -> tuple[range, ScoreRecords]:
        batch = BatchReader(raw, self._tp, {}).next_batch()
        records = () if batch.is_control_batch else batch
        return range(batch.base_offset, batch.next_offset), self._of_records(records)

    def _of_columns(self, bodies: list[_Body]) -> ScoreRecords:
        data = b"".join(body.data for body in bodies)
        counts = [len(body.starts) for body in bodies]
        shifts = np.repeat(np.cumsum([0, *(len(body.data) for body in bodies[:-1])]), counts)
        starts = np.array([at for body in bodies for at in body.starts], np.int64) + shifts
        ends = np.array([at for body in bodies for at in body.ends], np.int64) + shifts
        buffer = np.frombuffer(data + bytes(_LONG_VARINT_BYTES), np.uint8)
        time_deltas, at = _varints(buffer, starts + 1)  # after the attributes
        offset_deltas, at = _varints(buffer, at)
        key_bytes, key_at = _varints(buffer, at)
        value_bytes, value_at = _varints(buffer, key_at + np.maximum(key_bytes, 0))
        headers_at = value_at + np.maximum(value_bytes, 0)
        offsets = np.repeat([body.covers.start for body in bodies], counts) + offset_deltas
        in_order = (np.diff(offsets) > 0).all() and (offset_deltas >= 0).all() and offsets[-1] < bodies[-1].covers.stop
        if not in_order or (key_bytes < 0).any() or (value_bytes < -1).any() or (headers_at >= ends).any():
            raise _Odd
        keys = [data[a:b] for a, b in zip(key_at.tolist(), (key_at + key_bytes).tolist(), strict=True)]
        label, source_at, source_bytes = self._headers(data, buffer, headers_at, ends)
        times = np.repeat([body.first_ms for body in bodies], counts) + time_deltas
        return ScoreRecords(
            data, offsets, times, keys, value_at, value_bytes, source_at, source_bytes, label, self._labels
        )

    def _headers(
        self, data: bytes, buffer: NDArray[np.uint8], at: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Of each record's headers: the label, and where the source is."""
        size = self._prefix_bytes
        known = self._prefixes.get
        places = [known(data[a : a + size], -1) for a in at.tolist()]
        label = np.array(places, np.int64)
        source_at = np.minimum(at + size, len(data))
        source_bytes, source_at = _varints(buffer, source_at)
        odd = (label < 0) | (source_bytes < 0) | (source_at + source_bytes != ends)
        for row in np.flatnonzero(odd).tolist():
            label[row], source_at[row], source_bytes[row] = self._one_header(data, int(at[row]), int(ends[row]))
        return label, source_at, source_bytes

    def _one_header(self, data: bytes, at: int, end: int) -> tuple[int, int, int]:
        """One record's headers, field by field; what begins as they do is known from then on."""
        begin = at
        count, at = _varint(data, at)
        names: dict[bytes, bytes] = {}
        source = (0, -1)
        prefix = b""
        for number in range(count):
            size, at = _varint(data, at)
            name, at = data[at : at + size], at + size
            before = at
            size, at = _varint(data, at)
            if size < -1 or at > end:
                raise _Odd
            if name == b"source" and size >= 0:
                source = at, size
                prefix = data[begin:before] if number == count - 1 else b""
            names[name] = data[at : at + max(size, 0)]
            at += max(size, 0)
        if at != end:
            raise _Odd
        place = self._place(names.get(b"model"), names.get(b"thresholds"))
        if prefix and len(self._prefixes) < LABELS_MAX:
            self._prefix_bytes = len(prefix)
            self._prefixes[prefix] = place
        return place, *source

    def _place(self, model: bytes | None, thresholds: bytes | None) -> int:
        label = Label(_text(model), _text(thresholds))
        place = self._places.get(label)
        if place is None:
            place = self._places[label] = len(self._labels)
            self._labels.append(label)
        return place

    def _of_records(self, records: Iterable[Any]) -> ScoreRecords:
        """The same of any records, at any speed."""
        parts: list[bytes] = []
        columns: list[tuple[int, ...]] = []
        keys: list[bytes | None] = []
        at = 0
        for record in records:
            headers = {name: value for name, value in record.headers if value is not None}
            value, source = record.value, headers.get("source")
            place = self._place(headers.get("model"), headers.get("thresholds"))
            sizes = -1 if value is None else len(value), -1 if source is None else len(source)
            source_at = at + len(value or b"")
            columns.append((record.offset, record.timestamp, at, sizes[0], source_at, sizes[1], place))
            keys.append(record.key)
            parts += [value or b"", source or b""]
            at = source_at + len(source or b"")
        offsets, times, value_at, value_bytes, source_at_, source_bytes, label = (
            np.array(columns, np.int64).reshape(-1, 7).T
        )
        return ScoreRecords(
            b"".join(parts), offsets, times, keys, value_at, value_bytes, source_at_, source_bytes, label, self._labels
        )


def _batches(data: bytes) -> Iterator[bytes]:
    """The whole batches of a fetch; the last one may have been cut, and is left out then."""
    at = 0
    while len(data) - at >= _HEADER.size:
        _, size = _PREFIX.unpack_from(data, at)
        end = at + _PREFIX.size + size
        if size < 0 or end > len(data):
            return
        yield data[at:end]
        at = end


def _body(raw: bytes) -> _Body | None:
    """The batch, unpacked, with its records' boundaries; None where it is not as workers write it."""
    if raw[_MAGIC_AT] < 2:
        return None
    base, _, _, _, _, attributes, last_delta, first_ms, *_, count = _HEADER.unpack_from(raw)
    if attributes & _UNUSUAL or count < 1:
        return None
    codec = attributes & DefaultRecordBase.CODEC_MASK
    try:
        data = bytes(unpack(codec, memoryview(raw)[_HEADER.size :])) if codec else raw[_HEADER.size :]
        starts, ends = _boundaries(data, count)
    except (_Odd, Rejected, IndexError):
        return None
    return _Body(raw, range(base, base + last_delta + 1), first_ms, data, starts, ends)


def _boundaries(data: bytes, count: int) -> tuple[list[int], list[int]]:
    """Where each record's fields begin and where they end."""
    starts, ends = [], []
    at, end = 0, len(data)
    for _ in range(count):
        low = data[at]
        if low < 128:
            length, at = low >> 1, at + 1
        elif (high := data[at + 1]) < 128:
            length, at = (low & 127 | high << 7) >> 1, at + 2
        else:
            length, at = _varint(data, at)
        starts.append(at)
        at += length
        ends.append(at)
        if length <= 0 or at > end:
            raise _Odd
    if at != end:
        raise _Odd
    return starts, ends


def _varints(buffer: NDArray[np.uint8], at: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A zigzag varint at each place [N]: the numbers, and the places behind them."""
    top = len(buffer) - 1
    value = np.zeros(len(at), np.uint64)
    going = np.ones(len(at), np.bool_)
    for number in range(_LONG_VARINT_BYTES):
        byte = np.where(going, buffer[np.minimum(at, top)], 0)
        value |= (byte & 127).astype(np.uint64) << np.uint64(7 * number)
        at = at + going
        going = going & (byte >= 128)
        if not going.any():
            break
    else:
        raise _Odd
    return (value >> np.uint64(1)).astype(np.int64) ^ -(value & np.uint64(1)).astype(np.int64), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise _Odd


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
