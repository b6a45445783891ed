"""The bulk lane through a real Kafka and a real worker: decided as tracks one by one, and what is bad is told."""

import asyncio
from contextlib import aclosing
from typing import Any

import numpy as np
import orjson
import pytest

from model.artifact import disagreements
from model.artifact import load as load_model
from ops.bulk_lane import HEADERS, bulk_message, produce_bulk
from ops.kafka_io import Event, produce_events, read_topic
from streamer.adapters.arrow_events import ArrowEventDecoder
from streamer.core.ids import decision_id
from tests.harness import TUNED, Stream

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

TRACKS = 3_000
ROWS_PER_MESSAGE = 300  # more than a micro-batch, so that messages are taken in by parts


def records_of(stream: Stream, topic: str) -> list[Any]:
    """All of a topic."""

    async def read() -> list[Any]:
        async with aclosing(read_topic(stream.settings, topic, from_start=True, follow=False)) as records:
            return [record async for record in records]

    return asyncio.run(read())


def test_tracks_in_bulk_are_decided_as_tracks_one_by_one(stream: Stream):
    rows = np.random.default_rng(5).random((TRACKS, stream.layout.n_inputs)).astype(np.float32)
    ids = [f"B-{n:05d}" for n in range(TRACKS)]
    stream.start("a")
    told: list[int] = []
    asyncio.run(
        produce_bulk(stream.settings, stream.layout, zip(ids, rows, strict=True), None, told.append, ROWS_PER_MESSAGE)
    )
    spoilt = rows[:3].copy()
    spoilt[1, 7] = 1.5
    bad: list[Event] = [
        (b"whole", b"no Arrow", HEADERS),
        (None, bulk_message(stream.layout, ["X", "Y", "Z"], spoilt), HEADERS),
    ]
    assert asyncio.run(produce_events(stream.settings, bad)) == 2
    stream.settle()
    assert told[-1] == TRACKS

    expected = load_model(stream.artefacts.folder / stream.artefacts.first).score(np.concatenate([rows, spoilt]))
    wanted = dict(zip([*ids, "X", "Y", "Z"], expected, strict=True))
    retained = {
        record.key.decode(): np.frombuffer(record.value, "<f2")
        for record in records_of(stream, stream.settings.topic_scores)
    }
    assert retained.keys() == wanted.keys() - {"Y"}
    thresholds = np.full(stream.layout.n_tags, TUNED)
    beyond, within = disagreements(
        np.stack(list(retained.values())), np.stack([wanted[track] for track in retained]), thresholds
    )
    print(f"{len(retained)} tracks in bulk: {within} decisions within one float16 step of their threshold differ")
    assert beyond == 0

    decided = records_of(stream, stream.settings.topic_tags)
    assert len(decided) == TRACKS + 2
    rows_of: dict[tuple[int, int], list[int]] = {}
    for record in decided:
        decision, headers = orjson.loads(record.value), dict(record.headers)
        source = decision["source"]
        rows_of.setdefault((source["partition"], source["offset"]), []).append(source["row"])
        assert headers["decision-id"].decode() == decision_id(
            source["topic"],
            source["partition"],
            source["offset"],
            source["row"],
            decision["model"],
            decision["thresholds"],
        )
        assert record.partition == source["partition"]
        names = {tag for tags in decision["tags"].values() for tag in tags}
        mine = retained[decision["track_id"]].astype(np.float64) >= thresholds
        assert names == {tag for tag, one in zip(stream.layout.tags, mine, strict=True) if one}
    assert all(places in (list(range(len(places))), [0, 2]) for places in rows_of.values())
    assert max(len(places) for places in rows_of.values()) == ROWS_PER_MESSAGE

    row, whole = sorted(records_of(stream, stream.settings.topic_deadletter), key=lambda letter: letter.key == b"whole")
    assert whole.value == b"no Arrow" and dict(whole.headers)["error.code"] == b"not-arrow"
    reasons = dict(row.headers)
    assert (row.key, reasons["error.code"], reasons["source"][-2:]) == (b"Y", b"not-a-probability", b"/1")
    alone = ArrowEventDecoder(stream.layout).decode(row.value)
    assert list(alone.track_ids) == [b"Y"] and dict(row.headers)["content-type"] == HEADERS[0][1]
