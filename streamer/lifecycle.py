"""A worker's life around the hot path: waiting for what it needs, following Redis, telling how it is.

Start-up order does not matter: what is missing is waited for with one clear line each ten seconds, or, with
`fail_fast`, ends the worker at once. What is *wrong* (a topic that cannot hold what we must write) always ends it.
Knows nothing of Faust.
"""

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from aiokafka.errors import KafkaError
from prometheus_client.core import Metric

from streamer.adapters.kafka_rights import worker_rights
from streamer.adapters.kafka_sink import KafkaSink
from streamer.adapters.kafka_topic_contract import message_limits
from streamer.adapters.kafka_topics import inspect_topics
from streamer.adapters.kafka_words import KafkaRefuses
from streamer.adapters.metrics import PrometheusMetrics, counter, gauge, gauges_by
from streamer.adapters.redis_store import RedisStore
from streamer.core.errors import TagstreamError
from streamer.core.stall import Standing
from streamer.pipeline import Pipeline
from streamer.serving import ServingControl, StoreUnavailable
from streamer.settings import Settings
from streamer.watchdog import Consumer, Watchdog

log = logging.getLogger(__name__)

WAIT_LINE_S = 10.0  # between two lines that say what is waited for
WAIT_RETRY_S = 0.5
HEARTBEAT_S = 1.0
NAMESAKE_LINE_S = 60.0  # between two lines about another worker of this one's name


class NotYet(TagstreamError):
    """Something the worker needs is not there yet."""


class SystemClock:
    """`streamer.ports.Clock`."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> float:
        return time.time() * 1000


class Lifecycle:
    """Side tasks of one worker, each with a name: `prepare`, `follow`, `beat`."""

    def __init__(
        self,
        settings: Settings,
        store: RedisStore,
        serving: ServingControl,
        sink: KafkaSink,
        metrics: PrometheusMetrics,
        build_pipeline: Callable[[], Awaitable[Pipeline]],
        fail_fast: bool,
    ) -> None:
        self.pipeline: Pipeline | None = None
        self.consumer: Consumer | None = None
        self.stopping = False
        self._settings = settings
        self._store = store
        self._serving = serving
        self._sink = sink
        self._metrics = metrics
        self._build_pipeline = build_pipeline
        self._fail_fast = fail_fast
        self._resume_token: str | None = None
        self._started_at_s = time.time()
        self._process = f"{socket.gethostname()} pid {os.getpid()} of {self._started_at_s * 1000:.0f}"
        self._beaten = False
        self._namesake_told_s = -NAMESAKE_LINE_S
        self.input_partitions = 0  # known once prepared
        self._watchdog = Watchdog(
            settings.topic_probabilities,
            (settings.topic_tags, settings.topic_scores, settings.topic_deadletter),
            settings.stall_s,
            SystemClock(),
        )
        self._rate = (time.monotonic(), 0, 0.0)  # when, tracks by then, tracks/s
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
        if token != self._resume_token and self.pipeline is not None and self.pipeline.paused:
            self.pipeline.resume()
        self._resume_token = token

    async def watch(self) -> None:
        """Run the watchdog; what it raises ends the worker."""
        assert self.consumer is not None and self.pipeline is not None
        await self._watchdog.run(self.consumer, self.pipeline, lambda: self._metrics.acknowledged_tracks)

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

    def _measure_rate(self) -> None:
        then_s, tracks, _ = self._rate
        now_s, total = time.monotonic(), self._metrics.acknowledged_tracks
        if now_s - then_s >= HEARTBEAT_S / 2:
            self._rate = (now_s, total, (total - tracks) / (now_s - then_s))

    def heartbeat_fields(self) -> dict[str, str]:
        """What `tagstream:workers:<worker>` holds."""
        status = self._serving.status
        fields = {
            "started_at_ms": f"{self._started_at_s * 1000:.0f}",
            "process": self._process,
            "partitions": ",".join(str(partition) for partition in sorted(self._standings())),
            "lag_records": str(self.lag_records()),
            "tracks_per_s": f"{self._rate[2]:.0f}",
            "tracks": str(self._metrics.acknowledged_tracks),
            "thresholds_source": status.source,
            "obeyed_at_ms": f"{status.obeyed_at_ms:.3f}",
            "refusal": status.refusal,
            "model_failure": status.model_failure,
            "paused": self._paused(),
            "pauses": str(self.pipeline.pauses if self.pipeline else 0),
            "stalled": self._watchdog.reason,
        }
        return fields | self._versions()

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

    # How it is

    def _standings(self) -> dict[int, Standing]:
        return {} if self.consumer is None else self.consumer.standings()

    def _connected(self) -> bool:
        return self.consumer is not None and self.consumer.connected()

    def _paused(self) -> str:
        """Why nothing is taken in for now; empty while all is well."""
        return self.pipeline.paused if self.pipeline is not None else ""

    def _versions(self) -> dict[str, str]:
        """The model and the thresholds in use; empty before the first."""
        if not self._serving.ready:
            return {}
        serving = self._serving.current()
        return {"model": serving.model.version, "thresholds": serving.table.version}

    def _lag_by_partition(self) -> dict[int, int]:
        """Records not committed yet, of the assigned partitions whose end is known."""
        return {
            partition: standing.lag for partition, standing in self._standings().items() if standing.lag is not None
        }

    def lag_records(self) -> int:
        """Records of the assigned partitions that are not committed yet."""
        return sum(self._lag_by_partition().values())

    def health(self) -> dict[str, object]:
        """`live`: nothing has failed. `ready`: a model is served and partitions are assigned."""
        pipeline = self.pipeline
        failed = pipeline is not None and pipeline.failed.done()
        partitions = sorted(self._standings())
        stalled = self._watchdog.reason
        connected = self._connected()
        status = self._serving.status
        report: dict[str, object] = {
            "live": not failed,
            "ready": not failed
            and not self.stopping
            and pipeline is not None
            and bool(partitions)
            and not self._paused()
            and not stalled,
            "stalled": stalled,
            "partitions": partitions,
            "lag_records": self.lag_records() if connected else None,
            "kafka": "up" if connected else "down",
            "redis": "up" if status.store_up else "down",
            "thresholds_source": status.source,
            "refusal": status.refusal,
            "model_failure": status.model_failure,
            "paused": self._paused(),
        }
        return report | self._versions()

    def progress_line(self) -> str:
        """One line for a terminal."""
        metrics = self._metrics
        _, tracks, _ = self._rate  # of the same moment as the rate beside it
        return (
            f"{tracks:,} tracks done, {self._rate[2]:,.0f}/s, lag {self.lag_records():,}, "
            f"{metrics.dead_lettered:,} dead letters"
        )

    def metric_families(self) -> Iterable[Metric]:
        """What /metrics reads at scrape time."""
        status = self._serving.status
        lag = [(str(partition), records) for partition, records in self._lag_by_partition().items()]
        yield gauges_by("tagstream_lag_records", "Records not committed yet, by partition", "partition", lag)
        yield gauge("tagstream_assigned_partitions", "Partitions this worker owns", len(self._standings()))
        watchdog = self._watchdog
        yield gauge(
            "tagstream_stalled_partitions",
            "Partitions with lag and no progress for half of TAGSTREAM_STALL_S",
            watchdog.stalled_partitions,
        )
        yield gauge(
            "tagstream_seconds_without_progress", "Of the assigned partition that is the worst", watchdog.idle_s
        )
        yield gauge("tagstream_kafka_up", "1 while the group's coordinator answers", float(self._connected()))
        yield gauge("tagstream_redis_up", "1 while Redis answers", float(status.store_up))
        yield gauge("tagstream_ready", "1 while this worker is ready", float(bool(self.health()["ready"])))
        yield gauge(
            "tagstream_paused", "1 while a surge of dead letters has paused this worker", float(bool(self._paused()))
        )
        yield counter(
            "tagstream_breaker_trips",
            "Pauses for a surge of dead letters",
            self.pipeline.pauses if self.pipeline else 0,
        )
        yield counter(
            "tagstream_publishes_withheld", "Requests held until Kafka's group answered", self._sink.gate.withheld
        )
        yield counter("tagstream_swaps", "Changes of model or thresholds obeyed", status.swaps)
        yield counter("tagstream_thresholds_refused", "Tables refused whole", status.refused_tables)
        yield counter("tagstream_thresholds_restored", "Times Redis had lost model or thresholds", status.restored)
        yield counter("tagstream_model_failures", "Models that could not be loaded", status.model_failures)
        yield gauge("tagstream_thresholds_obeyed_timestamp_seconds", "When last obeyed", status.obeyed_at_ms / 1000)
        if self._serving.ready:
            serving = self._serving.current()
            labels = {
                "model": serving.model.version,
                "thresholds": serving.table.version,
                "vocabulary": serving.model.layout.fingerprint,
                "source": status.source,
            }
            yield gauge("tagstream_serving_info", "What is being decided under", 1.0, labels)
