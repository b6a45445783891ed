"""What must hold for any input at all. Each judge fails with an AssertionError that shows the input."""

import asyncio
import time
from collections.abc import Sequence
from random import Random

import numpy as np

from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.core.batch import RecordBatch
from streamer.core.breaker import Breaker
from streamer.core.events import JSON_CONTENT_TYPE, MAX_MESSAGE_CHARACTERS, Code, Rejected
from streamer.core.layout import Layout
from streamer.core.outputs import OutputRecord, content_type, deadletter_headers
from streamer.pipeline import Pipeline, PipelineSettings
from tests.fakes import LAYOUT, FakeClock, FakeMetrics, FakeRecord, FakeServingSource, FakeSink
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
        neighbour = FakeRecord(2 * number, target.valid(random, LAYOUT, track_id), track_id.encode())
        good.append(neighbour)
        among += [neighbour, record._replace(offset=2 * number + 1)]
    alone, _, _ = asyncio.run(_outputs(target, good))
    mixed, dead, committable = asyncio.run(_outputs(target, among))
    mine = {(topic, record.key): record for topic, record in mixed if (record.key or b"").startswith(b"G-")}
    assert mine == {(topic, record.key): record for topic, record in alone}, "a neighbour changed"
    assert (len(mine), committable) == (2 * len(good), {0: 2 * len(hostile)})
    others = (len(mixed) - len(mine)) // 2
    assert others + dead == len(hostile), f"{len(hostile)} hostile inputs, {others} decided and {dead} dead letters"


async def _outputs(target: Target, records: Sequence[FakeRecord]) -> tuple[list[tuple[str, OutputRecord]], int, dict]:
    sink = FakeSink()
    decoders = {JSON_CONTENT_TYPE: target.decoder(LAYOUT), target.content_type: target.decoder(LAYOUT)}
    pipeline = Pipeline(
        PipelineSettings("in", "tags", "scores", "dead", "w", 16, 0.001),
        LAYOUT,
        decoders,
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
        out = [(sent.topic, record) for sent in sink.sent for record in sent.records if sent.topic != "dead"]
        return out, len(sink.records("dead")), pipeline.committable()
    finally:
        await pipeline.close()
