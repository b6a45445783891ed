"""Bulk messages for the fuzzer: valid ones, and every way of spoiling one that an Arrow reader might believe."""

import struct
from random import Random

import numpy as np
import pyarrow as pa

from streamer.core.events import MAX_BULK_BYTES, MAX_BULK_ROWS
from streamer.core.layout import Layout
from tests.fakes import LAYOUT

KINDS = (pa.float16(), pa.float32())
IDS = ("T-1", "", "é" * 256, "x" * 257, "\0", "🎵", "\u202e", None)
LENGTHS = (-1, 0, 1, 2, 7, 2**15, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63))


def message(batches: list[pa.RecordBatch], **options: object) -> bytes:
    """The stream of these batches, of the first one's schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return bytes(sink.getvalue())


def columns(random: Random, layout: Layout, ids: list[str | None], kind: pa.DataType | None = None) -> dict:
    """Our columns for these tracks."""
    found = {"track_id": pa.array(ids, pa.string())}
    for piece in layout.lists:
        if piece.names:
            chosen = kind or random.choice(KINDS)
            numbers = np.array([0.0, 1.0, 0.5, random.random()])[np.arange(len(piece.names) * len(ids)) % 4]
            flat = pa.array(numbers.astype(chosen.to_pandas_dtype()))
            found[piece.field] = pa.FixedSizeListArray.from_arrays(flat, len(piece.names))
    return found


def batch(found: dict, layout: Layout, **metadata: str) -> pa.RecordBatch:
    return pa.record_batch(found, metadata={"vocabulary": layout.fingerprint, **metadata})


def valid(random: Random, layout: Layout, track_id: str = "T-1") -> bytes:
    """A message all of whose rows must be accepted: one batch or more, with or without columns that are ignored."""
    kinds = random.choice(KINDS)
    batches = []
    extra = random.random() < 0.3
    for number in range(random.choice((1, 1, 2))):
        found = columns(random, layout, [f"{track_id}.{number}.{n}" for n in range(random.choice((1, 2, 5)))], kinds)
        if extra:
            found["extra"] = pa.array([[{"deep": [1]}]] * len(found["track_id"]))
        batches.append(batch(found, layout, more="x"))
    return message(batches)


def spoiled(random: Random, value: bytes) -> bytes:
    """One thing changed: a byte, a number where a length or an offset may be, a piece cut out or put in twice."""
    kind, place = random.randrange(7), random.randrange(max(1, len(value)))
    if kind == 0:
        return value[:place]
    if kind == 1:
        return value[:place] + random.choice((b"\0", b"\xff", b"\x80", random.randbytes(1))) + value[place + 1 :]
    if kind in (2, 3):
        where = place - place % 4
        number = random.choice(LENGTHS) if kind == 2 else random.randrange(-300, 300)
        packed = struct.pack("<q", number)[: random.choice((1, 2, 4, 8))]
        return value[:where] + packed + value[where + len(packed) :]
    if kind == 4:
        return value[:place] + value[place + random.choice((1, 4, 8, 64)) :]
    if kind == 5:
        end = place + random.choice((8, 64, 512))
        return value[:end] + value[place:end] + value[end:]
    return value + random.choice((value, b"\xff\xff\xff\xff", b"\0" * 8, random.randbytes(16)))


def torture(random: Random, number: int) -> bytes:
    """The `number`th of the inputs that are large, deep, many or lie; they wrap around."""
    layout = LAYOUT
    rows = columns(random, layout, list(random.choices(IDS, k=50)), pa.float32())
    one = columns(random, layout, ["T-1"], pa.float16())
    many = columns(random, layout, ["T"] * MAX_BULK_ROWS, pa.float16())
    flat = pa.array(np.array([np.nan, np.inf, -0.0, 1.0000001] * 2, np.float32))
    broken = {
        **columns(random, layout, ["a", "b", "c", "d"]),
        "genres.tags": pa.FixedSizeListArray.from_arrays(flat, 2),
    }
    nulls = pa.array([[0.1, None], None], pa.list_(pa.float32(), 2))
    holes = {**columns(random, layout, ["a", None]), "genres.tags": nulls}
    huge_id = {**one, "track_id": pa.array(["x" * (MAX_BULK_BYTES - 10_000)])}
    coded = {**one, "track_id": pa.array(["T-1"]).dictionary_encode()}
    deep = pa.array([1])
    for _ in range(60):
        deep = pa.StructArray.from_arrays([deep], names=["x"])
    wide = {f"c{n}": one["track_id"] for n in range(20_000)}
    shapes = (
        lambda: message([batch(rows, layout)]),
        lambda: message([batch(broken, layout)]),
        lambda: message([batch(holes, layout)]),
        lambda: message([batch(many, layout)]),
        lambda: message([batch(many, layout), batch(one, layout)]),
        lambda: message([batch(one, layout)] * 5_000),
        lambda: message([batch(one, layout).slice(0, 0)] * 200),
        lambda: message([batch(many, layout)], compression="zstd"),
        lambda: message([batch(huge_id, layout)]),
        lambda: message([batch(coded, layout)]),
        lambda: message([batch({**one, "deep": deep}, layout)]),
        lambda: message([batch({**one, **wide}, layout)]),
        lambda: message([batch(one, layout, more="x" * 4_000_000)]),
        lambda: message([batch({**one, "more": pa.array([["x" * 1000] * 4_000])}, layout)]),
        lambda: message([batch(one, layout)]) + bytes(MAX_BULK_BYTES),
        lambda: bytes(MAX_BULK_BYTES),
        lambda: b"\xff" * MAX_BULK_BYTES,
        lambda: b"ARROW1\0\0" + message([batch(one, layout)]),
        lambda: b"",
        lambda: message([pa.record_batch({"x": [1]})]),
    )
    return shapes[number % len(shapes)]()


TORTURES = 20
