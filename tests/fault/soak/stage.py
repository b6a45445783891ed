"""The soak itself: a steady load on two workers, and on a fixed schedule swaps, model switches, restarts, re-decides.

Worker `elder` lives from the first second to the last, so that a slow growth has time to show; worker `guest` is
ended with SIGTERM and started again each restart interval, which also makes `elder` go through two rebalances.
Values are drawn from the seed. Everything is a real process on real services that belong to this run alone.
"""

import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ops.local.jars import kafka_jars
from ops.local.kafka import KafkaBroker
from ops.local.services import Services, plan_services
from tests.fault.soak.samples import Observer
from tests.harness import TUNED, Artefacts, Stream, eventually

ELDER, GUEST = "elder", "guest"
RESTART, REDECIDE = "restart", "re-decide"
TRACKS = 20_000
BACKLOG_EVENTS = 40_000
BACKLOG_TIMEOUT_S = 300.0
SWAPPED_TAGS = 40  # of 200, in each swap
BULK_SHARE = 0.5  # further events for each one, in bulk messages
OBEYED_WITHIN_S = 10.0
EXIT_S = 30.0
TICK_S = 0.05
PROGRESS_S = 30.0
# The checker reads every event and output into memory, about 5 KB each: more than this is not held to the contract.
MOST_CHECKED_EVENTS = 1_500_000


@dataclass(frozen=True)
class Plan:
    """How long, how much, how often; intervals in seconds."""

    seconds: float
    seed: int
    rate: float = 1_000.0
    swap_s: float = 10.0
    switch_s: float = 60.0
    restart_s: float = 300.0
    redecide_s: float = 120.0
    sample_s: float = 5.0

    @property
    def checked_rate(self) -> float:
        """The rate at which the checker can still hold every event against the contract at the end."""
        return min(self.rate, (MOST_CHECKED_EVENTS - 2 * BACKLOG_EVENTS) / self.seconds / (1 + BULK_SHARE))


@dataclass(frozen=True)
class Mark:
    """Something that was done: `swap`, `switch`, `restart`, `re-decide`; how long until it was obeyed, or over."""

    at_s: float
    what: str
    took_ms: float


@dataclass
class Outcome:
    """What the soak did and what the checker said of it."""

    marks: list[Mark] = field(default_factory=list)
    events: int = 0
    checker: str = ""
    duplicates: int = 0
    exit_codes: list[int | None] = field(default_factory=list)


def own_services(folder: Path) -> Services:
    """A Kafka and a Redis of our own; nothing is compacted away before the checker has read it."""
    kafka_jars()
    services = plan_services(data_dir=folder, die_with_parent=True)
    (old,) = services.brokers
    services.brokers[0] = KafkaBroker(
        folder=old.folder, node=old.node, nodes=old.nodes, cluster_id=old.cluster_id, die_with_parent=True,
        overrides={"log.cleaner.enable": "false"},
    )  # fmt: skip
    services.start()
    services.wait_ready()
    return services


class Soak:
    """One run on a prepared stream. `run` raises AssertionError where the contract is broken on the way."""

    def __init__(self, stream: Stream, observer: Observer, plan: Plan, say: Callable[[str], None]) -> None:
        self.outcome = Outcome()
        self._stream, self._observer, self._plan, self._say = stream, observer, plan, say
        self._random = random.Random(plan.seed)
        self._models = [stream.artefacts.first, stream.artefacts.second]
        self._tables = {model: dict.fromkeys(stream.layout.tags, f"{TUNED:.6f}") for model in self._models}
        self._beside: dict[str, Future[None]] = {}  # what goes on beside the schedule, by name

    def run(self) -> None:
        """Load, swap, switch and restart until the time is up; then everything is held against the contract."""
        stream, plan = self._stream, self._plan
        stream.install(stream.artefacts.second)
        for model in self._models:  # the second's as `models promote` would have written it
            stream.redis.hset(stream.keys.live(model), mapping=self._tables[model])
        stream.redis.set(stream.keys.model, self._models[0])
        # First a backlog, so that buffers have had their largest size before anything is judged.
        for load in (stream.load(BACKLOG_EVENTS, tracks=TRACKS), stream.load_in_bulk(BACKLOG_EVENTS, tracks=TRACKS)):
            load.finish(BACKLOG_TIMEOUT_S)
        stream.start(ELDER, GUEST)
        stream.settle(BACKLOG_TIMEOUT_S)
        stream.load(rate=plan.checked_rate, tracks=TRACKS)
        stream.load_in_bulk(rate=plan.checked_rate * BULK_SHARE, tracks=TRACKS)
        self._observer.start()
        with ThreadPoolExecutor(2, thread_name_prefix="beside") as threads:
            self._follow_schedule(threads)
            for deed in self._beside.values():
                deed.result()
        self.outcome.events = sum(load.stop() for load in stream.loads)
        self._observer.stop()
        self._finish()

    def _follow_schedule(self, threads: ThreadPoolExecutor) -> None:
        plan, now_s = self._plan, self._observer.now_s
        every = {
            "swap": plan.swap_s, "switch": plan.switch_s, RESTART: plan.restart_s, REDECIDE: plan.redecide_s,
            "say": PROGRESS_S,
        }  # fmt: skip
        due = dict(every)
        deeds: dict[str, Callable[[], None]] = {
            "swap": self._swap,
            "switch": self._switch,
            RESTART: lambda: self._begin(threads, RESTART, self._restart_guest),
            REDECIDE: lambda: self._begin(threads, REDECIDE, self._redecide),
            "say": self._progress,
        }
        while now_s() < plan.seconds:
            self._check_alive()
            for name, deed in deeds.items():
                if now_s() >= due[name]:
                    due[name] += every[name]
                    deed()
            time.sleep(TICK_S)

    def _check_alive(self) -> None:
        if self._observer.error is not None:
            raise self._observer.error
        for name in [name for name, deed in self._beside.items() if deed.done()]:
            self._beside.pop(name).result()
        elder = self._stream.workers[ELDER]
        assert elder.is_running(), f"worker {ELDER} has ended by itself: {elder.log_tail()}"

    def _obeying(self) -> Sequence[str]:
        """Who must obey now: a worker that is being restarted reads the newest when it is back."""
        return (ELDER,) if RESTART in self._beside else (ELDER, GUEST)

    def _swap(self) -> None:
        """Move the thresholds of some tags of the model in use, in one write, as any Redis tool could."""
        model = self._models[0]
        changed = {
            tag: f"{self._random.uniform(0.05, 0.95):.6f}"
            for tag in self._random.sample(list(self._stream.layout.tags), SWAPPED_TAGS)
        }
        self._tables[model] |= changed
        version = _version(self._tables[model])
        self._obeyed(
            "swap",
            lambda: self._stream.redis.hset(self._stream.keys.live(model), mapping=changed),
            lambda beat: beat.get("thresholds") == version,
        )

    def _switch(self) -> None:
        """The other model, as `models promote` of one that is already there."""
        self._models.reverse()
        model = self._models[0]
        self._obeyed(
            "switch",
            lambda: self._stream.redis.set(self._stream.keys.model, model),
            lambda beat: beat.get("model") == model,
        )

    def _obeyed(self, what: str, write: Callable[[], object], done: Callable[[dict[str, str]], bool]) -> None:
        """Write, wait until those who must obey say so, note the slowest."""
        at_s, names, written_ms = self._observer.now_s(), self._obeying(), time.time() * 1000
        write()
        eventually(
            lambda: all(done(self._stream.heartbeat(name)) for name in names),
            OBEYED_WITHIN_S,
            f"{what} obeyed by {names}",
            lambda: [self._stream.heartbeat(name) for name in names],
        )
        beats = [self._stream.heartbeat(name) for name in names]
        took_ms = max(float(beat.get("obeyed_at_ms", "nan")) for beat in beats) - written_ms
        self.outcome.marks.append(Mark(at_s, what, took_ms))

    def _begin(self, threads: ThreadPoolExecutor, name: str, deed: Callable[[], None]) -> None:
        """Beside the schedule, which goes on meanwhile."""
        if name not in self._beside:
            self._beside[name] = threads.submit(deed)

    def _redecide(self) -> None:
        at_s = self._observer.now_s()
        self._stream.redecide_all()
        self.outcome.marks.append(Mark(at_s, REDECIDE, (self._observer.now_s() - at_s) * 1000))

    def _restart_guest(self) -> None:
        at_s, guest = self._observer.now_s(), self._stream.workers[GUEST]
        self._end(GUEST)
        guest.start()
        guest.wait_ready()
        self._stream.wait_assigned(ELDER, GUEST)
        self.outcome.marks.append(Mark(at_s, RESTART, (self._observer.now_s() - at_s) * 1000))

    def _end(self, name: str) -> None:
        worker = self._stream.workers[name]
        worker.terminate(EXIT_S)
        self.outcome.exit_codes.append(worker.exit_code)
        assert worker.exit_code == 0, f"worker {name} exited with {worker.exit_code} at SIGTERM: {worker.log_tail()}"

    def _finish(self) -> None:
        self._say(f"load ended after {self.outcome.events:,} events; draining, then the checker reads all of it")
        self._stream.settle(120)
        last = self._stream.redecide_all()
        for name in (GUEST, ELDER):
            self._end(name)
        report = self._stream.verify()
        self._stream.hold_redecided(report, last)
        self.outcome.checker, self.outcome.duplicates = report.line(), report.duplicates

    def _progress(self) -> None:
        now_s, latest = self._observer.now_s(), self._observer.latest()
        memory = ", ".join(f"{name} {sample.rss_mib:.0f} MiB" for name, sample in sorted(latest.items()))
        lag = max((sample.lag for sample in latest.values()), default=0)
        done = [mark.what for mark in self.outcome.marks]
        self._say(
            f"{_clock(now_s)} of {_clock(self._plan.seconds)}, {_clock(self._plan.seconds - now_s)} left: {memory}, "
            f"lag {lag:,}; done: {done.count('swap')} swaps, {done.count('switch')} switches, "
            f"{done.count(RESTART)} restarts, {done.count(REDECIDE)} re-decides"
        )


def make_stream(services: Services, folder: Path) -> Stream:
    """The soak's stream, with models of its own."""
    artefacts = Artefacts.make(folder / "artefacts")
    return Stream(services.kafka_bootstrap, services.redis_url, folder / "stream", artefacts)


def _version(table: dict[str, str]) -> str:
    """The thresholds version, from the contract's words."""
    text = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
