"""Looks at Redis and Kafka twice a second, once for all who watch; seldom while nobody does.

Whatever goes wrong becomes part of what is shown: a console is needed most while something is away.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.exceptions import NoPermissionError

from model.errors import ModelError
from ops import side_tasks
from ops.console.standing import KafkaState, Now, RedisState, TopicState, Worker
from ops.errors import OpsError
from ops.thresholds_admin import Live, ThresholdsAdmin, telling_redis_errors
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

WATCHED_S = 0.5
UNWATCHED_S = 5.0
TOPICS_S = 5.0  # how often what changes seldom is asked
HISTORY_S, SHORTEST_S = 300.0, 30.0  # that a line spans
KAFKA_TIMEOUT_S = 5.0


class Series:
    """A figure of the last minutes, at even steps."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()  # monotonic seconds, value

    def add(self, at_s: float, value: float | None) -> None:
        if value is not None:
            self._points.append((at_s, value))
        while self._points and self._points[0][0] < at_s - HISTORY_S:
            self._points.popleft()

    def recent(self, now_s: float) -> list[tuple[float, float]]:
        """(how far into the window, from 0 to 1; value), oldest first. A young series fills a shorter window."""
        if not self._points:
            return []
        window_s = min(HISTORY_S, max(SHORTEST_S, now_s - self._points[0][0]))
        return [(1 - (now_s - at_s) / window_s, value) for at_s, value in self._points]

    def growth(self, now_s: float, window_s: float) -> tuple[float, float] | None:
        """How much a counter has grown over (at most) the window, and over how many seconds that was."""
        mine = [(at_s, value) for at_s, value in self._points if at_s >= now_s - window_s]
        if len(mine) < 2:
            return None
        return max(0.0, mine[-1][1] - mine[0][1]), mine[-1][0] - mine[0][0]


class Feed:
    """The newest `Now`, its short history, and who wants to be told."""

    def __init__(self, settings: Settings) -> None:
        self.now = Now()
        self.live: Live | None = None  # the table in effect, where there is one
        self.looked = asyncio.Event()  # at Redis, once
        self.series = {name: Series() for name in ("rate", "lag", "p99", "dead")}
        self._settings = settings
        self._admin = ThresholdsAdmin(settings)
        self._watchers: set[asyncio.Event] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._redis = RedisState()
        self._kafka = KafkaState()
        self._redis_details: dict[str, object] = {}
        self._details_at_s = -1e9

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._follow_redis()), asyncio.create_task(self._follow_kafka())]

    async def stop(self) -> None:
        await side_tasks.end(self._tasks)

    @contextmanager
    def watched(self, told: asyncio.Event) -> Iterator[None]:
        """Look often, and set `told` whenever there is news, while the block lasts."""
        self._watchers.add(told)
        self._wake.set()
        try:
            yield
        finally:
            self._watchers.discard(told)

    async def _pause(self) -> None:
        self._wake.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), WATCHED_S if self._watchers else UNWATCHED_S)

    def _publish(self) -> None:
        now_s = time.monotonic()
        self.now = Now(time.time() * 1000, self._redis, self._kafka)
        figures = {
            "rate": self.now.tracks_per_s, "lag": self._kafka.lag_records, "p99": self.now.p99_ms,
            "dead": self._kafka.dead_letters,
        }  # fmt: skip
        for name, value in figures.items():
            self.series[name].add(now_s, value)
        for watcher in self._watchers:
            watcher.set()

    # Redis

    async def _follow_redis(self) -> None:
        while True:
            try:
                self._redis = await asyncio.to_thread(self._look_at_redis)
            except OpsError as error:
                self._redis = RedisState(error=str(error), asked=True)
            self.looked.set()
            self._publish()
            await self._pause()

    def _look_at_redis(self) -> RedisState:
        admin, began_s = self._admin, time.perf_counter()
        model = admin.named_model()
        answers_ms = (time.perf_counter() - began_s) * 1000
        workers = tuple(Worker.read(name, beat) for name, beat in admin.workers().items())
        thresholds = live_error = ""
        try:
            self.live = live = admin.live()
            thresholds, live_error = live.table.version, live.refusal
        except (OpsError, ModelError) as error:
            self.live, live_error = None, str(error)
        return RedisState(
            asked=True, answers_ms=answers_ms, model=model, thresholds=thresholds, live_error=live_error,
            workers=workers, **self._details(model),
        )  # fmt: skip

    def _details(self, model: str) -> dict:
        if time.monotonic() - self._details_at_s >= TOPICS_S:
            with telling_redis_errors(self._settings):
                itself = self._of_redis_itself()
                newest = self._admin.redis.xrevrange(self._admin.keys.history(model), count=1) if model else []
            self._redis_details = itself | {
                "written_at_ms": float(newest[0][0].partition("-")[0]) if newest else None,
            }
            self._details_at_s = time.monotonic()
        return self._redis_details

    def _of_redis_itself(self) -> dict:
        """Nothing where this user may not ask (+info): the overview then says nothing of it."""
        try:
            info = self._admin.redis.info()
        except NoPermissionError:
            return {}
        return {
            "version": str(info.get("redis_version", "")),
            "role": str(info.get("role", "")),
            "memory_bytes": float(info.get("used_memory", 0)),
            "clients": int(info.get("connected_clients", 0)),
            "up_s": float(info.get("uptime_in_seconds", 0)),
        }

    def look_again(self) -> None:
        """Something was written: look now, at what is asked seldom too."""
        self._details_at_s = -1e9
        self._wake.set()

    # Kafka

    async def _follow_kafka(self) -> None:
        options = client_options(self._settings)
        while True:
            try:
                async with (
                    running(Admin(**options), self._settings, KAFKA_TIMEOUT_S) as admin,
                    running(AIOKafkaConsumer(**options), self._settings, KAFKA_TIMEOUT_S) as consumer,
                ):
                    await self._keep_looking(admin, consumer)
            except TagstreamError as error:
                self._kafka = KafkaState(error=str(error), asked=True)
            except (TimeoutError, OSError) as error:
                said = f"Kafka at {self._settings.kafka_bootstrap} does not answer ({type(error).__name__})."
                self._kafka = KafkaState(error=said, asked=True)
            self._publish()
            await asyncio.sleep(WATCHED_S)

    async def _keep_looking(self, admin: Admin, consumer: AIOKafkaConsumer) -> None:
        topics_at_s, described, brokers = -1e9, {}, 0
        while True:
            began_s = time.monotonic()
            async with asyncio.timeout(KAFKA_TIMEOUT_S):
                if began_s - topics_at_s >= TOPICS_S:
                    described = {one["topic"]: one["partitions"] for one in await admin.describe_topics()}
                    brokers = len((await admin.describe_cluster())["brokers"])
                    topics_at_s = began_s
                self._kafka = await self._measure(admin, consumer, described, brokers)
            self._publish()
            await self._pause()

    async def _measure(
        self, admin: Admin, consumer: AIOKafkaConsumer, described: dict[str, list[dict]], brokers: int
    ) -> KafkaState:
        ours = self._settings
        named = {
            ours.topic_probabilities: "probability events", ours.topic_tags: "decisions, the last of every track",
            ours.topic_scores: "scores, the last of every track", ours.topic_deadletter: "dead letters",
        }  # fmt: skip
        places = [TopicPartition(name, one["partition"]) for name in named for one in described.get(name, ())]
        began_s = time.perf_counter()
        ends = await consumer.end_offsets(places) if places else {}
        answers_ms = (time.perf_counter() - began_s) * 1000
        starts = await consumer.beginning_offsets(places) if places else {}
        committed = await admin.list_consumer_group_offsets(ours.group)
        lag = {
            place.partition: end - max(starts[place], committed[place].offset if place in committed else 0)
            for place, end in ends.items()
            if place.topic == ours.topic_probabilities
        }
        topics = []
        for name, what in named.items():
            parts = described.get(name, [])
            held = sum(ends[place] - starts[place] for place in places if place.topic == name)
            copies = min((len(one["replicas"]) for one in parts), default=0)
            short = sum(len(one["isr"]) < len(one["replicas"]) for one in parts)
            topics.append(TopicState(name, what, len(parts), held, copies, short, missing=not parts))
        dead = sum(end for place, end in ends.items() if place.topic == ours.topic_deadletter)
        return KafkaState(
            asked=True, answers_ms=answers_ms, brokers=brokers, topics=tuple(topics),
            lag={partition: max(0, count) for partition, count in sorted(lag.items())}, dead_letters=dead,
        )  # fmt: skip
