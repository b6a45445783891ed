"""The stage for `bench memory`: own Kafka and Redis, one worker that can be slowed, events, and who watches it.

Everything that is measured comes from outside the worker: its resident set from the operating system, the lag from
the group's committed offsets, the outputs from the ends of their topics, rebalances from the consumer's own log.
"""

import asyncio
import itertools
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from ops.bench.peers import PEERS
from ops.bench.slow_worker import SLOW_FILE_VARIABLE
from ops.bench.workload import Workload, endless_events
from ops.errors import OpsError
from ops.local.services import start_services
from ops.local.worker import WorkerProcess
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import create_topics
from streamer.settings import load_settings

MIB = 1 << 20
PRODUCER_BATCH_BYTES = 900_000
PIECE_EVENTS = 400  # of 2.1 KB: fits a record batch even when all are of one partition
TICK_S = 0.2  # between two pieces of a paced load
JOINED = re.compile(r"Joined group .* \(generation (\d+)\)")
STARTED = ": metrics and health at "  # in the first line of each start
LOG_TAIL_CHARACTERS = 2_000


@dataclass(frozen=True)
class Sample:
    """One look at the worker; `phase` is what was going on."""

    at_s: float
    phase: str
    rss_mib: float
    lag: int


class SlowableWorker(WorkerProcess):
    """A real worker under `ops.bench.slow_worker`."""

    slow_file: Path

    def command(self) -> list[str]:
        return [sys.executable, "-m", "ops.bench.slow_worker"]

    def environment(self) -> dict[str, str]:
        return super().environment() | {SLOW_FILE_VARIABLE: str(self.slow_file)}


class Scene:
    """Topics of `partitions` partitions and one worker on them; ended and deleted with the block."""

    def __init__(self, partitions: int, batch_max: int | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tagstream-memory-"))
        self.partitions = partitions
        self.samples: list[Sample] = []
        self.produced = 0
        self._events = endless_events()
        self._slow_file = self._folder / "tracks-per-s"
        self._batch_max = batch_max

    def __enter__(self) -> "Scene":
        try:
            return self._set_up()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _set_up(self) -> "Scene":
        self._services = start_services(data_dir=self._folder / "services", die_with_parent=True)
        models = self._folder / "models"
        models.mkdir()
        next(peer for peer in PEERS if peer.name == "tagstream-json").prepare(Workload(0), models)
        options: dict[str, Any] = {
            "kafka_bootstrap": self._services.kafka_bootstrap, "redis_url": self._services.redis_url,
            "models_dir": models, "state_dir": self._folder / "state", "device": "cpu", "batch_max": self._batch_max,
        }  # fmt: skip
        options = {name: value for name, value in options.items() if value is not None}
        self.settings = load_settings(**options)
        asyncio.run(create_topics(self.settings, self.partitions, 1))
        self.worker = SlowableWorker("memory", options, folder=self._folder / "worker")
        self.worker.slow_file = self._slow_file
        self._started_s = time.monotonic()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.worker.kill()
        self._services.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    # The worker

    def slow(self, tracks_per_s: float | None) -> None:
        """Let the scorer carry so many tracks a second; None: as many as it can."""
        if tracks_per_s is None:
            self._slow_file.unlink(missing_ok=True)
            return
        aside = self._slow_file.with_suffix(".part")
        aside.write_text(str(tracks_per_s))
        aside.replace(self._slow_file)

    def rss_mib(self) -> float:
        """The worker's resident set."""
        try:
            return psutil.Process(self.worker.pid).memory_info().rss / MIB
        except psutil.Error:
            tail = self.worker.log()[-LOG_TAIL_CHARACTERS:].strip()
            raise OpsError(f"the worker has ended while its memory was measured: {tail}") from None

    def watch(self, phase: str, until: Callable[[Sample], bool], timeout_s: float, interval_s: float) -> list[Sample]:
        """Sample each `interval_s` until `until` says so; its samples.

        Raises:
            OpsError: the worker has ended, or the time is up.
        """
        seen: list[Sample] = []
        deadline = time.monotonic() + timeout_s
        while not seen or not until(seen[-1]):
            if time.monotonic() > deadline:
                raise OpsError(f"phase {phase!r} was not over within {timeout_s:.0f} s; last seen: {seen[-1:]}")
            lag = self.lag()
            seen.append(Sample(self.now_s(), phase, self.rss_mib(), lag))
            time.sleep(interval_s)
        self.samples += seen
        return seen

    def now_s(self) -> float:
        """The samples' time."""
        return time.monotonic() - self._started_s

    def joins_of_this_start(self) -> list[int]:
        """The group's generations that the worker has joined since it was started last: one, without a rebalance."""
        return [int(found) for found in JOINED.findall(self.worker.log().rpartition(STARTED)[2])]

    def complaints(self) -> list[str]:
        """What the worker logged as a warning or worse about its heartbeats or its partitions."""
        lines = [line for line in self.worker.log().splitlines() if '"level": "info"' not in line]
        return [line for line in lines if re.search("heartbeat|rebalanc|reassigned|revoked", line, re.IGNORECASE)]

    # Kafka

    def lag(self) -> int:
        """Events in the log that the group has not committed."""
        return asyncio.run(self._lag())

    async def _lag(self) -> int:
        async with running(Admin(**client_options(self.settings)), self.settings) as admin:
            committed = await admin.list_consumer_group_offsets(self.settings.group)
        ends = await self._ends(self.settings.topic_probabilities)
        known = {tp: max(0, meta.offset) for tp, meta in committed.items()}
        return sum(end - known.get(tp, 0) for tp, end in ends.items())

    async def _ends(self, topic: str) -> dict[TopicPartition, int]:
        async with running(AIOKafkaConsumer(**client_options(self.settings)), self.settings) as consumer:
            return await consumer.end_offsets([TopicPartition(topic, number) for number in range(self.partitions)])

    def outputs(self) -> int:
        """Decisions in their topic, repeated ones included."""
        return sum(asyncio.run(self._ends(self.settings.topic_tags)).values())

    def load(self, rate_per_s: float, seconds: float) -> threading.Thread:
        """Produce at a rate for so long, in a thread; `produced` follows."""
        paced = self._put(lambda began_s, _written: time.monotonic() - began_s < seconds, rate_per_s)
        thread = threading.Thread(target=lambda: asyncio.run(paced), daemon=True)
        thread.start()
        return thread

    def preload(self, raw_bytes: int, on_progress: Callable[[int], None] = lambda _written: None) -> None:
        """Put events of so many bytes in all into the topic, as fast as it goes."""

        def more(_began_s: float, written: int) -> bool:
            on_progress(written)
            return written < raw_bytes

        asyncio.run(self._put(more))

    async def _put(self, more: Callable[[float, int], bool], rate_per_s: float | None = None) -> None:
        """Produce by whole record batches while `more(began, bytes written)`: a tenth of the work of event by event."""
        options: dict[str, Any] = {"acks": "all", "compression_type": "zstd", "max_batch_size": PRODUCER_BATCH_BYTES}
        producer = AIOKafkaProducer(**client_options(self.settings), **options)
        began_s, written, sent = time.monotonic(), 0, 0
        async with running(producer, self.settings):
            while more(began_s, written):
                due = int((time.monotonic() - began_s) * rate_per_s) - sent if rate_per_s else PIECE_EVENTS
                if due <= 0:
                    await asyncio.sleep(TICK_S)
                    continue
                piece = list(itertools.islice(self._events, min(due, PIECE_EVENTS)))
                await self._send(producer, piece)
                sent += len(piece)
                written += sum(len(value) for _, value in piece)
            await producer.flush()
        self.produced += sent

    async def _send(self, producer: AIOKafkaProducer, piece: Sequence[tuple[bytes, bytes]]) -> None:
        """One record batch for each partition that the piece has events of."""
        batches: dict[int, Any] = {}
        for key, value in piece:
            number = (murmur2(key) & 0x7FFFFFFF) % self.partitions
            batch = batches.setdefault(number, producer.create_batch())
            assert batch.append(key=key, value=value, timestamp=int(time.time() * 1000)) is not None, "piece too large"
        for number, batch in batches.items():
            await producer.send_batch(batch, self.settings.topic_probabilities, partition=number)

    def log_mib(self) -> float:
        """What the input topic takes on the broker's disk, as it was compressed."""
        name = self.settings.topic_probabilities
        files = (self._folder / "services").glob(f"kafka-*/data/{name}-*/*.log")
        return sum(file.stat().st_size for file in files) / MIB
