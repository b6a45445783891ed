"""`bench latency`: how long an event waits for its decision, at several shares of what the worker can carry.

An event's time is when it was due, not when it was sent: what the producer is late by, because anything before it
was slow, is part of the latency (no coordinated omission). It ends when the broker appends the decision, by the
topic's own clock, which with one broker is the moment of acknowledgement; all clocks are this machine's.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from ops.bench.environment import ForeignLoad, environment
from ops.bench.networks import Network
from ops.bench.peers import Lane, Wire
from ops.bench.stand import OnProgress, Stand, open_stand
from ops.bench.worker import Outcome, Plan, publish_models, run_plan
from ops.bench.workload import endless_events
from ops.errors import OpsError
from ops.kafka_io import read_topic
from ops.local.worker import WorkerProcess
from streamer.adapters.kafka_client import client_options, running

PARTITIONS = 4
TICK_S = 0.004  # between two pieces of the load
WARM_UP_S = 2.0  # of each load, not counted
READY_TIMEOUT_S = 60.0
ARRIVE_TIMEOUT_S = 60.0
EXIT_S = 20.0
BATCH_BYTES = 900_000
MOST_AT_ONCE = 400  # of 2.1 KB: they fit a record batch even when all are of one partition
ENOUGH = 0.98  # of the rate wanted must really have been sent
PERCENTILES = (50.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True)
class Load:
    """One offered load and what came of it."""

    share: float  # of the capacity
    wanted_per_s: float
    sent_per_s: float
    events: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    late_p99_ms: float  # of this, how late the event was sent
    foreign_cores: float


def run_latency(
    network: Network, shares: Sequence[float], seconds: float, events: int, on_progress: OnProgress
) -> dict[str, Any]:
    """Measure what one worker can carry, then its latencies at `shares` of that; the report that `--json` prints.

    Raises:
        OpsError: for a share that is none, or where decisions do not arrive.
    """
    for share in shares:
        if not 0 < share <= 1:
            raise OpsError(f"a load of {share:g} is none: it is a share of the capacity, above 0 and at most 1.")
    around = environment()
    capacity, loads = asyncio.run(_measure(network, sorted(shares), seconds, events, on_progress))
    return {
        "network": network,
        "capacity": capacity,
        "seconds_a_load": seconds,
        "loads": [asdict(load) for load in loads],
        "agree": capacity["agree"],
        "environment": around | {"load_1min_after": os.getloadavg()[0]},
    }


@dataclass(frozen=True)
class Sent:
    """What was offered, without the warm-up's; times in milliseconds."""

    share: float
    wanted_per_s: float
    sent_per_s: float
    due_ms: dict[bytes, float]  # by track id
    late_ms: list[float]  # how late each was sent
    foreign_cores: float


async def _measure(
    network: Network, shares: Sequence[float], seconds: float, events: int, on_progress: OnProgress
) -> tuple[dict[str, Any], list[Load]]:
    async with open_stand(on_progress) as stand:
        plan = Plan(Wire.JSON, network, 1, PARTITIONS, events, 1)
        models = await asyncio.to_thread(publish_models, stand, [plan])
        outcome = Outcome(plan, [], [], {})
        await run_plan(stand, outcome, models, 1)
        capacity = outcome.as_report()
        lane = await stand.lane("latency", f"{stand.name}.latency.probabilities", PARTITIONS, stamped=True)
        options = {name.removeprefix("TAGSTREAM_").lower(): value for name, value in lane.environment().items()}
        options |= {"models_dir": str(models[network][0]), "device": "cpu"}
        worker = WorkerProcess("bench-latency", options, folder=lane.folder / "worker")
        worker.start()
        try:
            await asyncio.to_thread(worker.wait_ready, READY_TIMEOUT_S)
            source, offered = endless_events(), []
            for number, share in enumerate(shares):
                on_progress(f"offering {share:.0%} of {capacity['events_per_s']:,.0f}/s", number, len(shares))
                foreign = ForeignLoad([*stand.pids, *([worker.pid] if worker.pid else [])])
                offered.append(
                    await _offer(stand, lane, source, share, share * capacity["events_per_s"], seconds, foreign)
                )
            arrived = await _arrivals(stand, lane, offered)
        finally:
            worker.terminate(EXIT_S)
        return capacity, [_load(sent, arrived) for sent in offered]


async def _offer(
    stand: Stand,
    lane: Lane,
    source: Iterator[tuple[bytes, bytes]],
    share: float,
    rate: float,
    seconds: float,
    foreign: ForeignLoad,
) -> Sent:
    """Send events at a rate for so long, each stamped with the time it is due."""
    settings = stand.settings(lane)
    options: dict[str, Any] = {"acks": "all", "max_batch_size": BATCH_BYTES, "linger_ms": 0}
    count, warm_up = round(rate * (seconds + WARM_UP_S)), round(rate * WARM_UP_S)
    due_ms: dict[bytes, float] = {}
    late_ms: list[float] = []
    futures = []
    async with running(AIOKafkaProducer(**client_options(settings), **options), settings) as producer:
        began_s, sent = time.time(), 0
        while sent < count:
            now_s = time.time()
            piece = min(count - sent, int((now_s - began_s) * rate) - sent, MOST_AT_ONCE)
            batches: dict[int, Any] = {}
            for number, (key, value) in enumerate(itertools.islice(source, max(0, piece)), sent):
                due_s = began_s + number / rate
                if number >= warm_up:
                    due_ms[key] = due_s * 1000
                    late_ms.append((now_s - due_s) * 1000)
                partition = (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
                batch = batches.setdefault(partition, producer.create_batch())
                assert batch.append(key=key, value=value, timestamp=int(due_s * 1000)) is not None, "piece too large"
            for partition, batch in batches.items():
                futures.append(await producer.send_batch(batch, lane.source, partition=partition))
            sent += max(0, piece)
            await asyncio.sleep(TICK_S)
        took_s = time.time() - began_s
        await asyncio.gather(*futures)
    return Sent(share, rate, count / took_s, due_ms, late_ms, foreign.cores())


async def _arrivals(stand: Stand, lane: Lane, offered: Sequence[Sent]) -> dict[bytes, int]:
    """By track id, when its decision was appended (ms); waits until each has one."""
    wanted = set().union(*(sent.due_ms for sent in offered))
    deadline = time.monotonic() + ARRIVE_TIMEOUT_S
    while True:
        arrived: dict[bytes, int] = {}
        async for record in read_topic(stand.settings(lane), lane.tags, from_start=True, follow=False):
            arrived.setdefault(record.key, record.timestamp)
        missing = wanted - arrived.keys()
        if not missing:
            return arrived
        if time.monotonic() > deadline:
            example = min(missing).decode()
            raise OpsError(f"{len(missing):,} events have no decision after {ARRIVE_TIMEOUT_S:.0f} s, {example} first.")


def _load(sent: Sent, arrived: dict[bytes, int]) -> Load:
    latencies = np.array([arrived[key] - due for key, due in sent.due_ms.items()])
    p50, p99, p999, most = np.percentile(latencies, PERCENTILES).tolist()
    late_p99 = float(np.percentile(sent.late_ms, 99))
    return Load(
        sent.share, sent.wanted_per_s, sent.sent_per_s, len(latencies), p50, p99, p999, most, late_p99,
        sent.foreign_cores,
    )  # fmt: skip


def behind(load: dict[str, Any]) -> bool:
    """Whether the producer could not offer what was wanted: then the figures are of a lesser load."""
    return load["sent_per_s"] < ENOUGH * load["wanted_per_s"]
