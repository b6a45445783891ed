"""Outputs that fail: a record that is refused is a dead letter, a topic that refuses ends the worker, uncommitted;
and a surge of dead letters pauses it until somebody, or the clock, says otherwise."""

import asyncio
import os
import time
from collections.abc import Mapping

import orjson
import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import ConsumerRecord

from ops.circuit import resume_workers
from ops.kafka_io import produce_events, read_topic
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_sink import RECORD_OVERHEAD_BYTES
from tests.harness import Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


def set_limit(stream: Stream, topic: str, limit_bytes: int) -> None:
    """Set a topic's max.message.bytes."""

    async def alter() -> None:
        async with running(Admin(**client_options(stream.settings)), stream.settings) as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(limit_bytes)})
            await admin.alter_configs([resource])

    asyncio.run(alter())


def records(stream: Stream, topic: str) -> list[ConsumerRecord]:
    """Everything in a topic."""

    async def read() -> list[ConsumerRecord]:
        return [r async for r in read_topic(stream.settings, topic, from_start=True, follow=False)]

    return asyncio.run(read())


def headers(record: ConsumerRecord) -> Mapping[str, str]:
    return {name: value.decode() for name, value in record.headers}


def place(text: str) -> tuple[int, int]:
    """Partition and offset of a `source` header."""
    _, partition, offset, _ = text.rsplit("/", 3)
    return int(partition), int(offset)


def test_a_decision_too_large_for_its_topic(stream: Stream):
    """Limits that rise and fall: small ones split the batches, and refuse the record that fits into none."""
    ours = stream.settings
    version = stream.artefacts.first
    stream.redis.hset(stream.keys.live(version), mapping=dict.fromkeys(stream.layout.tags, "0.450000"))
    stream.start("a")
    stream.load(200, bad_every=10_000).finish()
    stream.settle()
    sizes = sorted({len(r.value) for r in records(stream, ours.topic_tags)})
    limit = sizes[len(sizes) // 2]
    stream.workers["a"].terminate()
    set_limit(stream, ours.topic_tags, limit + RECORD_OVERHEAD_BYTES)
    stream.start("b")
    stream.load(200, bad_every=10_000).finish()
    stream.settle()
    decisions = {
        (d["source"]["partition"], d["source"]["offset"]): r
        for r in records(stream, ours.topic_tags)
        for d in [orjson.loads(r.value)]
    }
    dead = {place(headers(r)["source"]): headers(r) for r in records(stream, ours.topic_deadletter)}
    assert dead, "no decision was too large: the test tests nothing"
    assert {letter["error.code"] for letter in dead.values()} == {"output-refused"}
    assert not set(dead) & set(decisions), "decided and dead-lettered"
    assert len(dead) + len(decisions) == 400
    kept = {place(headers(r)["source"]) for r in records(stream, ours.topic_scores)}
    assert kept == set(decisions), "scores without a decision, or the other way round"
    assert stream.workers["b"].is_running()


def test_a_topic_that_refuses_ends_the_worker_with_nothing_committed(stream: Stream):
    """The limit falls while the worker runs: no record is to blame, so none is given up; the next start obeys."""
    (worker,) = stream.start("a")
    stream.load(50, bad_every=10_000).finish()
    stream.settle()
    set_limit(stream, stream.settings.topic_scores, 300)
    stream.load(50, bad_every=10_000).finish()
    assert worker.wait_exit(30) == 1
    assert "max.message.bytes" in worker.log()
    assert stream.lag() == 50
    assert records(stream, stream.settings.topic_deadletter) == []
    set_limit(stream, stream.settings.topic_scores, 1 << 20)
    stream.start("b")
    assert stream.verify().dead == 0


def test_a_dead_letter_that_fits_nowhere_leaves_its_value_at_its_source(stream: Stream):
    """What is incompressible and as large as the input allows, on dead letters that an operator has squeezed since."""
    ours = stream.settings
    (worker,) = stream.start("a")
    worker.terminate()
    value = os.urandom(2 << 20)
    set_limit(stream, ours.topic_probabilities, 3 << 20)
    asyncio.run(produce_events(ours, [(b"bad-large", value, ())]))
    set_limit(stream, ours.topic_probabilities, 1 << 20)
    set_limit(stream, ours.topic_deadletter, (1 << 20) + (1 << 17))
    stream.start("b")
    stream.settle()
    (letter,) = records(stream, ours.topic_deadletter)
    assert letter.value == b""
    assert letter.key == b"bad-large"
    assert headers(letter)["value.omitted"] == str(len(value))
    assert headers(letter)["error.code"] == "too-large"
    partition, offset = place(headers(letter)["source"])
    (source,) = (r for r in records(stream, ours.topic_probabilities) if (r.partition, r.offset) == (partition, offset))
    assert source.value == value


def test_a_surge_of_dead_letters_pauses_until_told(stream: Stream):
    stream.redis.set(stream.keys.resume, "an earlier word")
    worker = stream.worker("a", breaker_inputs=200, breaker_resume_s=0)
    worker.start()
    worker.wait_ready()
    bad = [(f"bad-{n}".encode(), b"not JSON", ()) for n in range(1500)]
    produced = asyncio.run(produce_events(stream.settings, bad))
    eventually(lambda: worker.health().get("paused"), 20, "the worker pauses", worker.health)
    health = worker.health()
    assert health["ready"] is False
    assert health["live"] is True
    assert worker.metrics()["tagstream_paused"] == 1
    assert "deadletter resume" in worker.log()
    stream.redis.delete(stream.keys.resume)  # as when Redis is emptied: nobody has said that it may go on
    time.sleep(1.0)  # nothing to await: that nothing happens is the point
    assert worker.health()["paused"] and stream.lag() > 0
    assert worker.metrics()["tagstream_breaker_trips_total"] == 1

    def let_through() -> bool:
        """Each word of the operator's lets through what pauses it again, until the surge is over."""
        assert all(one.resumed for one in resume_workers(stream.settings, 10).values())
        return stream.lag() == 0

    eventually(let_through, 60, "the surge is over", worker.health)
    assert len(records(stream, stream.settings.topic_deadletter)) == produced
    assert worker.metrics()["tagstream_breaker_trips_total"] >= 2
