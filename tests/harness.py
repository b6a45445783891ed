"""A stream of its own for each test: topics, group, Redis prefix, models, state; its load and its real workers.

The load is independent of the product's tools and of its workers: numbered events of many tracks, some of them
broken on purpose. What came of them is judged by `tests.checker`. Everything waits on conditions with deadlines.
"""

import asyncio
import itertools
import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import redis
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from model.artifact import fixed_network, new_artifact
from model.registry import Registry
from model.vocabulary import Vocabulary
from ops.bulk_lane import produce_bulk
from ops.kafka_io import Event, event_json, produce_events
from ops.local.worker import WorkerProcess
from ops.redecide import Redecisions
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import create_topics, partition_count
from streamer.adapters.redis_keys import Keys
from streamer.core.layout import Layout
from streamer.core.redecide_runs import Run, State
from streamer.settings import Settings, load_settings
from tests.checker import Report, Sampler, check
from tests.checks_content import check_redecided
from tests.references import random_rows

PARTITIONS = 4
BATCH_MAX = 128
BULK_ROWS = 200  # in a message: more than a micro-batch
SETTLE_S = 60.0
BAD_EVERY = 97  # each so many events one that can never be decided
BODIES = 64  # different rows of probabilities
BODIES_SEED = 7
BAD_KEY = "bad-"
POLL_S = 0.02
TUNED = 0.9

T = TypeVar("T")


def eventually(what: Callable[[], T], timeout_s: float, saying: str, seen: Callable[[], object] = lambda: "") -> T:
    """What `what` gives as soon as it is true; fails with `saying` and what was `seen` when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {saying}; seen: {seen()}"
        time.sleep(POLL_S)
    return found


def a_vocabulary(tags: int = 200, categories: int = 90) -> Vocabulary:
    """All three classes with both lists."""
    classes = {}
    for index, name in enumerate(("genres", "instruments", "moods")):
        mine = range(index, tags, 3), range(index, categories, 3)
        classes[name] = {"tags": [f"{name}-t{n}" for n in mine[0]], "categories": [f"{name}-c{n}" for n in mine[1]]}
    return Vocabulary.build(classes)


@dataclass(frozen=True)
class Artefacts:
    """Models that all streams of a session may install: three of one vocabulary, one of another."""

    folder: Path
    first: str
    second: str
    broken: str  # whole here; a test breaks its own copy
    foreign: str

    @classmethod
    def make(cls, folder: Path) -> "Artefacts":
        usual, other = a_vocabulary(), a_vocabulary(tags=20, categories=9)
        versions = [
            new_artifact(fixed_network(words, seed=seed), words, dict.fromkeys(words.tags, TUNED), folder, seed=seed)
            for words, seed in ((usual, 1), (usual, 2), (usual, 3), (other, 4))
        ]
        return cls(folder, *versions)


class Load:
    """A producer in a thread of its own: `produce` is given what to end at, and whom to tell how many are in Kafka."""

    def __init__(self, produce: Callable[[threading.Event, Callable[[int], None]], Coroutine[Any, Any, int]]) -> None:
        self.acked = 0
        self.stopping = threading.Event()
        self._produce = produce
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        def progress(acked: int) -> None:
            self.acked = acked

        try:
            self.acked = asyncio.run(self._produce(self.stopping, progress))
        except BaseException as error:
            self._error = error

    def wait(self, acked: int, timeout_s: float = 60) -> None:
        """Return when so many events are in Kafka."""
        eventually(
            lambda: self.acked >= acked or self._error,
            timeout_s,
            f"{acked} events produced",
            lambda: f"{self.acked} produced",
        )
        assert self._error is None, f"the test's own producer failed: {self._error!r}"

    def finish(self, timeout_s: float = 90) -> int:
        """Wait until all of it is in Kafka: how many events that were."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"the test's own producer is stuck after {self.acked} events"
        assert self._error is None, f"the test's own producer failed: {self._error!r}"
        return self.acked

    def stop(self) -> int:
        """End a load that has no end, and `finish`."""
        self.stopping.set()
        return self.finish()


def numbered_events(
    bodies: Sequence[bytes],
    start: int,
    count: int | None,
    tracks: int,
    bad_every: int,
    withdraw_every: int,
    stopping: threading.Event,
) -> Iterator[Event]:
    """Event n is of track n modulo `tracks`; without a count, until `stopping`.

    Each `bad_every`-th is not JSON, each `withdraw_every`-th of the others (0: none) withdraws its track.
    """
    number = start
    while not stopping.is_set() and (count is None or number < start + count):
        track = f"T-{number % tracks:06d}".encode()
        if number % bad_every == bad_every - 1:
            yield f"{BAD_KEY}{number}".encode(), b"not JSON", ()
        elif withdraw_every and number % withdraw_every == withdraw_every - 1:
            yield track, None, ()
        else:
            yield track, b'{"track_id":"%b"' % track + bodies[number % len(bodies)], ()
        number += 1


def numbered_rows(
    rows: NDArray[np.float32], count: int | None, tracks: int, bad_every: int, stopping: threading.Event
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """For the bulk lane: row n is of track n modulo `tracks`; without a count, until `stopping`.

    Each `bad_every`-th is of a track of its own, and holds a number that is no probability.
    """
    spoilt = rows.copy()
    spoilt[:, -1] = 1.5
    for number in itertools.count() if count is None else range(count):
        if stopping.is_set():
            return
        is_bad = number % bad_every == bad_every - 1
        name = f"{BAD_KEY}row-{number}" if is_bad else f"T-{number % tracks:06d}"
        yield name, (spoilt if is_bad else rows)[number % len(rows)]


class Stream:
    """One test's stream. Its workers are started by the test, its evidence is judged by `verify`."""

    def __init__(
        self,
        bootstrap: str,
        redis_url: str,
        folder: Path,
        artefacts: Artefacts,
        *,
        prepared: bool = True,
        replication: int = 1,
        **more: Any,
    ) -> None:
        name = f"fault-{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.replication = replication
        self.artefacts = artefacts
        self.models_dir = folder / "models"
        self.worker_settings: dict[str, object] = {
            "kafka_bootstrap": bootstrap, "redis_url": redis_url, "redis_prefix": f"{name}:", "group": name,
            "topic_probabilities": f"{name}.probabilities", "topic_tags": f"{name}.tags",
            "topic_scores": f"{name}.scores", "topic_deadletter": f"{name}.deadletter",
            "models_dir": self.models_dir, "state_dir": folder / "state", "device": "cpu",
            "batch_max": BATCH_MAX, "session_timeout_s": 6.0, **more,
        }  # fmt: skip
        self.settings: Settings = load_settings(**self.worker_settings)
        self.keys = Keys(self.settings.redis_prefix)
        self.redis = redis.Redis.from_url(redis_url, decode_responses=True, protocol=2)
        self.workers: dict[str, WorkerProcess] = {}
        self.loads: list[Load] = []
        self.known_tables: dict[str, dict[str, str]] = {}
        self.sampler = Sampler(self.settings)
        words = a_vocabulary()
        self.layout = Layout.build(words.fingerprint, words.classes)
        rows = random_rows(BODIES, self.layout.n_inputs, BODIES_SEED)
        self.rows = rows.astype(np.float32)
        self.bodies = [event_json(self.layout, "", row)[len(b'{"track_id":""') :] for row in rows]
        if prepared:
            self.make_topics()
            self.install(artefacts.first, champion=True)

    def make_topics(self) -> None:
        """The four topics."""
        asyncio.run(create_topics(self.settings, PARTITIONS, self.replication))
        self.sampler.start()

    def install(self, version: str, *, champion: bool = False) -> Path:
        """Put an artefact into this stream's models folder."""
        path = self.models_dir / version
        shutil.copytree(self.artefacts.folder / version, path)
        if champion:
            Registry(self.models_dir).set_alias("champion", version, "test", "first")
        return path

    def worker(self, name: str, *, arguments: tuple[str, ...] = (), **more: object) -> WorkerProcess:
        """A worker of this stream, not started yet."""
        settings = {**self.worker_settings, **more}
        worker = WorkerProcess(name, settings, folder=self.folder / f"worker-{name}", arguments=arguments)
        self.workers[name] = worker
        return worker

    def start(self, *names: str) -> list[WorkerProcess]:
        """Workers started side by side; returns when all that run share the partitions."""
        workers = [self.worker(name) for name in names]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait_ready()
        self.wait_assigned(*(name for name, worker in self.workers.items() if worker.is_running()))
        return workers

    def assignment(self) -> dict[str, list[int]]:
        """Partitions by worker, of those that run."""
        found = {name: worker.health().get("partitions") for name, worker in self.workers.items()}
        return {name: partitions for name, partitions in found.items() if isinstance(partitions, list)}

    def wait_assigned(self, *names: str, timeout_s: float = 30) -> dict[str, list[int]]:
        """Return when exactly these workers share all partitions, each with some."""

        def shared() -> dict[str, list[int]]:
            now = {name: mine for name, mine in self.assignment().items() if mine}
            whole = sorted(partition for mine in now.values() for partition in mine) == list(range(PARTITIONS))
            return now if whole and set(now) == set(names) else {}

        return eventually(shared, timeout_s, f"{names} share {PARTITIONS} partitions", self.assignment)

    def load(
        self,
        count: int | None = None,
        *,
        rate: float | None = None,
        tracks: int = 1000,
        bad_every: int = BAD_EVERY,
        withdraw_every: int = 0,
    ) -> Load:
        """Start producing; without a count, until it is stopped."""
        start = sum(load.acked for load in self.loads)
        return self.send(partial(numbered_events, self.bodies, start, count, tracks, bad_every, withdraw_every), rate)

    def send(self, events: Callable[[threading.Event], Iterator[Event]], rate: float | None = None) -> Load:
        """Start producing any events; they must end when they are told to stop."""
        return self._begin(lambda stopping, tell: produce_events(self.settings, events(stopping), rate, tell))

    def load_in_bulk(
        self, count: int | None = None, *, rate: float | None = None, tracks: int = 1000, bad_every: int = BAD_EVERY
    ) -> Load:
        """The same in bulk messages of more rows than a micro-batch holds; count and rate are of tracks."""

        def produce(stopping: threading.Event, tell: Callable[[int], None]) -> Coroutine[Any, Any, int]:
            rows = numbered_rows(self.rows, count, tracks, bad_every, stopping)
            return produce_bulk(self.settings, self.layout, rows, rate, tell, BULK_ROWS)

        return self._begin(produce)

    def _begin(self, produce: Callable[[threading.Event, Callable[[int], None]], Coroutine[Any, Any, int]]) -> Load:
        load = Load(produce)
        self.loads.append(load)
        return load

    async def _lag_until(self, deadline_s: float) -> int:
        """Events that are not committed: as soon as it is none, else at this moment; over connections that stay."""
        ours, options = self.settings, client_options(self.settings)
        async with running(Admin(**options), ours) as admin, running(AIOKafkaConsumer(**options), ours) as consumer:
            count = await partition_count(ours, ours.topic_probabilities)
            places = [TopicPartition(ours.topic_probabilities, n) for n in range(count)]
            while True:
                known = {tp: meta.offset for tp, meta in (await admin.list_consumer_group_offsets(ours.group)).items()}
                ends = await consumer.end_offsets(places)
                lag = sum(end - max(0, known.get(tp, 0)) for tp, end in ends.items())
                if lag == 0 or time.monotonic() >= deadline_s:
                    return lag
                await asyncio.sleep(POLL_S)

    def lag(self) -> int:
        """Events that are not committed."""
        return asyncio.run(self._lag_until(time.monotonic()))

    def settle(self, timeout_s: float = SETTLE_S) -> None:
        """Return when everything that was produced is committed."""
        lag = asyncio.run(self._lag_until(time.monotonic() + timeout_s))
        assert lag == 0, f"not within {timeout_s:g} s: lag 0; seen: lag {lag}, {self.assignment()}"

    def tables(self) -> dict[str, dict[str, str]]:
        """The `:tables` entries of every model so far, by thresholds version; those lost since included."""
        for version in Registry(self.models_dir).versions():
            for name, text in self.redis.hgetall(self.keys.tables(version)).items():
                self.known_tables[name] = json.loads(text)
        return self.known_tables

    def verify(self, *, tables: dict[str, dict[str, str]] | None = None, **more: Any) -> Report:
        """Finish the loads, wait for lag 0, and hold all of the evidence against the contract.

        `more` is what `checker.check` may be told besides. A model's own scores come from the artefacts as they were
        made, whatever a test does to the stream's copies.
        """
        produced = sum(load.finish() for load in self.loads)
        self.settle()
        self.sampler.sample_once()
        tables = self.tables() if tables is None else tables
        more.setdefault("models_dir", self.artefacts.folder)
        report = check(self.settings, self.layout, self.sampler.samples, tables, **more)
        assert report.inputs == produced, f"{produced} events were acknowledged, {report.inputs} are in the topic"
        if self.settings.kafka_security_protocol == "PLAINTEXT":  # there the log of commits is read by all
            assert report.found.commits or not self.sampler.samples[-1][0]
        print(report.line())
        return report

    def redecide_all(self) -> Run:
        """Have every track re-decided by what is in effect now; returns the run, which has come to its end."""
        runs = Redecisions(self.settings)
        before = runs.newest()
        if before is not None and not before.is_over:
            runs.follow(before, lambda _: None)
        run = runs.follow(runs.begin(runs.look_up(), "a test's last", dry_run=False), lambda _: None)
        ends = {partition: (one.state, one.error) for partition, one in run.progress.items()}
        assert all(state is State.DONE for state, _ in ends.values()), f"the last re-decide came to {ends}"
        return run

    def hold_redecided(self, report: Report, run: Run) -> int:
        """Hold every track against what is in effect after a run; how many tracks that run has looked at.

        Those whose table Redis has lost meanwhile, and those of another model, it leaves as they are.
        """
        stored = {name for version in Registry(self.models_dir).versions()
                  for name in self.redis.hkeys(self.keys.tables(version))}  # fmt: skip
        tracks = check_redecided(
            self.layout, report.found, self.known_tables, run.thresholds, model=run.model, stored=stored
        )
        assert tracks == run.counts.examined > 0, f"{run.counts.examined} tracks were re-decided, {tracks} are kept"
        return tracks

    def heartbeat(self, name: str) -> dict[str, str]:
        """What Redis holds about a worker."""
        return self.redis.hgetall(self.keys.worker(name))

    def close(self) -> None:
        """End everything of this stream; what its workers complained about is printed, for a failed test."""
        for load in self.loads:
            load.stopping.set()
        self.sampler.stop()
        for name, worker in self.workers.items():
            worker.kill()
            lines = [line for line in worker.log().splitlines() if '"level": "info"' not in line]
            print(f"worker {name} (exit {worker.exit_code}):", *lines[-15:], sep="\n  ")
        self.redis.close()
