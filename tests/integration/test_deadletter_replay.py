"""Bad events and a wrong model, then a mended one: what a real worker makes of dead letters that are replayed."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from aiokafka.structs import ConsumerRecord

from ops.kafka_io import produce_events, read_topic
from tests.harness import Artefacts, Stream
from tests.integration.test_deadletter_tools import replay, run_process

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

GOOD = 40
BROKEN = [  # what no model mends
    (b"broken", b"not JSON", [("content-type", b"application/json"), ("trace", b"\xff")]),
    (None, b"not JSON either", []),
    (b"", None, []),
    (None, None, []),
]


@pytest.fixture
def misled(services, artefacts: Artefacts, tmp_path: Path) -> Iterator[Stream]:
    """A stream that was started with a model of another vocabulary than its events have."""
    made = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts, prepared=False)
    made.make_topics()
    made.install(artefacts.foreign, champion=True)
    yield made
    made.close()


def records(stream: Stream, topic: str) -> list[ConsumerRecord]:
    async def read() -> list[ConsumerRecord]:
        async with aclosing(read_topic(stream.settings, topic, from_start=True, follow=False)) as found:
            return [record async for record in found]

    return asyncio.run(read())


def header(record: ConsumerRecord, name: str) -> str:
    return dict(record.headers)[name].decode()


def mend(stream: Stream) -> None:
    """The right model, and a worker that starts with it and without what the wrong one left."""
    stream.install(stream.artefacts.first)
    stream.worker_settings["state_dir"] = stream.folder / "new-state"
    stream.redis.set(stream.keys.model, stream.artefacts.first)
    stream.start("right")


def test_mended_events_are_decided_once_and_the_others_counted_until_they_are_left(misled: Stream):
    settings = misled.settings
    events = [
        (b"T-%d" % n, b'{"track_id":"T-%d"' % n + misled.bodies[n], [("n", b"%d" % n)] if n % 2 else [])
        for n in range(GOOD)
    ]
    asyncio.run(produce_events(settings, [*events, *BROKEN]))
    misled.start("misled")
    misled.settle()
    misled.workers["misled"].terminate()
    inputs = {(r.partition, r.offset): r for r in records(misled, settings.topic_probabilities)}
    assert Counter(header(r, "error.code") for r in records(misled, settings.topic_deadletter)) == {
        "fingerprint-mismatch": GOOD, "not-json": 2, "bad-track-id": 1, "empty-value": 1,
    }  # fmt: skip

    mend(misled)
    plan = json.loads(run_process(settings, "replay", "--dry-run", "--json").stdout)
    assert plan["chosen"] == GOOD + len(BROKEN) and plan["codes"]["fingerprint-mismatch"]["count"] == GOOD
    assert len(records(misled, settings.topic_probabilities)) == len(inputs), "a dry run sends nothing"

    mended = ("--code", "fingerprint-mismatch")
    assert replay(settings, *mended)["sent"] == GOOD
    misled.settle()
    assert replay(settings, *mended)["skipped"] == {"replayed-before": GOOD}
    decisions = records(misled, settings.topic_tags)
    assert Counter(r.key for r in decisions) == {key: 1 for key, _, _ in events}, "each decided once"
    before = {r.key: r.partition for r in inputs.values()}
    for record in decisions:
        source = json.loads(record.value)["source"]
        assert (source["partition"], source["offset"]) not in inputs, "a new event with its own coordinates"
        assert source["partition"] == record.partition == before[record.key], "in the partition that it came from"

    for attempt in (2, 3):
        assert replay(settings)["sent"] == len(BROKEN)
        misled.settle()
        letters = [r for r in records(misled, settings.topic_deadletter) if header(r, "attempt") == str(attempt)]
        assert len(letters) == len(BROKEN)
        assert {(r.key, r.value, *r.headers[:-7]) for r in letters} == {
            (key, value, *headers) for key, value, headers in BROKEN
        }
    assert replay(settings)["skipped"]["max-attempts"] == len(BROKEN)
    assert replay(settings, "--max-attempts", "4")["sent"] == len(BROKEN), "unless more are allowed"
