"""`bench peers`: every system over the same events in interleaved rounds, its outputs checked, medians reported.

Interleaved, because the machine drifts: each round runs every system once, and every other round in reverse, so
that a slow minute falls on all. A system's process has a core of its own where the machine has two; the broker and
this harness have the others. The same for every system.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.bench.environment import environment
from ops.bench.measure import Run
from ops.bench.peers import BASELINE, PEERS, Peer
from ops.bench.stand import OnProgress, Stand, open_stand
from ops.bench.workload import Agreement, Workload
from ops.errors import OpsError

PARTITIONS = 4


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
    around = environment()
    started = time.perf_counter()
    systems, seen = asyncio.run(_compare(peers, events, rounds, on_progress))
    around |= seen | {"load_1min_after": os.getloadavg()[0]}
    return _report(systems, events, rounds) | {
        "missing": missing,
        "environment": around,
        "seconds": time.perf_counter() - started,
    }


async def _compare(
    peers: Sequence[Peer], events: int, rounds: int, on_progress: OnProgress
) -> tuple[dict[str, System], dict[str, Any]]:
    redis = any(peer.needs_redis for peer in peers)
    async with open_stand(on_progress, redis=redis, reserve_core=True) as stand:
        systems = await _rounds(stand, peers, events, rounds)
        kafka = "local" if stand.services.brokers else "TAGSTREAM_KAFKA_BOOTSTRAP"
        return systems, {"kafka": kafka, "core_of_the_system": stand.core}


async def _rounds(stand: Stand, peers: Sequence[Peer], events: int, rounds: int) -> dict[str, System]:
    """Preload the topics once, then every peer in every round."""
    systems = {peer.name: System(peer) for peer in peers}
    workloads = {peer.name: Workload(max(1, round(events * peer.share))) for peer in peers}
    sources = {}
    for peer in peers:
        shared = stand.folder / "shared" / peer.name
        shared.mkdir(parents=True)
        peer.prepare(workloads[peer.name], shared)
        sources[peer.name] = await stand.preload(peer.wire, workloads[peer.name], PARTITIONS)
    for number in range(rounds):
        for peer in peers if number % 2 == 0 else peers[::-1]:
            lane = await stand.lane(f"{peer.name}-{number + 1}", sources[peer.name], PARTITIONS)
            start = peer.start(lane, stand.folder / "shared" / peer.name)
            title = f"{peer.name}, round {number + 1} of {rounds}"
            workload = workloads[peer.name]
            run, agreement = await stand.run(title, lane, [start], workload, core=stand.core, ends=peer.ends)
            systems[peer.name].runs.append(run)
            systems[peer.name].agreements.append(agreement)
    return systems


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
