"""A worker's life around the hot path: waiting for what it needs, following Redis, watching itself.

Start-up order does not matter: what is missing is waited for with one clear line each ten seconds, or, with
`fail_fast`, ends the worker at once. What is *wrong* (a topic that cannot hold what we must write) always ends it.
Knows nothing of Faust.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiokafka.errors import KafkaError

from streamer.adapters.kafka_rights import worker_rights
from streamer.adapters.kafka_sink import KafkaSink
from streamer.adapters.kafka_topic_contract import message_limits
from streamer.adapters.kafka_topics import inspect_topics
from streamer.adapters.kafka_words import KafkaRefuses
from streamer.adapters.metrics import PrometheusMetrics
from streamer.adapters.redis_store import RedisStore
from streamer.condition import HEARTBEAT_S, Condition
from streamer.core.errors import TagstreamError
from streamer.pipeline import Pipeline
from streamer.redecide import Redecider
from streamer.serving import ServingControl, StoreUnavailable
from streamer.settings import Settings

log = logging.getLogger(__name__)

WAIT_LINE_S = 10.0  # between two lines that say what is waited for
WAIT_RETRY_S = 0.5
NAMESAKE_LINE_S = 60.0  # between two lines about another worker of this one's name


class NotYet(TagstreamError):
    """Something the worker needs is not there yet."""


class Lifecycle(Condition):
    """What one worker does besides the hot path: `prepare`, then the side tasks `follow`, `beat`, `watch` and
    `redecide`."""

    def __init__(
        self,
        settings: Settings,
        store: RedisStore,
        serving: ServingControl,
        sink: KafkaSink,
        metrics: PrometheusMetrics,
        redecider: Redecider,
        build_pipeline: Callable[[], Awaitable[Pipeline]],
        fail_fast: bool,
    ) -> None:
        super().__init__(settings, serving, sink, metrics, redecider)
        self._store = store
        self._build_pipeline = build_pipeline
        self._fail_fast = fail_fast
        self._resume_token: str | None = None
        self._beaten = False
        self._namesake_told_s = -NAMESAKE_LINE_S
        metrics.watch(self)

    # Before Kafka is joined

    async def prepare(self) -> Pipeline | None:
        """Wait for a model, the topics and the producer; None when the worker is told to stop meanwhile.

        Raises:
            TagstreamError: what is there is wrong, or with `fail_fast` what is missing.
        """
        for step in (self._store.check_rights, self._need_model, self._need_topics, self._need_producer):
            if not await self._until(step):
                return None
        self.pipeline = await self._build_pipeline()
        return self.pipeline

    async def _until(self, step: Callable[[], Awaitable[None]]) -> bool:
        told_at_s = -WAIT_LINE_S
        while not self.stopping:
            try:
                await step()
                return True
            except NotYet as missing:
                if self._fail_fast:
                    raise
                if time.monotonic() - told_at_s >= WAIT_LINE_S:
                    told_at_s = time.monotonic()
                    log.warning("waiting: %s", missing)
                await asyncio.sleep(WAIT_RETRY_S * random.uniform(0.5, 1.5))  # many workers, not all at once
        return False

    async def _need_model(self) -> None:
        await self._serving.refresh()
        if not self._serving.ready:
            raise NotYet(f"no model to serve: {self._serving.status.model_failure}")

    async def _need_topics(self) -> None:
        try:
            topics, problems = await inspect_topics(self._settings, worker_rights(self._settings))
        except KafkaRefuses:
            raise  # wrong, not missing: a password, a certificate, a right
        except TagstreamError as error:
            raise NotYet(str(error)) from error
        ours = self._settings
        wanted = (ours.topic_probabilities, ours.topic_tags, ours.topic_scores, ours.topic_deadletter)
        missing = [name for name in wanted if name not in topics]
        if missing:
            raise NotYet(f"no topic {', '.join(missing)}: run `tagstream topics create`")
        fatal = [str(problem) for problem in problems if problem.fatal]
        if fatal:
            raise TagstreamError("; ".join(fatal))
        self.input_partitions = topics[ours.topic_probabilities].partitions
        self._sink.obey_limits(message_limits(topics))

    async def _need_producer(self) -> None:
        try:
            await self._sink.start()
        except KafkaError as error:
            raise NotYet(f"the producer cannot connect: {error}") from error

    # While it runs

    async def follow(self) -> None:
        """Obey Redis: at once when it pushes, at the latest after the poll interval."""
        listener = asyncio.create_task(self._store.listen(), name="redis-listen")
        try:
            while not self.stopping:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._store.changed.wait(), self._settings.thresholds_poll_s)
                self._store.changed.clear()
                await self._serving.refresh()
                await self._heed_resume()
        finally:
            listener.cancel()

    async def _heed_resume(self) -> None:
        """A worker that a surge of dead letters has paused goes on when an operator says so."""
        try:
            token = await self._store.resume_token()
        except StoreUnavailable:
            return  # told by `refresh`; asked again after the next interval
        if not token:
            return  # nobody has said anything; or Redis was emptied, which is no word of an operator's
        if token != self._resume_token and self.pipeline is not None and self.pipeline.paused:
            self.pipeline.resume()
        self._resume_token = token

    async def watch(self) -> None:
        """Run the watchdog; what it raises ends the worker."""
        assert self.consumer is not None and self.pipeline is not None
        await self._watchdog.run(self.consumer, self.pipeline, lambda: self._metrics.acknowledged_tracks)

    async def redecide(self) -> None:
        """Take part in re-decide runs."""
        assert self.consumer is not None and self.pipeline is not None
        await self._redecider.run(self.pipeline, self.consumer, lambda: self.stopping)

    async def beat(self) -> None:
        """Heartbeat in Redis: each second, and right after every swap."""
        while not self.stopping:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._serving.swapped.wait(), HEARTBEAT_S)
            self._serving.swapped.clear()
            self._measure_rate()
            try:
                self._heed_namesake(await self._store.heartbeat(self.heartbeat_fields()))
            except StoreUnavailable as error:
                log.debug("no heartbeat: %s", error)

    def _heed_namesake(self, before: str) -> None:
        """Tell of another process that writes the same heartbeat: the first beat finds whoever was before, at most."""
        ours, first = self._process, not self._beaten
        self._beaten = True
        now_s = time.monotonic()
        if before in ("", ours) or first or now_s < self._namesake_told_s + NAMESAKE_LINE_S:
            return
        self._namesake_told_s = now_s
        log.warning(
            "another process (%s) is the worker %s too, and their heartbeats overwrite each other: "
            "give each its own TAGSTREAM_WORKER",
            before,
            self._settings.worker,
        )

    async def stop(self) -> None:
        """Close everything down; called when Kafka has been left."""
        self.stopping = True
        if self.pipeline is not None:
            await self.pipeline.close()
        try:
            await self._sink.stop()
        except (KafkaError, TimeoutError) as error:
            log.warning("the producer did not close: %s", str(error) or type(error).__name__)
        with suppress(StoreUnavailable):
            await self._store.farewell()
        await self._store.close()
