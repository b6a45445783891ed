"""`bench peers`: every system over the same events in interleaved rounds, its outputs checked, medians reported.

Interleaved, because the machine drifts: each round runs every system once, and every other round in reverse, so
that a slow minute falls on all. A system's process has a core of its own where the machine has two; the broker and
this harness have the others. The same for every system.
"""

import asyncio
import importlib.metadata
import os
import platform
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ops.bench.measure import Run, measure, read_decisions
from ops.bench.peers import BASELINE, Lane, Peer
from ops.bench.workload import Agreement, Workload
from ops.kafka_io import produce_events
from ops.local.services import Services, services_from_environment_or_start
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import create_topics
from streamer.settings import Settings, load_settings

PARTITIONS = 4
REPORTED_PACKAGES = ("aiokafka", "faust-streaming", "numpy", "orjson", "torch", "tagstream")

OnProgress = Callable[[str, int, int], None]  # what is under way, how far, of how many


@dataclass
class System:
    """A peer's runs and how its outputs compared in each."""

    runs: list[Run] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return all(agreement.holds for agreement in self.agreements)


def run_peers(peers: Sequence[Peer], events: int, rounds: int, on_progress: OnProgress) -> dict[str, Any]:
    """Measure `peers` and return the report that `--json` prints; `agree` says whether all outputs did."""
    folder = Path(tempfile.mkdtemp(prefix="tagstream-bench-"))
    bench = f"bench-{uuid.uuid4().hex[:8]}"
    workload = Workload(events)
    load_before = os.getloadavg()
    started = time.perf_counter()
    try:
        on_progress("starting services", 0, 1)
        with (
            services_from_environment_or_start(
                data_dir=folder / "services", die_with_parent=True, redis=any(p.needs_redis for p in peers)
            ) as services,
            _core_for_the_systems([broker.pid for broker in services.brokers if broker.pid]) as core,
        ):
            systems = asyncio.run(_Bench(services, bench, folder, workload, core, on_progress).rounds(peers, rounds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(systems, workload, rounds) | {
        "environment": _environment(services, core, load_before),
        "seconds": time.perf_counter() - started,
    }


@contextmanager
def _core_for_the_systems(broker_pids: Sequence[int]) -> Iterator[int | None]:
    """A core that this harness and a broker of ours stay off; None where there is no second one, or no pinning."""
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


@dataclass
class _Bench:
    """One comparison on running services."""

    services: Services
    name: str
    folder: Path
    workload: Workload
    core: int | None
    on_progress: OnProgress

    @property
    def source(self) -> str:
        return f"{self.name}.probabilities"

    async def rounds(self, peers: Sequence[Peer], rounds: int) -> dict[str, System]:
        """Preload the topic once, then every peer in every round."""
        settings = self._settings(self._lane("preload"))
        topics = {topic.name for topic in await create_topics(settings, PARTITIONS, 1)}
        systems = {peer.name: System() for peer in peers}
        try:
            await self._preload(settings)
            for peer in peers:
                self._shared(peer).mkdir(parents=True)
                peer.prepare(self.workload, self._shared(peer))
            for number in range(rounds):
                for peer in peers if number % 2 == 0 else peers[::-1]:
                    lane = self._lane(f"{peer.name}-{number + 1}")
                    topics |= {t.name for t in await create_topics(self._settings(lane), PARTITIONS, 1)}
                    await self._run(peer, lane, f"{peer.name}, round {number + 1}", systems[peer.name])
        finally:
            await self._delete(settings, topics)
        return systems

    async def _preload(self, settings: Settings) -> None:
        total = self.workload.events
        values = ((track_id.encode(), value, ()) for track_id, value in self.workload.values())
        await produce_events(settings, values, on_progress=lambda done: self.on_progress("preloading", done, total))

    async def _run(self, peer: Peer, lane: Lane, title: str, system: System) -> None:
        total = self.workload.events
        start = peer.start(lane, self._shared(peer))
        settings = self._settings(lane)
        run = await measure(settings, start, lane, total, self.core, lambda done: self.on_progress(title, done, total))
        agreement = self.workload.compare(await read_decisions(settings, lane))
        agreement.repeated_outputs = run.outputs - total
        system.runs.append(run)
        system.agreements.append(agreement)

    async def _delete(self, settings: Settings, topics: set[str]) -> None:
        """The broker may be somebody's own: it is left as it was found."""
        async with running(Admin(**client_options(settings)), settings) as admin:
            await admin.delete_topics(sorted(topics))

    def _shared(self, peer: Peer) -> Path:
        return self.folder / "shared" / peer.name

    def _lane(self, run: str) -> Lane:
        name = f"{self.name}.{run}"
        folder = self.folder / run
        folder.mkdir(parents=True, exist_ok=True)
        return Lane(
            name=name, bootstrap=self.services.kafka_bootstrap, redis_url=self.services.redis_url,
            source=self.source, tags=f"{name}.tags", scores=f"{name}.scores", deadletter=f"{name}.deadletter",
            group=name, folder=folder,
        )  # fmt: skip

    def _settings(self, lane: Lane) -> Settings:
        return load_settings(
            kafka_bootstrap=lane.bootstrap, topic_probabilities=lane.source, topic_tags=lane.tags,
            topic_scores=lane.scores, topic_deadletter=lane.deadletter, group=lane.group,
        )  # fmt: skip


def _report(systems: dict[str, System], workload: Workload, rounds: int) -> dict[str, Any]:
    medians = {name: statistics.median(run.events_per_s for run in s.runs) for name, s in systems.items()}
    return {
        "events": workload.events,
        "rounds": rounds,
        "agree": all(system.holds for system in systems.values()),
        "systems": {
            name: {
                "events_per_s": medians[name],
                "cpu_us_per_event": statistics.median(run.cpu_us_per_event for run in system.runs),
                "ratio_to_stock_faust": medians[name] / medians[BASELINE] if BASELINE in medians else None,
                "runs": [vars(run) for run in system.runs],
                "agreement": vars(max(system.agreements, key=lambda a: (not a.holds, a.tags_at_threshold))),
                "agree": system.holds,
            }
            for name, system in systems.items()
        },
    }


def _environment(services: Services, core: int | None, load_before: Sequence[float]) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "core_of_the_system": core,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in REPORTED_PACKAGES},
        "kafka": "local" if services.brokers else "TAGSTREAM_KAFKA_BOOTSTRAP",
        "load_1min_before": load_before[0],
        "load_1min_after": os.getloadavg()[0],
    }
