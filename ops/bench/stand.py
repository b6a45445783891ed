"""What benchmarks on a real Kafka share: services, topics that are preloaded once, and one run after another on them.

The broker may be somebody's own (TAGSTREAM_KAFKA_BOOTSTRAP): every name is this benchmark's, and all topics are gone
at the end.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from aiokafka.admin import NewTopic

from ops.bench.measure import Course, Run, measure, read_decisions
from ops.bench.peers import Lane, Start, Wire
from ops.bench.workload import Agreement, Score, Workload
from ops.bulk_lane import produce_bulk
from ops.kafka_io import produce_events, topic_ranges
from ops.local.services import Services, services_from_environment_or_start
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topic_contract import plan_topics
from streamer.adapters.kafka_topics import create_topics
from streamer.settings import Settings, load_settings

OnProgress = Callable[[str, int, int], None]  # what is under way, how far, of how many


@dataclass
class Stand:
    """Running services and what has been put into them."""

    services: Services
    folder: Path
    core: int | None  # kept free for the system under test
    on_progress: OnProgress
    name: str = field(default_factory=lambda: f"bench-{uuid.uuid4().hex[:8]}")
    topics: set[str] = field(default_factory=set)

    async def preload(self, wire: Wire, workload: Workload, partitions: int) -> str:
        """The topic that holds these events; it is filled by the first who asks."""
        source = f"{self.name}.{wire}-{workload.events}-{partitions}"
        if source in self.topics:
            return source
        lane = await self.lane(f"preload-{wire}-{workload.events}-{partitions}", source, partitions)
        settings, total = self.settings(lane), workload.events

        def tell(done: int) -> None:
            self.on_progress(f"preloading, {wire}", done, total)

        if wire is Wire.ARROW:
            await produce_bulk(settings, workload.layout, workload.tracks(), None, tell)
        else:
            values = ((track_id.encode(), value, ()) for track_id, value in workload.values())
            await produce_events(settings, values, on_progress=tell)
        return source

    async def lane(self, run: str, source: str, partitions: int, stamped: bool = False) -> Lane:
        """A run's own names, its topics created; the broker's time is that of a decision where they are `stamped`."""
        name = f"{self.name}.{run}"
        folder = self.folder / run
        folder.mkdir(parents=True, exist_ok=True)
        lane = Lane(
            name=name, bootstrap=self.services.kafka_bootstrap, redis_url=self.services.redis_url,
            source=source, tags=f"{name}.tags", scores=f"{name}.scores", deadletter=f"{name}.deadletter",
            group=name, folder=folder,
        )  # fmt: skip
        if stamped:
            await self._create_stamped(lane, partitions)
        self.topics |= {topic.name for topic in await create_topics(self.settings(lane), partitions, 1)}
        return lane

    async def _create_stamped(self, lane: Lane, partitions: int) -> None:
        settings = self.settings(lane)
        _, tags, *_ = plan_topics(settings, 1)
        config = {**tags.config, "message.timestamp.type": "LogAppendTime"}
        async with running(Admin(**client_options(settings)), settings) as admin:
            await admin.create_topics([NewTopic(tags.name, partitions, 1, topic_configs=config)])

    @staticmethod
    def settings(lane: Lane) -> Settings:
        """To look at a run's topics."""
        return load_settings(
            kafka_bootstrap=lane.bootstrap, topic_probabilities=lane.source, topic_tags=lane.tags,
            topic_scores=lane.scores, topic_deadletter=lane.deadletter, group=lane.group,
        )  # fmt: skip

    async def run(
        self,
        title: str,
        lane: Lane,
        starts: Sequence[Start],
        workload: Workload,
        *,
        score: Score | None = None,
        core: int | None = None,
        ends: bool = False,
        at_first: Callable[[list[int]], None] = lambda _pids: None,
        before_end: Callable[[], None] = lambda: None,
    ) -> tuple[Run, Agreement]:
        """Start a system on the preloaded topic, measure it to the last commit, compare what it decided."""
        settings, total = self.settings(lane), workload.events
        records = sum(len(offsets) for offsets in (await topic_ranges(settings, lane.source)).values())
        course = Course(total, records, core, ends, self.pids, at_first, before_end)
        run = await measure(settings, starts, lane, course, lambda done: self.on_progress(title, done, total))
        self.on_progress(f"{title}: checking its decisions", total, total)
        agreement = workload.compare(await read_decisions(settings, lane), score)
        agreement.repeated_outputs = run.outputs - total
        return run, agreement

    @property
    def pids(self) -> list[int]:
        """Of the services that are ours."""
        return [process.pid for process in self.services.processes if process.pid]

    async def delete_topics(self) -> None:
        """Leave the broker as it was found."""
        settings = load_settings(kafka_bootstrap=self.services.kafka_bootstrap)
        async with running(Admin(**client_options(settings)), settings) as admin:
            await admin.delete_topics(sorted(self.topics))


@asynccontextmanager
async def open_stand(
    on_progress: OnProgress, *, redis: bool = True, reserve_core: bool = False
) -> AsyncIterator[Stand]:
    """A stand for the length of the block; with `reserve_core` this process and our broker stay off one core."""
    folder = Path(tempfile.mkdtemp(prefix="tagstream-bench-"))
    try:
        on_progress("starting services", 0, 1)
        with services_from_environment_or_start(
            data_dir=folder / "services", die_with_parent=True, redis=redis
        ) as services:
            brokers = [broker.pid for broker in services.brokers if broker.pid]
            with core_for_the_systems(brokers) if reserve_core else _no_core() as core:
                stand = Stand(services, folder, core, on_progress)
                try:
                    yield stand
                finally:
                    await stand.delete_topics()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def core_for_the_systems(broker_pids: Sequence[int]) -> Iterator[int | None]:
    """A core that this process and these brokers stay off; None where there is no second one, or no pinning."""
    if not hasattr(os, "sched_setaffinity") or len(mine := os.sched_getaffinity(0)) < 2:
        yield None
        return
    core = max(mine)
    for pid in broker_pids:
        for thread in psutil.Process(pid).threads():  # an affinity is a thread's, and a broker has many
            os.sched_setaffinity(thread.id, mine - {core})
    os.sched_setaffinity(0, mine - {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, mine)


@contextmanager
def _no_core() -> Iterator[None]:
    yield None
