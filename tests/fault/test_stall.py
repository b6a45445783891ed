"""A stalled consumer is impossible to miss: not ready first, then ended with one line that says why.

And what only looks like a stall goes on: a slow scorer, a topic without events, the marks of transactions. All four
workers run side by side, each on a stream of its own.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from ops.kafka_io import event_json
from ops.local.services import Services
from ops.local.worker import WorkerProcess
from streamer.adapters.kafka_client import client_options, running
from tests.checker import Report
from tests.harness import Artefacts, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

STALL_S = 6.0
SLOW_S = 0.7  # for a micro-batch of SLOW_BATCH
SLOW_BATCH = 64
SLOW_COUNT = 1_000
ENDS_WITHIN_S = 90.0

PATCHED_WORKER = """
import asyncio, threading, time
from streamer.adapters.faust_transport import BulkConsumer
from streamer.adapters.torch_scorer import TorchScorer
from streamer.agents import run_worker
from streamer.settings import load_settings

score = TorchScorer.score

def patched(self, probabilities):
    if threading.current_thread().name.startswith("scorer"):
        {scorer}
    return score(self, probabilities)

async def no_more(self, fetcher):
    await asyncio.Event().wait()

TorchScorer.score = patched
if {no_fetch}:
    BulkConsumer._drain_messages = no_more
run_worker(load_settings())
"""
HUNG, SLOW = "threading.Event().wait()", f"time.sleep({SLOW_S})"


class PatchedWorker(WorkerProcess):
    """A worker with a fault built in."""

    scorer, no_fetch = "pass", False

    def command(self) -> list[str]:
        return [sys.executable, "-c", PATCHED_WORKER.format(scorer=self.scorer, no_fetch=self.no_fetch)]


class Scene:
    """A stream with one worker that a fault is built into, and the health it has shown, as often as it was asked."""

    def __init__(self, stream: Stream, *, scorer: str = "pass", no_fetch: bool = False) -> None:
        self.stream = stream
        self.worker = PatchedWorker("a", stream.worker_settings, folder=stream.folder / "worker-a")
        self.worker.scorer, self.worker.no_fetch = scorer, no_fetch
        stream.workers["a"] = self.worker
        self.worker.start()
        self.watched = ThreadPoolExecutor(1)
        self.ending: Future[str] = Future()

    def said(self) -> str:
        """The one line with which it ended."""
        lines = [json.loads(line) for line in self.worker.log().splitlines()]
        (line,) = [line["message"] for line in lines if "cannot go on: stalled:" in line["message"]]
        assert not any("traceback" in one for one in lines), self.worker.log()[-3000:]
        return line

    def ends(self) -> str:
        """Wait until it is not ready, and then has ended: what it said at the end."""
        worker = self.worker
        eventually(lambda: worker.health().get("ready"), 90, "it is ready at first", worker.health)
        health = eventually(lambda: _stalled(worker), ENDS_WITHIN_S, "health tells the stall", worker.health)
        assert health["ready"] is False and worker.is_running(), f"{health}"
        metrics = worker.metrics()
        assert metrics["tagstream_stalled_partitions"] >= 1, f"{metrics}"
        assert metrics["tagstream_seconds_without_progress"] >= STALL_S / 2
        code = worker.wait_exit(ENDS_WITHIN_S)
        assert code == 1, f"exit code {code}: {worker.log()[-2000:]}"
        return self.said()


def _stalled(worker: WorkerProcess) -> dict[str, object]:
    health = worker.health()
    return health if "stalled:" in str(health.get("stalled")) else {}


@pytest.fixture(scope="module")
def streams(services: Services, artefacts: Artefacts, tmp_path_factory) -> Iterator[dict[str, Stream]]:
    """A stream per scene, made side by side."""

    def make(name: str) -> Stream:
        folder: Path = tmp_path_factory.mktemp(name)
        more = {"batch_max": SLOW_BATCH} if name == "slow" else {}
        return Stream(services.kafka_bootstrap, services.redis_url, folder, artefacts, stall_s=STALL_S, **more)

    names = "hung", "unfetched", "slow", "idle"
    with ThreadPoolExecutor() as side_by_side:
        made = dict(zip(names, side_by_side.map(make, names), strict=True))
    yield made
    for stream in made.values():
        stream.close()


@pytest.fixture(scope="module")
def scenes(streams: dict[str, Stream]) -> dict[str, Scene]:
    """All four workers, started at once; those that must end are watched from now on."""
    for name in ("hung", "unfetched"):
        streams[name].load(500).finish()
    streams["slow"].load(SLOW_COUNT).finish()
    asyncio.run(transactions(streams["idle"]))
    made = {
        "hung": Scene(streams["hung"], scorer=HUNG),
        "unfetched": Scene(streams["unfetched"], no_fetch=True),
        "slow": Scene(streams["slow"], scorer=SLOW),
        "idle": Scene(streams["idle"]),
    }
    for name in ("hung", "unfetched"):
        made[name].ending = made[name].watched.submit(made[name].ends)
    return made


async def transactions(stream: Stream) -> None:
    """One transaction that is taken back, and one that holds; the marks of both stay at the end of the partition."""
    topic = stream.settings.topic_probabilities
    producer = AIOKafkaProducer(**client_options(stream.settings), transactional_id=stream.settings.group)

    async def send(track: str) -> None:
        value = event_json(stream.layout, track, [0.5] * stream.layout.n_inputs)
        await producer.send_and_wait(topic, value, track.encode(), partition=0)

    async with running(producer, stream.settings):
        await producer.begin_transaction()
        await send("T-held")
        await producer.commit_transaction()
        await producer.begin_transaction()
        await send("T-taken-back")
        await producer.abort_transaction()


def test_a_hung_scorer_ends_the_worker(scenes: dict[str, Scene]):
    said = scenes["hung"].ending.result()
    assert "has waited for the scorer for" in said and "with a lag of" in said, said
    print(said)


def test_a_fetcher_that_stops_ends_the_worker(scenes: dict[str, Scene]):
    said = scenes["unfetched"].ending.result()
    assert "nothing is fetched" in said, said
    print(said)


def test_a_slow_scorer_goes_on(scenes: dict[str, Scene]):
    scene = scenes["slow"]
    report: Report = scene.stream.verify()
    took_s = (max(d.at_ms for d in report.decisions) - min(d.at_ms for d in report.decisions)) / 1000
    assert took_s > 1.5 * STALL_S, f"{took_s:.1f} s: too quick to show anything"
    assert scene.worker.is_running(), scene.worker.log_tail()
    eventually(lambda: scene.worker.health()["ready"], STALL_S, "it is ready", scene.worker.health)
    assert "stalled" not in scene.worker.log()


def test_marks_of_transactions_are_no_lag_and_what_was_taken_back_is_not_decided(scenes: dict[str, Scene]):
    scene = scenes["idle"]
    stream, worker = scene.stream, scene.worker
    stream.settle()
    quiet_from_s = time.monotonic()
    assert stream.redis.hgetall(stream.keys.worker("a"))
    eventually(lambda: worker.metrics()["tagstream_tracks_decided_total"] == 1, 20, "one was decided", worker.metrics)
    eventually(lambda: time.monotonic() - quiet_from_s > 1.3 * STALL_S, 3 * STALL_S, "it was idle for long")
    assert worker.is_running(), worker.log_tail()
    eventually(lambda: worker.health()["ready"], STALL_S, "it is ready", worker.health)
    assert worker.health()["lag_records"] == 0
    assert worker.metrics()["tagstream_tracks_in_total"] == 1, f"{worker.metrics()}"
    assert "stalled" not in worker.log()
