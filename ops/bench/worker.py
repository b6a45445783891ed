"""`bench worker`, `bench scale` and `bench stages`: tagstream workers by themselves over a preloaded topic.

Unlike `bench peers` they have all cores, beside the broker: what a machine gives. Decisions are compared with those
of the same network run here, outside the stream.
"""

import asyncio
import os
import statistics
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ops.bench.environment import environment
from ops.bench.measure import Run
from ops.bench.model import STUDY_TRACKS_PER_S
from ops.bench.networks import Network, publish
from ops.bench.peers import Start, Wire, start_worker
from ops.bench.stand import OnProgress, Stand, open_stand
from ops.bench.workload import Agreement, Score, Workload
from ops.local.process import free_ports

SCALE = (1, 2, 4)  # workers, with as many partitions
ARROW_SHARE = 4  # times the events: the bulk lane would be done before it can be timed
STAGES_SUM = "tagstream_stage_seconds_sum"

Models = dict[Network, tuple[Path, Score]]  # the folder of its artefact, and what scores with it here


@dataclass(frozen=True)
class Plan:
    """What is run: workers of one network on one lane."""

    wire: Wire
    network: Network
    workers: int
    partitions: int
    events: int
    rounds: int


@dataclass
class Outcome:
    """The runs of a plan, and what the workers' own clocks said at the end of the last."""

    plan: Plan
    runs: list[Run]
    agreements: list[Agreement]
    stages_us: dict[str, float]  # by stage, per event

    def as_report(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        rate = statistics.median(run.events_per_s for run in self.runs)
        return asdict(self.plan) | {
            "events_per_s": rate,
            "cpu_us_per_event": statistics.median(run.cpu_us_per_event for run in self.runs),
            "services_cpu_us_per_event": statistics.median(run.services_cpu_us_per_event for run in self.runs),
            "ratio_to_study": rate / STUDY_TRACKS_PER_S,
            "minutes_for_100_million": 100e6 / rate / 60,
            "agree": all(agreement.holds for agreement in self.agreements),
            "agreement": vars(max(self.agreements, key=lambda a: (not a.holds, a.tags_at_threshold))),
            "stages_us": self.stages_us,
            "runs": [vars(run) for run in self.runs],
        }


def run_workers(plans: Sequence[Plan], on_progress: OnProgress) -> dict[str, Any]:
    """Run each plan in turn on one stand; the report that `--json` prints."""
    around, started = environment(), time.perf_counter()
    outcomes = asyncio.run(_run_all(plans, on_progress))
    return {
        "runs": [outcome.as_report() for outcome in outcomes],
        "agree": all(agreement.holds for outcome in outcomes for agreement in outcome.agreements),
        "foreign_cores": max(run.foreign_cores for outcome in outcomes for run in outcome.runs),
        "environment": around | {"load_1min_after": os.getloadavg()[0]},
        "seconds": time.perf_counter() - started,
    }


def scale_plans(plan: Plan) -> list[Plan]:
    """The same with 1, 2 and 4 workers and partitions."""
    return [replace(plan, workers=count, partitions=count) for count in SCALE]


async def _run_all(plans: Sequence[Plan], on_progress: OnProgress) -> list[Outcome]:
    async with open_stand(on_progress) as stand:
        outcomes = [Outcome(plan, [], [], {}) for plan in plans]
        models = await asyncio.to_thread(publish_models, stand, plans)
        for number in range(max(plan.rounds for plan in plans)):
            for outcome in outcomes:
                if number < outcome.plan.rounds:
                    await run_plan(stand, outcome, models, number + 1)
        return outcomes


def publish_models(stand: Stand, plans: Sequence[Plan]) -> Models:
    """What the plans' workers load."""
    return {network: _publish(stand, network) for network in {plan.network for plan in plans}}


def _publish(stand: Stand, network: Network) -> tuple[Path, Score]:
    """The folder of a network's artefact, and what scores with it here."""
    from model.registry import Registry

    folder = stand.folder / "models" / network
    folder.mkdir(parents=True)
    publish(Workload(0), network, folder)
    registry = Registry(folder)
    return folder, registry.load(registry.aliases()["champion"]).score


async def run_plan(
    stand: Stand,
    outcome: Outcome,
    models: Models,
    number: int,
    at_first: Callable[[list[int]], None] = lambda _pids: None,
) -> None:
    """One more run of a plan."""
    plan = outcome.plan
    workload = Workload(plan.events * (ARROW_SHARE if plan.wire is Wire.ARROW else 1))
    source = await stand.preload(plan.wire, workload, plan.partitions)
    name = f"{plan.wire}-{plan.network}-{plan.workers}-{plan.partitions}-{number}"
    lane = await stand.lane(name, source, plan.partitions)
    models_dir, score = models[plan.network]
    ports = free_ports(plan.workers)
    starts = []
    for index, port in enumerate(ports, 1):
        start = start_worker(lane, models_dir)
        own = {"TAGSTREAM_METRICS_PORT": str(port), "TAGSTREAM_WORKER": f"bench-{index}"}
        starts.append(Start(start.command, {**start.environment, **own}))

    def read_clocks() -> None:
        outcome.stages_us = stage_us(ports, workload.events)

    title = f"{plan.workers} worker{'s' * (plan.workers > 1)}, {plan.wire}, {plan.network}, round {number}"
    run, agreement = await stand.run(
        title, lane, starts, workload, score=score, at_first=at_first, before_end=read_clocks
    )
    outcome.runs.append(run)
    outcome.agreements.append(agreement)


def stage_us(ports: Sequence[int], events: int) -> dict[str, float]:
    """By stage: microseconds per event by the workers' own clocks. Waiting is in it, and stages overlap."""
    total: defaultdict[str, float] = defaultdict(float)
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(STAGES_SUM):
                    stage = line.partition('stage="')[2].partition('"')[0]
                    total[stage] += float(line.rpartition(" ")[2])
    return {stage: seconds / events * 1e6 for stage, seconds in total.items()}
