"""How soon a change of thresholds decides: real workers under load, and an edit in Redis over and over.

The edits are plain writes to the live hash, as any Redis tool makes them. What is timed is from just before the write
to the first decision under the new table on the output topic, worker by worker, by the worker's own `decided_at` on
the same machine's clock. The next edit comes when every worker has decided by the last one, after a pause of random
length, so that edits fall on any moment of a worker's round. Afterwards all decisions are read again and held against
their retained scores.
"""

import asyncio
import itertools
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ops.bench.environment import ForeignLoad, environment
from ops.bench.scene import OnProgress, WorkersScene
from ops.bench.swap_evidence import Decided, Swap, at_ms, latencies_ms, mixed_batches, unexplained
from ops.bench.workload import CHUNK_TRACKS, Workload, track_id_of
from ops.errors import OpsError
from ops.kafka_io import Event, produce_events, read_topic
from ops.local.services import services_from_environment_or_start
from streamer.core.thresholds import ThresholdTable

PARTITIONS_PER_WORKER = 2
EDIT_TAGS = 20  # changed by one edit
OBEY_TIMEOUT_S = 15.0
PAUSE_MAX_S = 0.1
LOOK_S = 0.002  # between two looks at what was decided
WARM_UP_S = 2.0
GOAL_MS, LIMIT_MS = 250.0, 500.0  # of the 99th percentile
SEED = 7


def run_swap(swaps: int, workers: int, rate_per_s: float, on_progress: OnProgress) -> dict[str, Any]:
    """The report: `p50_ms` and `p99_ms` over all workers and swaps, `mixed_batches`, and what stands behind them.

    Raises:
        OpsError: a worker ends, does not decide by a table in time, or the partitions change hands meanwhile.
    """
    folder = Path(tempfile.mkdtemp(prefix="tagstream-swap-"))
    try:
        on_progress("starting services", 0, 1)
        with services_from_environment_or_start(data_dir=folder / "services", die_with_parent=True) as services:
            scene = _Scene(services.kafka_bootstrap, services.redis_url, folder, workers, on_progress)
            try:
                scene.make_topics()
                scene.start("bench swap")
                machine = environment()
                foreign = ForeignLoad([*(one.pid or 0 for one in services.processes), *scene.pids])
                asyncio.run(scene.swap(swaps, rate_per_s))
                machine["foreign_cores"] = round(foreign.cores(), 2)
                decided, scores = asyncio.run(scene.read())
            finally:
                scene.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(scene, decided, scores, rate_per_s) | {"environment": machine}


class _Scene(WorkersScene):
    """Edits, and what was decided by them."""

    def __init__(self, bootstrap: str, redis_url: str, folder: Path, workers: int, on_progress: OnProgress) -> None:
        super().__init__(bootstrap, redis_url, folder, workers, PARTITIONS_PER_WORKER * workers, on_progress)
        self.swaps: list[Swap] = []
        self.tables: dict[str, ThresholdTable] = {}
        self._seen: set[tuple[str, str]] = set()  # worker, version

    async def swap(self, swaps: int, rate_per_s: float) -> None:
        """A steady load, and one edit after another."""
        ending = asyncio.Event()
        events = _events(ending)
        load = asyncio.create_task(produce_events(self.settings, events, rate_per_s))
        tail = asyncio.create_task(self._follow())
        try:
            await asyncio.sleep(WARM_UP_S)
            moments = random.Random(SEED)
            for number in range(swaps):
                await self._one(number, moments, load, tail)
                self.on_progress("swapping", number + 1, swaps)
                await asyncio.sleep(moments.uniform(0, PAUSE_MAX_S))
            ending.set()
            await load
        finally:
            for task in (load, tail):
                task.cancel()
            await asyncio.gather(load, tail, return_exceptions=True)
        if self.owned() != self.owners:
            raise OpsError("the partitions have changed hands during the run: the figures would be of nothing.")

    async def _one(self, number: int, moments: random.Random, *running: asyncio.Task) -> None:
        """Write one edit and wait until every worker has decided by it."""
        live = self.admin.live()
        some = moments.sample(live.vocabulary.tags, EDIT_TAGS)
        values = {tag: f"{moments.uniform(0.05, 0.95):.6f}" for tag in some}
        table = ThresholdTable.build(live.vocabulary.tags, {**live.raw, **values}, live.tuned)
        self.tables |= {live.table.version: live.table, table.version: table}
        self.swaps.append(Swap(table.version, time.time() * 1000))
        self.admin.redis.hset(self.admin.keys.live(live.model), mapping=values)
        deadline_s = time.monotonic() + OBEY_TIMEOUT_S
        while not all((name, table.version) in self._seen for name in self.workers):
            for task in running:
                if task.done():
                    await task
            if time.monotonic() > deadline_s:
                late = [name for name in self.workers if (name, table.version) not in self._seen]
                ended = [name for name, worker in self.workers.items() if not worker.is_running()]
                why = f"; ended: {', '.join(ended)}" if ended else ""
                raise OpsError(f"swap {number + 1}: no decision in {OBEY_TIMEOUT_S:g} s by {', '.join(late)}{why}.")
            await asyncio.sleep(LOOK_S)

    async def _follow(self) -> None:
        """Notice which worker has decided by which table."""
        records = read_topic(self.settings, self.settings.topic_tags, from_start=True, follow=True)
        async with aclosing(records):
            async for record in records:
                version = dict(record.headers).get("thresholds", b"").decode()
                self._seen.add((self.owners[record.partition], version))

    async def read(self) -> tuple[list[Decided], dict[tuple[int, int], NDArray[np.float16]]]:
        """All decisions in the order of their partitions, and the retained scores by input."""
        decided, scores = [], {}
        self.on_progress("reading the decisions again", 0, 1)
        async for record in read_topic(self.settings, self.settings.topic_tags, from_start=True, follow=False):
            value = orjson.loads(record.value or b"")
            tags = frozenset(tag for names in value["tags"].values() for tag in names)
            worker, offset = self.owners[record.partition], value["source"]["offset"]
            when = at_ms(value["decided_at"])
            decided.append(Decided(worker, record.partition, offset, value["thresholds"], when, tags))
        async for record in read_topic(self.settings, self.settings.topic_scores, from_start=True, follow=False):
            offset = int(dict(record.headers)["source"].split(b"/")[-2])
            scores[record.partition, offset] = np.frombuffer(record.value or b"", "<f2")
        return decided, scores


def _events(ending: asyncio.Event) -> Iterator[Event]:
    """Events until the end; the bodies of the first come again under other track ids."""
    bodies = [value.partition(b",")[2] for _, value in Workload(CHUNK_TRACKS).values()]
    for number, body in enumerate(itertools.cycle(bodies)):
        if ending.is_set():
            return
        key = track_id_of(number).encode()
        yield key, b'{"track_id":"%b",%b' % (key, body), ()


def _report(
    scene: _Scene, decided: list[Decided], scores: dict[tuple[int, int], NDArray[np.float16]], rate_per_s: float
) -> dict[str, Any]:
    by_worker = latencies_ms(scene.swaps, decided)
    times = {name: np.array([one for one in mine if one is not None]) for name, mine in by_worker.items()}
    every = np.concatenate(list(times.values()))
    return {
        **_figures(every),
        "mixed_batches": mixed_batches(decided),
        "unexplained_decisions": unexplained(decided, scores, scene.tables),
        "missed": sum(one is None for mine in by_worker.values() for one in mine),
        "swaps": len(scene.swaps),
        "decisions": len(decided),
        "rate_per_s": rate_per_s,
        "workers": {name: _figures(mine) for name, mine in times.items()},
    }


def _figures(times: NDArray[np.float64]) -> dict[str, float]:
    p50, p99 = np.percentile(times, [50, 99], method="higher")
    return {"p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1), "max_ms": round(float(times.max()), 1)}
