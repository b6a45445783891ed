"""`bench peers`: every system over the same events in interleaved rounds, its outputs checked, medians reported.

Interleaved, because the machine drifts: each round runs every system once, and every other round in reverse, so
that a slow minute falls on all. A system's process has a core of its own where the machine has two; the broker and
this harness have the others. The same for every system.
"""

import asyncio
import os
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

from ops.bench.environment import environment
from ops.bench.measure import Course, Run, measure, read_decisions
from ops.bench.peers import BASELINE, PEERS, Lane, Peer, Wire
from ops.bench.workload import Agreement, Workload
from ops.bulk_lane import produce_bulk
from ops.errors import OpsError
from ops.kafka_io import produce_events, topic_ranges
from ops.local.services import Services, services_from_environment_or_start
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import create_topics
from streamer.settings import Settings, load_settings

PARTITIONS = 4

OnProgress = Callable[[str, int, int], None]  # what is under way, how far, of how many


@dataclass
class System:
    """A peer's runs and how its outputs compared in each."""

    peer: Peer
    runs: list[Run] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return all(agreement.holds for agreement in self.agreements)


def choose(names: Sequence[str]) -> tuple[Peer, ...]:
    """The systems of these names, all where none is given.

    Raises:
        OpsError: for a name that no system has.
    """
    known = {peer.name: peer for peer in PEERS}
    for name in names:
        if name not in known:
            raise OpsError(f"there is no system {name!r} to measure; there are {', '.join(known)}.")
    return tuple(known[name] for name in known if not names or name in names)


def run_peers(peers: Sequence[Peer], events: int, rounds: int, on_progress: OnProgress) -> dict[str, Any]:
    """Measure `peers` and return the report that `--json` prints; `agree` says whether all outputs did.

    Raises:
        OpsError: where none of them can run here, or one of them breaks off.
    """
    missing = {peer.name: why for peer in peers if (why := peer.missing())}
    peers = [peer for peer in peers if peer.name not in missing]
    if not peers:
        raise OpsError(" ".join(missing.values()))
    folder = Path(tempfile.mkdtemp(prefix="tagstream-bench-"))
    around = environment()
    started = time.perf_counter()
    try:
        on_progress("starting services", 0, 1)
        with (
            services_from_environment_or_start(
                data_dir=folder / "services", die_with_parent=True, redis=any(p.needs_redis for p in peers)
            ) as services,
            core_for_the_systems([broker.pid for broker in services.brokers if broker.pid]) as core,
        ):
            bench = _Bench(services, f"bench-{uuid.uuid4().hex[:8]}", folder, events, core, on_progress)
            systems = asyncio.run(bench.rounds(peers, rounds))
            around["kafka"] = "local" if services.brokers else "TAGSTREAM_KAFKA_BOOTSTRAP"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    around |= {"core_of_the_system": core, "load_1min_after": os.getloadavg()[0]}
    return _report(systems, events, rounds) | {
        "missing": missing,
        "environment": around,
        "seconds": time.perf_counter() - started,
    }


@contextmanager
def core_for_the_systems(broker_pids: Sequence[int]) -> Iterator[int | None]:
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
    events: int
    core: int | None
    on_progress: OnProgress
    workloads: dict[int, Workload] = field(default_factory=dict)  # by number of events

    async def rounds(self, peers: Sequence[Peer], rounds: int) -> dict[str, System]:
        """Preload the topics once, then every peer in every round."""
        systems = {peer.name: System(peer) for peer in peers}
        topics: set[str] = set()
        try:
            for peer in peers:
                topics |= await self._prepare(peer, topics)
            for number in range(rounds):
                for peer in peers if number % 2 == 0 else peers[::-1]:
                    lane = self._lane(peer, f"{peer.name}-{number + 1}")
                    topics |= await self._create(lane)
                    await self._run(lane, f"{peer.name}, round {number + 1} of {rounds}", systems[peer.name])
        finally:
            await self._delete(topics)
        return systems

    async def _prepare(self, peer: Peer, topics: set[str]) -> set[str]:
        """What all runs of a peer share: its folder, its events. Peers of one wire and size have one topic."""
        workload = self._workload(peer)
        self._shared(peer).mkdir(parents=True)
        peer.prepare(workload, self._shared(peer))
        lane = self._lane(peer, f"preload-{peer.wire}-{workload.events}")
        if lane.source in topics:
            return set()
        created, settings, total = await self._create(lane), self._settings(lane), workload.events

        def tell(done: int) -> None:
            self.on_progress(f"preloading, {peer.wire}", done, total)

        if peer.wire is Wire.ARROW:
            await produce_bulk(settings, workload.layout, workload.tracks(), None, tell)
        else:
            values = ((track_id.encode(), value, ()) for track_id, value in workload.values())
            await produce_events(settings, values, on_progress=tell)
        return created

    async def _run(self, lane: Lane, title: str, system: System) -> None:
        peer, settings = system.peer, self._settings(lane)
        workload = self._workload(peer)
        total = workload.events
        records = sum(len(offsets) for offsets in (await topic_ranges(settings, lane.source)).values())
        ours = [process.pid for process in self.services.processes if process.pid]
        course = Course(total, records, self.core, peer.ends, ours)
        start = peer.start(lane, self._shared(peer))
        run = await measure(settings, start, lane, course, lambda done: self.on_progress(title, done, total))
        self.on_progress(f"{title}: checking its decisions", total, total)
        agreement = workload.compare(await read_decisions(settings, lane))
        agreement.repeated_outputs = run.outputs - total
        system.runs.append(run)
        system.agreements.append(agreement)

    async def _create(self, lane: Lane) -> set[str]:
        return {topic.name for topic in await create_topics(self._settings(lane), PARTITIONS, 1)}

    async def _delete(self, topics: set[str]) -> None:
        """The broker may be somebody's own: it is left as it was found."""
        settings = load_settings(kafka_bootstrap=self.services.kafka_bootstrap)
        async with running(Admin(**client_options(settings)), settings) as admin:
            await admin.delete_topics(sorted(topics))

    def _workload(self, peer: Peer) -> Workload:
        events = max(1, round(self.events * peer.share))
        return self.workloads.setdefault(events, Workload(events))

    def _shared(self, peer: Peer) -> Path:
        return self.folder / "shared" / peer.name

    def _lane(self, peer: Peer, run: str) -> Lane:
        name = f"{self.name}.{run}"
        folder = self.folder / run
        folder.mkdir(parents=True, exist_ok=True)
        source = f"{self.name}.{peer.wire}-{self._workload(peer).events}"
        return Lane(
            name=name, bootstrap=self.services.kafka_bootstrap, redis_url=self.services.redis_url,
            source=source, tags=f"{name}.tags", scores=f"{name}.scores", deadletter=f"{name}.deadletter",
            group=name, folder=folder,
        )  # fmt: skip

    def _settings(self, lane: Lane) -> Settings:
        return load_settings(
            kafka_bootstrap=lane.bootstrap, topic_probabilities=lane.source, topic_tags=lane.tags,
            topic_scores=lane.scores, topic_deadletter=lane.deadletter, group=lane.group,
        )  # fmt: skip


def _report(systems: dict[str, System], events: int, rounds: int) -> dict[str, Any]:
    medians = {name: statistics.median(run.events_per_s for run in s.runs) for name, s in systems.items()}
    return {
        "events": events,
        "rounds": rounds,
        "agree": all(system.holds for system in systems.values()),
        # By round: how fast all systems were in it, beside their medians. A machine that slows down shows here.
        "drift": [
            statistics.geometric_mean(
                system.runs[number].events_per_s / medians[name] for name, system in systems.items()
            )
            for number in range(rounds)
        ],
        "foreign_cores": max(run.foreign_cores for system in systems.values() for run in system.runs),
        "systems": {
            name: {
                "what": system.peer.what,
                "events": system.agreements[0].expected_tracks,
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
