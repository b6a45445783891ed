"""The bulk lane: many tracks in one message, as an Arrow IPC stream of record batches.

The message is hostile input, and Arrow's own reader trusts what it says of its sizes. So its frames are walked first,
without unpacking anything: how many record batches and rows there are, no dictionaries, and no compressed buffers,
which state their unpacked size themselves (Kafka compresses the message). Only then are our columns read, validated
in full, and looked at where they lie; others are ignored, unread.

Notable choices:
- A message is refused whole where all its rows share the reason (no Arrow, another vocabulary, a column that is
  missing or of another type, too much of anything); a row alone where the reason is its own.
- The message of a row alone is made anew from our columns: names and metadata that came along, as large as they may
  be, are not copied into each dead letter.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamer.core.bulk import Bulk
from streamer.core.events import MAX_BULK_BYTES, MAX_BULK_ROWS, MAX_TRACK_ID_CHARACTERS, Code, Rejected
from streamer.core.layout import Layout, ListSlice
from streamer.core.packed import Packed

TRACK_ID, VOCABULARY = "track_id", b"vocabulary"
MAX_RECORD_BATCHES = 256  # each costs time whatever is in it
MAX_COLUMNS = 1_000
TEXTS = (pa.string(), pa.large_string())
NUMBERS = {pa.float16(): np.float16, pa.float32(): np.float32}
_BROKEN = (pa.ArrowException, OSError, struct.error)  # what Arrow and our walk raise for what is not Arrow
_SCHEMA, _RECORD_BATCH = "schema", "record batch"
_LENGTH, _COMPRESSION, _HEADER = 0, 3, 2  # fields of RecordBatch and Message in Arrow's flatbuffers


class ArrowEventDecoder:
    """One vocabulary's bulk messages. Fulfils `ports.BulkDecoder`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._pieces = [piece for piece in layout.lists if piece.names]

    def decode(self, value: bytes) -> Bulk:
        """All rows of a message.

        Raises:
            Rejected: where the message as a whole can never be decided.
        """
        if len(value) > MAX_BULK_BYTES:
            raise Rejected(Code.TOO_LARGE, f"the message has {len(value)} bytes, at most {MAX_BULK_BYTES} are read")
        if not value:
            raise Rejected(Code.EMPTY_VALUE, "the value is empty")
        try:
            rows = _walk(value)
            ids, lists = self._read(value)
        except _BROKEN as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Rejected(Code.NOT_ARROW, f"not an Arrow IPC stream: {reason}") from None
        if not rows:
            raise Rejected(Code.EMPTY_VALUE, "the message has no rows")
        dead = _bad_ids(ids)
        for piece, array in zip(self._pieces, lists, strict=True):
            dead = _nulls(piece, array) | dead
        columns = [_numbers(array) for array in lists]
        return Bulk(_packed(ids.fill_null("")), columns, dead, lambda row: self._letter(ids, lists, row))

    def _read(self, value: bytes) -> tuple[pa.Array, list[pa.FixedSizeListArray]]:
        """The validated columns that are ours: track ids, and the lists in the layout's order."""
        with pa.ipc.open_stream(pa.py_buffer(value)) as stream:
            wanted = self._columns(stream.schema)
        options = pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
        with pa.ipc.open_stream(pa.py_buffer(value), options=options) as stream:
            table = stream.read_all()
        table.validate(full=True)
        names = (TRACK_ID, *(piece.field for piece in self._pieces))
        ids, *lists = (table.column(name).combine_chunks() for name in names)
        return ids, lists

    def _columns(self, schema: pa.Schema) -> list[int]:
        """Where our columns are.

        Raises:
            Rejected: for another vocabulary, or a column that is missing, there twice, or of another type.
        """
        if len(schema) > MAX_COLUMNS:
            raise Rejected(Code.TOO_LARGE, f"the message has {len(schema)} columns, at most {MAX_COLUMNS} are read")
        self._check_vocabulary(schema.metadata or {})
        found = [_only(schema, TRACK_ID)]
        if schema.field(found[0]).type not in TEXTS:
            raise Rejected(Code.WRONG_SHAPE, f"{TRACK_ID} is {_shown(schema.field(found[0]).type)}, not utf8", TRACK_ID)
        for piece in self._pieces:
            at = _only(schema, piece.field)
            kind = schema.field(at).type
            if not pa.types.is_fixed_size_list(kind) or kind.value_type not in NUMBERS:
                wanted = f"FixedSizeList<float16 or float32>[{len(piece.names)}]"
                raise Rejected(Code.WRONG_SHAPE, f"{piece.field} is {_shown(kind)}, not {wanted}", piece.field)
            if kind.list_size != len(piece.names):
                message = f"{piece.field} has {kind.list_size} numbers a row, the vocabulary has {len(piece.names)}"
                raise Rejected(Code.WRONG_LENGTH, message, piece.field)
            found.append(at)
        return found

    def _check_vocabulary(self, metadata: Any) -> None:
        ours = self._layout.fingerprint
        theirs = metadata.get(VOCABULARY)
        if theirs is None:
            message = "the schema's metadata has no vocabulary: positions need its fingerprint"
            raise Rejected(Code.FINGERPRINT_REQUIRED, message, "vocabulary")
        if theirs != ours.encode():
            message = f"the vocabulary is {theirs[:40].decode('utf-8', 'replace')!r}, this stream's {ours}"
            raise Rejected(Code.FINGERPRINT_MISMATCH, message, "vocabulary")

    def _letter(self, ids: pa.Array, lists: Sequence[pa.FixedSizeListArray], row: int) -> bytes:
        """One row as a message of its own, nulls and all."""
        arrays = [ids.slice(row, 1)]
        for array in lists:
            size, start = array.type.list_size, (array.offset + row) * array.type.list_size
            mask = pa.array([not array[row].is_valid])
            arrays.append(pa.FixedSizeListArray.from_arrays(array.values.slice(start, size), size, mask=mask))
        names = [TRACK_ID, *(piece.field for piece in self._pieces)]
        fields = [pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)]
        schema = pa.schema(fields, metadata={VOCABULARY: self._layout.fingerprint.encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as stream:
            stream.write_batch(pa.record_batch(arrays, schema=schema))
        return bytes(sink.getvalue())


def _walk(value: bytes) -> int:
    """How many rows the frames of a message state; nothing of them is unpacked.

    Raises:
        Rejected: for more than is read, dictionaries, compressed buffers, and what would not be read at all.
    """
    rows = batches = 0
    source = pa.BufferReader(value)
    for frame in pa.ipc.MessageReader.open_stream(source):
        if frame.type == _SCHEMA:
            continue
        if frame.type != _RECORD_BATCH:
            raise Rejected(Code.WRONG_SHAPE, f"the message holds a {frame.type}; only record batches are read")
        metadata = frame.metadata.to_pybytes()
        header = _follow(metadata, _field(metadata, _follow(metadata, 0), _HEADER))
        length = _field(metadata, header, _LENGTH)
        stated = struct.unpack_from("<q", metadata, length)[0] if length else 0
        if stated < 0:
            raise struct.error(f"a record batch of {stated} rows")
        if _field(metadata, header, _COMPRESSION):
            raise Rejected(Code.WRONG_SHAPE, "its buffers are compressed; let Kafka compress the message instead")
        batches += 1
        rows += stated
        if rows > MAX_BULK_ROWS or batches > MAX_RECORD_BATCHES:
            most = f"at most {MAX_BULK_ROWS} rows in {MAX_RECORD_BATCHES} record batches are read"
            raise Rejected(Code.TOO_LARGE, f"the message has {rows} rows or more in {batches} or more; {most}")
    if source.tell() < len(value):
        after = len(value) - source.tell()
        raise Rejected(Code.WRONG_SHAPE, f"{after} bytes follow the end of the stream, and would not be read")
    return rows


def _follow(buffer: bytes, at: int) -> int:
    """Where an offset of a flatbuffer leads."""
    return at + int(struct.unpack_from("<I", buffer, at)[0])


def _field(buffer: bytes, table: int, index: int) -> int:
    """Where a field of a flatbuffer's table is; 0 where it is not there."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    if vtable < 0 or table < 0:
        raise struct.error("a table lies outside of its message")
    if 4 + 2 * index >= struct.unpack_from("<H", buffer, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", buffer, vtable + 4 + 2 * index)[0]
    return table + int(offset) if offset else 0


def _only(schema: pa.Schema, name: str) -> int:
    places = schema.get_all_field_indices(name)
    if not places:
        raise Rejected(Code.MISSING_FIELD, f"there is no column {name}", name)
    if len(places) > 1:
        raise Rejected(Code.WRONG_SHAPE, f"the column {name} is there {len(places)} times", name)
    return int(places[0])


def _shown(kind: pa.DataType) -> str:
    return str(kind)[:60]


def _bad_ids(ids: pa.Array) -> dict[int, Rejected]:
    """Rows whose track id is null or of a length that no track id has."""
    lengths = pc.utf8_length(ids).fill_null(-1).to_numpy(zero_copy_only=False)  # [N]
    dead = {}
    for row in np.flatnonzero((lengths < 1) | (lengths > MAX_TRACK_ID_CHARACTERS)).tolist():
        has = "is null" if lengths[row] < 0 else f"has {lengths[row]} characters, not 1 to {MAX_TRACK_ID_CHARACTERS}"
        dead[row] = Rejected(Code.BAD_TRACK_ID, f"{TRACK_ID} {has}", TRACK_ID)
    return dead


def _packed(ids: pa.Array) -> Packed:
    """The strings where they lie."""
    _, offsets, text = ids.buffers()
    width = np.int64 if pa.types.is_large_string(ids.type) else np.int32
    ends = np.frombuffer(offsets, width)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)  # [N + 1]
    return Packed(np.frombuffer(text or b"", np.uint8), ends[:-1], np.diff(ends))


def _nulls(piece: ListSlice, array: pa.FixedSizeListArray) -> dict[int, Rejected]:
    """Rows in which the list or one of its numbers is null."""
    dead = {}
    inside = _own_values(array)
    if inside.null_count:
        missing = inside.is_null().to_numpy(zero_copy_only=False).reshape(len(array), -1)  # [N, names]
        for row in np.flatnonzero(missing.any(axis=1)).tolist():
            field = f"{piece.field}[{int(missing[row].argmax())}]"
            dead[row] = Rejected(Code.WRONG_SHAPE, f"{field} is null", field)
    if array.null_count:
        for row in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
            dead[row] = Rejected(Code.WRONG_SHAPE, f"{piece.field} is null", piece.field)
    return dead


def _own_values(array: pa.FixedSizeListArray) -> pa.Array:
    size = array.type.list_size
    return array.values.slice(array.offset * size, len(array) * size)


def _numbers(array: pa.FixedSizeListArray) -> NDArray[np.floating]:
    """The numbers [N, names] where they lie; under a null, whatever lies there."""
    values = _own_values(array)
    kind = NUMBERS[array.type.value_type]
    flat = np.frombuffer(values.buffers()[1], kind, count=len(values), offset=values.offset * np.dtype(kind).itemsize)
    return flat.reshape(len(array), -1)
