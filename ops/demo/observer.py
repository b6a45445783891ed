"""An independent reader of the output topics: what really came out, when, and how often.

It belongs to no consumer group and trusts no worker's own count.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from ops import side_tasks
from ops.kafka_io import read_topic
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import partition_count
from streamer.settings import Settings


@dataclass
class Observed:
    """What the output topics held, by track."""

    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)  # the last one of each track
    decision_ids: dict[str, list[str]] = field(default_factory=dict)  # every one, redeliveries included
    received_at_s: dict[str, float] = field(default_factory=dict)  # of the first, wall clock
    dead: list[dict[str, str]] = field(default_factory=list)
    thresholds_seen: set[str] = field(default_factory=set)

    @property
    def duplicates(self) -> int:
        return sum(len(ids) - 1 for ids in self.decision_ids.values())

    def conflicts(self) -> list[str]:
        """Tracks decided twice under the same version with different ids: a redelivery is never that."""
        return [track for track, ids in self.decision_ids.items() if len(set(ids)) > max(1, len(self.thresholds_seen))]


class Observer:
    """Follows decisions and dead letters while they are written."""

    def __init__(self, settings: Settings) -> None:
        self.seen = Observed()
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._following = {settings.topic_tags: asyncio.Event(), settings.topic_deadletter: asyncio.Event()}

    async def start(self) -> None:
        """Follow both topics, as two tasks; returns when both are being read, so that no wait for it is measured."""
        self._tasks = [asyncio.create_task(self._follow_tags()), asyncio.create_task(self._follow_dead_letters())]
        reading: asyncio.Future[list[bool]] = asyncio.gather(*(event.wait() for event in self._following.values()))
        waited: set[asyncio.Future[Any]] = {reading, *self._tasks}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            reading.cancel()
            await self.stop()

    async def stop(self) -> None:
        """End both tasks; a failure of one is raised here."""
        await side_tasks.end(self._tasks)

    async def wait_for(self, decided: int, dead: int, timeout_s: float) -> bool:
        """Until that many tracks are decided and dead letters there; False when the time is up."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.seen.decisions) < decided or len(self.seen.dead) < dead:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or any(task.done() for task in self._tasks):
                return False
            self._news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left_s)
        return True

    async def _follow_tags(self) -> None:
        async for record in self._read(self._settings.topic_tags):
            if record.value is None:
                continue
            decision = orjson.loads(record.value)
            track, headers = decision["track_id"], dict(record.headers)
            self.seen.decisions[track] = decision
            self.seen.decision_ids.setdefault(track, []).append(headers["decision-id"].decode())
            self.seen.received_at_s.setdefault(track, time.time())
            self.seen.thresholds_seen.add(decision["thresholds"])
            self._news.set()

    async def _follow_dead_letters(self) -> None:
        async for record in self._read(self._settings.topic_deadletter):
            headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
            headers["key"] = "" if record.key is None else record.key.decode("utf-8", "replace")
            self.seen.dead.append(headers)
            self._news.set()

    def _read(self, topic: str) -> AsyncGenerator[ConsumerRecord, None]:
        def following(_: int) -> None:
            self._following[topic].set()

        return read_topic(self._settings, topic, from_start=True, follow=True, on_span=following)


async def group_lag(settings: Settings) -> int:
    """Records of the input topic that the consumer group has not committed, all partitions together."""
    admin = Admin(**client_options(settings))
    async with running(admin, settings):
        committed = await admin.list_consumer_group_offsets(settings.group)
    count = await partition_count(settings, settings.topic_probabilities)
    tps = [TopicPartition(settings.topic_probabilities, number) for number in range(count)]
    consumer = AIOKafkaConsumer(**client_options(settings))
    async with running(consumer, settings):
        ends = await consumer.end_offsets(tps)
    return sum(end - max(0, committed[tp].offset if tp in committed else 0) for tp, end in ends.items())
