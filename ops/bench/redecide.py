"""What a re-decide costs the stream beside it: real workers under a steady load, before, while and after it runs.

As many scores as are asked for are put into the topic as workers retain them; then the load begins, and after a quiet
stretch a threshold is changed, which one retained track in a hundred crosses, and the workers re-decide. A latency is
from an event's timestamp to the broker's of its decision. The memory is the operating system's word. That exactly the
tracks that cross the threshold were published again is checked, track by track.
"""

import asyncio
import itertools
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from ops.bench.environment import ForeignLoad, environment
from ops.bench.scene import OnProgress, WorkersScene
from ops.bench.workload import endless_events
from ops.errors import OpsError
from ops.kafka_io import Event, produce_events, read_topic
from ops.local.services import services_from_environment_or_start
from ops.redecide import Redecisions
from streamer.adapters.kafka_client import client_options, running
from streamer.core.redecide_runs import Run
from streamer.core.thresholds import threshold_text

PARTITIONS = 4
RETAINED = "R-"  # what the ids of the tracks of the past begin with
PIECE_TRACKS = 4_000
BATCH_BYTES = 900_000
TAG = 0  # whose threshold is changed
CROSSING = 0.01  # share of the tracks
POWER = 3  # scores are a uniform number to this power: most are low, as real ones are
WARM_UP_S = 5.0
OBEY_TIMEOUT_S = 15.0
RSS_EVERY_S = 0.1
MIB = 1 << 20
GROWTH_MAX = 1.5  # of the 99th percentile, by contract
GROWN_MAX_MIB = 64  # of one worker: its blocks and batches
KEY_BYTES = 8  # kept of each track of a partition


def run_redecide(
    tracks: int, workers: int, rate_per_s: float, seconds: float, on_progress: OnProgress
) -> dict[str, Any]:
    """The report: latencies `before`, `during` and `after`, their growth, memory, and whether all of it `holds`.

    Raises:
        OpsError: a worker ends, the run fails, or what it published is not what it should be.
    """
    folder = Path(tempfile.mkdtemp(prefix="tagstream-redecide-"))
    try:
        on_progress("starting services", 0, 1)
        with services_from_environment_or_start(data_dir=folder / "services", die_with_parent=True) as services:
            scene = _Scene(services.kafka_bootstrap, services.redis_url, folder, workers, PARTITIONS, on_progress)
            try:
                scene.make_topics(stamped=True)
                scene.start("bench redecide")
                crossing = asyncio.run(scene.retain(tracks))
                around = environment()
                foreign = ForeignLoad([*(one.pid or 0 for one in services.processes), *scene.pids])
                asyncio.run(scene.play(rate_per_s, seconds))
                around["foreign_cores"] = round(foreign.cores(), 2)
                found = asyncio.run(scene.read())
            finally:
                scene.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(scene, found, tracks, crossing, rate_per_s) | {"environment": around}


class _Scene(WorkersScene):
    """The past in the topic, the load beside it, and a run."""

    run: Run
    spans_s: dict[str, tuple[float, float]]  # of each stretch, by the wall clock

    async def retain(self, tracks: int) -> frozenset[int]:
        """Scores of so many tracks under the live table; which of them will cross the threshold."""
        live = self.admin.live()
        before = float(live.table.values[TAG])
        self._lowered = threshold_text("", (before ** (1 / POWER) - CROSSING) ** POWER)
        headers = [
            ("model", live.model.encode()), ("vocabulary", live.vocabulary.fingerprint.encode()),
            ("thresholds", live.table.version.encode()),
        ]  # fmt: skip
        random, crossing = np.random.default_rng(1), set[int]()
        options: dict[str, Any] = {"compression_type": "lz4", "max_batch_size": BATCH_BYTES, "acks": "all"}
        async with running(AIOKafkaProducer(**client_options(self.settings), **options), self.settings) as producer:
            for start in range(0, tracks, PIECE_TRACKS):
                count = min(PIECE_TRACKS, tracks - start)
                scores = (random.random((count, len(live.vocabulary.tags)), np.float32) ** POWER).astype("<f2")
                wide = scores[:, TAG].astype(np.float64)
                crossing.update((start + np.flatnonzero((wide >= float(self._lowered)) & (wide < before))).tolist())
                await self._append(producer, scores, start, headers)
                self.on_progress("retaining scores", start + count, tracks)
            await producer.flush()
        return frozenset(crossing)

    async def _append(
        self, producer: AIOKafkaProducer, scores: NDArray[np.float16], start: int, headers: list[tuple[str, bytes]]
    ) -> None:
        for partition in range(PARTITIONS):
            batch = producer.create_batch()
            for number in range(partition, len(scores), PARTITIONS):
                track = start + number
                source = f"{self.settings.topic_probabilities}/{partition}/{track}/0".encode()
                row = {"key": f"{RETAINED}{track:08d}".encode(), "value": scores[number].tobytes(), "timestamp": track}
                if batch.append(**row, headers=[*headers, ("source", source)]) is None:
                    raise OpsError("a batch of the benchmark's own is too large.")
            batch.close()
            await producer.send_batch(batch, self.settings.topic_scores, partition=partition)

    async def play(self, rate_per_s: float, seconds: float) -> None:
        """A steady load; quiet, a re-decide, quiet."""
        ending = asyncio.Event()
        load = asyncio.create_task(produce_events(self.settings, _until(ending), rate_per_s))
        self.rss = _Rss(self.pids)
        try:
            await asyncio.sleep(WARM_UP_S)
            self.spans_s = {"before": await self._quiet(seconds, load)}
            began_s = time.time()
            with self.rss.phase("during"):
                self.run = await asyncio.to_thread(self._redecide)
            self.spans_s["during"] = (began_s, time.time())
            self.spans_s["after"] = await self._quiet(seconds, load)
            ending.set()
            await load
        finally:
            self.rss.stop()
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
        if self.owned() != self.owners:
            raise OpsError("the partitions have changed hands during the run: the figures would be of nothing.")

    async def _quiet(self, seconds: float, load: asyncio.Task) -> tuple[float, float]:
        began_s = time.time()
        while time.time() < began_s + seconds:
            self.on_progress("measuring without a re-decide", int(time.time() - began_s), int(seconds))
            if load.done():
                await load
            await asyncio.sleep(0.5)
        return began_s, time.time()

    def _redecide(self) -> Run:
        live = self.admin.live()
        tag = live.vocabulary.tags[TAG]
        written = self.admin.change(live, {tag: self._lowered}, "bench redecide")
        if None in self.admin.wait_obeyed(written, OBEY_TIMEOUT_S).values():
            raise OpsError(f"the workers do not obey within {OBEY_TIMEOUT_S:g} s.")
        runs = Redecisions(self.settings)
        run = runs.begin(runs.look_up(), "bench redecide", dry_run=False)

        def tell(now: Run) -> None:
            self.on_progress("re-deciding", int(now.share * 1000), 1000)

        return runs.follow(run, tell)

    async def read(self) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
        """When each live event came and how long its decision took (s), and the tracks that were published again."""
        self.on_progress("reading the decisions again", 0, 1)
        ours, sent_s = self.settings, {}
        async for record in read_topic(ours, ours.topic_probabilities, from_start=True, follow=False):
            sent_s[record.partition, record.offset] = record.timestamp / 1000
        times, again = [], []
        async for record in read_topic(ours, ours.topic_tags, from_start=True, follow=False):
            key = (record.key or b"").decode()
            value = orjson.loads(record.value or b"{}")
            if key.startswith(RETAINED):
                again.append(int(key.removeprefix(RETAINED)))
            elif "redecided" not in value:
                came_s = sent_s[record.partition, value["source"]["offset"]]
                times.append((came_s, record.timestamp / 1000 - came_s))
        came_s, took_s = np.array(times).T
        return came_s, took_s, again


def _until(ending: asyncio.Event) -> Iterator[Event]:
    """Events until the end."""
    for key, value in itertools.takewhile(lambda _: not ending.is_set(), endless_events()):
        yield key, value, ()


class _Rss:
    """The largest resident set of any of these processes, before a phase and within it; watched by a thread."""

    def __init__(self, pids: list[int]) -> None:
        self.most_mib: dict[str, float] = {}
        self._phase = "before"
        self._processes = [psutil.Process(pid) for pid in pids]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def phase(self, name: str) -> "_Rss":
        self._phase = name
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._phase = "after"

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.wait(RSS_EVERY_S):
            try:
                now = max(process.memory_info().rss for process in self._processes) / MIB
            except psutil.Error:
                return
            self.most_mib[self._phase] = max(now, self.most_mib.get(self._phase, 0.0))


def _report(
    scene: _Scene, found: tuple[NDArray[np.float64], NDArray[np.float64], list[int]], tracks: int,
    crossing: frozenset[int], rate_per_s: float,
) -> dict[str, Any]:  # fmt: skip
    came_s, took_s, again = found
    latency = {}
    for name, (began_s, ended_s) in scene.spans_s.items():
        mine = took_s[(came_s >= began_s) & (came_s < ended_s)]
        if not len(mine):
            raise OpsError(f"no event came {name} the re-decide: ask for more tracks, or more events per second.")
        p50, p99 = np.percentile(mine, [50, 99])
        latency[name] = {"events": len(mine), "p50_ms": round(1000 * p50, 1), "p99_ms": round(1000 * p99, 1)}
    if set(again) != crossing or len(again) != len(crossing):
        raise OpsError(f"{len(again):,} decisions were published again for {len(crossing):,} tracks that changed.")
    began_s, ended_s = scene.spans_s["during"]
    quiet_ms = max(latency[name]["p99_ms"] for name in ("before", "after"))
    growth = latency["during"]["p99_ms"] / quiet_ms
    grown_mib = scene.rss.most_mib["during"] - scene.rss.most_mib["before"]
    allowed_mib = GROWN_MAX_MIB + KEY_BYTES * scene.run.counts.examined / PARTITIONS / MIB
    return {
        "holds": growth <= GROWTH_MAX and grown_mib <= allowed_mib,
        "tracks": tracks,
        "examined": scene.run.counts.examined,
        "changed": scene.run.counts.changed,
        "seconds": round(ended_s - began_s, 1),
        "tracks_per_s": round(scene.run.counts.examined / (ended_s - began_s)),
        "rate_per_s": rate_per_s,
        "workers": len(scene.workers),
        "latency": latency,
        "growth": round(growth, 2),
        "memory_mib": {name: round(most, 1) for name, most in scene.rss.most_mib.items()},
        "memory_grown_mib": round(grown_mib, 1),
        "memory_grown_allowed_mib": round(allowed_mib, 1),
    }
