"""What must hold for any input at all. Each judge fails with an AssertionError that shows the input."""

import asyncio
import time
from collections.abc import Sequence
from random import Random

import numpy as np
import pyarrow as pa

from streamer.adapters.arrow_events import ArrowEventDecoder
from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.adapters.json_events import JsonEventDecoder
from streamer.core.batch import RecordBatch
from streamer.core.breaker import Breaker
from streamer.core.bulk import Bulk
from streamer.core.events import (
    ARROW_CONTENT_TYPE,
    JSON_CONTENT_TYPE,
    MAX_BULK_ROWS,
    MAX_MESSAGE_CHARACTERS,
    Code,
    Rejected,
)
from streamer.core.layout import Layout
from streamer.core.outputs import OutputRecord, content_type, deadletter_headers
from streamer.pipeline import Pipeline, PipelineSettings
from tests.fakes import LAYOUT, FakeClock, FakeMetrics, FakeRecord, FakeServingSource, FakeSink
from tests.fuzz import json_inputs
from tests.fuzz.targets import Target

SECONDS_MAX = 1.0  # of processor time, for one input
SHOWN_BYTES = 200
HEADER_NAMES = (
    "content-type",
    "Content-Type",
    "CONTENT-TYPE",
    "attempt",
    "error.code",
    "source",
    "",
    "é",
    "\\xff",
    "x" * 999,
)
HEADER_VALUES = (
    b"application/json", b"application/json; charset=utf-8", b" APPLICATION/JSON ", b"text/csv", b"", None, b"\xff\xfe",
    b"application/vnd.apache.arrow.stream", b"application/vnd.tagstream.unreadable-batch", b"9" * 400, b"-1", b"1",
    b"\xc2\xb2", "²".encode(), b"\0", b"x" * 100_000,
)  # fmt: skip


def decode_agrees(target: Target, layout: Layout, key: bytes | None, value: bytes) -> bool:
    """The decoder ends in time, only ever raises `Rejected`, and says what the judge says; whether it accepts."""
    if target.bulk:
        return _bulk_agrees(target, layout, value)
    decoder = target.decoder(layout)
    row = np.full(layout.n_inputs, np.nan)
    began_s = time.thread_time()
    found: tuple[str, list[float]] | Rejected
    try:
        track_id = decoder.decode(key, value, row)
        found = (track_id, row.tolist())
        if not ((row >= 0) & (row <= 1)).all():  # the pipeline's check
            found = decoder.explain(key, value) or found
    except Rejected as why:
        found = why
    took_s = time.thread_time() - began_s
    shown = f"{len(value)} bytes: {value[:SHOWN_BYTES]!r}"
    assert took_s < SECONDS_MAX, f"{took_s:.1f} s for {shown}"
    if target.judge is not None:
        judged = target.judge(key, value, layout)
        assert _told(found) == _told(judged), f"{_told(found)} but {_told(judged)} for {shown}"
    if isinstance(found, Rejected):
        assert len(found.message) <= MAX_MESSAGE_CHARACTERS and len(found.field) <= MAX_MESSAGE_CHARACTERS
        dead = deadletter_headers([], found, "t/0/0/0", "w", "now")
        assert all(isinstance(value, bytes) for _, value in dead), shown
        return False
    assert 1 <= len(found[0]) <= 256 and (key is None or found[0].encode() == key), shown
    return True


def _bulk_agrees(target: Target, layout: Layout, value: bytes) -> bool:
    """As for an event; each row is what Arrow's own plain reading says it is, and a message of a row is that row."""
    shown = f"{len(value)} bytes: {value[:SHOWN_BYTES]!r}"
    began_s = time.thread_time()
    try:
        bulk = target.decoder(layout).decode(value)
    except Rejected as why:
        assert time.thread_time() - began_s < SECONDS_MAX, f"{time.thread_time() - began_s:.1f} s for {shown}"
        assert len(why.message) <= MAX_MESSAGE_CHARACTERS and len(why.field) <= MAX_MESSAGE_CHARACTERS
        return False
    rows = np.full((len(bulk), layout.n_inputs), np.nan)
    bulk.fill(layout, 0, rows)
    assert time.thread_time() - began_s < SECONDS_MAX, f"{time.thread_time() - began_s:.1f} s for {shown}"
    names = ["track_id", *(piece.field for piece in layout.lists if piece.names)]
    ours = [pa.ipc.open_stream(value).schema.get_field_index(name) for name in names]  # others may hold anything
    plain = pa.ipc.open_stream(value, options=pa.ipc.IpcReadOptions(included_fields=ours)).read_all()
    assert 1 <= len(bulk) == len(plain) <= MAX_BULK_ROWS, shown
    for row in {0, len(bulk) // 2, len(bulk) - 1, *list(bulk.dead)[:3]}:
        wanted = [number for piece in layout.lists if piece.names for number in _numbers(plain, piece.field, row)]
        track_id = plain.column("track_id")[row].as_py()
        fine = track_id is not None and 1 <= len(track_id) <= 256 and None not in wanted
        assert (row not in bulk.dead) == fine, f"row {row} of {shown}"
        assert not fine or (
            bulk.track_ids[row] == track_id.encode() and np.array_equal(rows[row], wanted, equal_nan=True)
        ), shown
        letter = bulk.letter(row)
        assert len(letter) < 4_000 + len(value), f"row {row} of {shown} alone has {len(letter)} bytes"
        again = target.decoder(layout).decode(letter)
        assert len(again) == 1 and [str(w) for w in again.dead.values()] == [str(w) for w in _of(bulk, row)], shown
    return not bulk.dead


def _of(bulk: Bulk, row: int) -> list[Rejected]:
    return [bulk.dead[row]] if row in bulk.dead else []


def _numbers(plain: pa.Table, field: str, row: int) -> list[float | None]:
    numbers = plain.column(field)[row].as_py()
    return [None] if numbers is None else numbers


def _told(outcome: tuple[str, list[float]] | Rejected) -> object:
    return (outcome.code, outcome.field) if isinstance(outcome, Rejected) else outcome


def any_headers(random: Random) -> list[tuple[str, bytes | None]]:
    """None, few or many; known names twice, null values, values that are no text."""
    count = random.choice((0, 0, 1, 2, 3, 101))
    return [(random.choice(HEADER_NAMES), random.choice(HEADER_VALUES)) for _ in range(count)]


def headers_are_writable(headers: Sequence[tuple[str, bytes | None]]) -> None:
    """A dead letter of a record with these headers can be produced, and its content type is text."""
    content_type(headers).encode()  # type: ignore[arg-type]
    why = Rejected(Code.NOT_JSON, "\ud800 message", "field \udfff")
    for name, value in deadletter_headers(headers, why, "t/0/0/0", "w", "now"):  # type: ignore[arg-type]
        name.encode()
        assert value is None or isinstance(value, bytes)


def neighbours_do_not_notice(target: Target, random: Random, hostile: Sequence[FakeRecord]) -> None:
    """Good events between the hostile ones come out bit for bit as they do alone, and every input is accounted for."""
    good, among = [], []
    for number, record in enumerate(hostile):
        track_id = f"G-{number}"
        neighbour = FakeRecord(2 * number, json_inputs.valid(random, LAYOUT, track_id), track_id.encode())
        good.append(neighbour)
        among += [neighbour, record._replace(offset=2 * number + 1)]
    alone, _ = asyncio.run(_outputs(target, good))
    mixed, committable = asyncio.run(_outputs(target, among))
    mine = {(topic, record.key): record for topic, record in mixed if (record.key or b"").startswith(b"G-")}
    assert mine == {(topic, record.key): record for topic, record in alone}, "a neighbour changed"
    assert (len(mine), committable) == (2 * len(good), {0: 2 * len(hostile)})
    sources = [
        dict(record.headers)["source"].decode().split("/")
        for topic, record in mixed
        if topic != "tags" and record.headers
    ]
    told = {int(offset) for _, _, offset, _ in sources if int(offset) % 2}
    withdrawn = sum(topic == "scores" and record.value is None for topic, record in mixed)
    assert len(told) + withdrawn == len(hostile), (
        f"{len(hostile)} hostile inputs, {withdrawn} withdrawn and {len(told)} told of"
    )
    assert len(sources) == len({tuple(source) for source in sources}), "told of twice"


async def _outputs(target: Target, records: Sequence[FakeRecord]) -> tuple[list[tuple[str, OutputRecord]], dict]:
    sink = FakeSink()
    decoder = {target.content_type: target.decoder(LAYOUT)}
    pipeline = Pipeline(
        PipelineSettings("in", "tags", "scores", "dead", "w", 16, 0.001),
        LAYOUT,
        {JSON_CONTENT_TYPE: JsonEventDecoder(LAYOUT)} | ({} if target.bulk else decoder),
        {ARROW_CONTENT_TYPE: ArrowEventDecoder(LAYOUT)} | (decoder if target.bulk else {}),
        JsonDecisionEncoder(LAYOUT),
        FakeServingSource(),
        sink,
        FakeMetrics(),
        FakeClock(),
        lambda key: None,
        Breaker(share=1.0, least_inputs=1_000_000, window_s=60, resume_s=300),
    )
    try:
        await pipeline.feed(RecordBatch(pipeline.epoch, 0, records))
        assert await pipeline.drain(20), "the pipeline stands still"
        return [(sent.topic, record) for sent in sink.sent for record in sent.records], pipeline.committable()
    finally:
        await pipeline.close()
