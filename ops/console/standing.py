"""How the system stands at one moment, and what a person should look at. Pure: facts in, sentences out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

OBEY_S = 3.0  # a worker that has not followed by then is told about
IDLE_RATE_PER_S = 0.5


@dataclass(frozen=True, slots=True)
class Worker:
    """One heartbeat, in numbers."""

    name: str
    model: str
    thresholds: str
    source: str
    partitions: tuple[int, ...]
    lag_records: int
    tracks_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    dead_letters: int
    obeyed_at_ms: float
    started_at_ms: float
    refusal: str
    model_failure: str
    paused: str
    stalled: str

    @classmethod
    def read(cls, name: str, beat: Mapping[str, str]) -> "Worker":
        """From the fields of `tagstream:workers:<name>`; what is missing or no number is nothing."""
        partitions = tuple(int(text) for text in beat.get("partitions", "").split(",") if text.isdigit())
        texts = ("refusal", "model_failure", "paused", "stalled")
        return cls(
            name,
            beat.get("model", ""),
            beat.get("thresholds", ""),
            beat.get("thresholds_source", ""),
            partitions,
            int(_number(beat.get("lag_records")) or 0),
            _number(beat.get("tracks_per_s")) or 0.0,
            _number(beat.get("latency_p50_ms")),
            _number(beat.get("latency_p99_ms")),
            int(_number(beat.get("dead_letters")) or 0),
            _number(beat.get("obeyed_at_ms")) or 0.0,
            _number(beat.get("started_at_ms")) or 0.0,
            *(beat.get(name, "") for name in texts),
        )

    @property
    def state(self) -> str:
        """In a word, the worst first."""
        for word in ("stalled", "paused"):
            if getattr(self, word):
                return word
        if not self.model:
            return "no model"
        return "ready" if self.partitions else "no partitions"


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class RedisState:
    """What Redis says of itself, and of what workers shall obey."""

    error: str = ""
    asked: bool = False  # false until the first answer
    answers_ms: float | None = None
    version: str = ""
    role: str = ""
    memory_bytes: float | None = None
    clients: int | None = None
    up_s: float | None = None
    model: str = ""
    thresholds: str = ""  # the version of the live table
    live_error: str = ""
    written_at_ms: float | None = None  # the last change in the history
    workers: tuple[Worker, ...] = ()


class TopicState(NamedTuple):
    """One topic of ours."""

    name: str
    what: str
    partitions: int
    records: int  # offsets between its beginning and its end
    copies: int
    short_of_copies: int  # partitions with fewer copies in sync than they should have
    missing: bool = False


@dataclass(frozen=True, slots=True)
class KafkaState:
    """What the brokers say."""

    error: str = ""
    asked: bool = False
    answers_ms: float | None = None
    brokers: int = 0
    topics: tuple[TopicState, ...] = ()
    lag: Mapping[int, int] = field(default_factory=dict)  # by input partition
    dead_letters: int | None = None

    @property
    def lag_records(self) -> int | None:
        """Of all partitions; None while nothing is known."""
        return sum(self.lag.values()) if self.asked and not self.error else None


class Problem(NamedTuple):
    """What is wrong, and what to do."""

    level: str  # bad or note
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Now:
    """All of it."""

    at_ms: float = 0.0
    redis: RedisState = RedisState()
    kafka: KafkaState = KafkaState()

    @property
    def workers(self) -> tuple[Worker, ...]:
        return self.redis.workers

    @property
    def tracks_per_s(self) -> float | None:
        return (
            sum(worker.tracks_per_s for worker in self.workers) if self.redis.asked and not self.redis.error else None
        )

    @property
    def p50_ms(self) -> float | None:
        """Of the slowest worker: a mean of medians would be nobody's."""
        return max((worker.p50_ms for worker in self.workers if worker.p50_ms is not None), default=None)

    @property
    def p99_ms(self) -> float | None:
        return max((worker.p99_ms for worker in self.workers if worker.p99_ms is not None), default=None)

    @property
    def ready(self) -> int:
        return sum(worker.state == "ready" for worker in self.workers)

    def obeys(self, worker: Worker) -> bool:
        """Whether it decides by the active model and the live table."""
        return (worker.model, worker.thresholds) == (self.redis.model, self.redis.thresholds)

    def catches_up_s(self) -> float | None:
        """When the lag is gone at this rate, if nothing more came."""
        lag, rate = self.kafka.lag_records, self.tracks_per_s
        return lag / rate if lag and rate and rate > IDLE_RATE_PER_S else None

    def problems(self) -> list[Problem]:
        """The worst first; empty while all is well."""
        found = [*self._of_services(), *self._of_workers()]
        return sorted(found, key=lambda problem: problem.level != "bad")

    def _of_services(self) -> Iterator[Problem]:
        redis, kafka = self.redis, self.kafka
        if redis.error:
            yield Problem("bad", redis.error, "Workers go on with their last good table; nothing can be changed.")
        if kafka.error:
            yield Problem("bad", kafka.error, "Nothing is decided until it is back; nothing is lost.")
        if redis.live_error:
            yield Problem("bad", redis.live_error, "")
        for topic in kafka.topics:
            if topic.missing:
                yield Problem("bad", f"Kafka has no topic {topic.name}.", "Make it: tagstream topics create")
            elif topic.short_of_copies:
                yield Problem(
                    "note",
                    f"{topic.short_of_copies} of {topic.partitions} partitions of {topic.name} lack copies in sync.",
                    "Look at the brokers: one may be away.",
                )

    def _of_workers(self) -> Iterator[Problem]:
        redis, kafka = self.redis, self.kafka
        if redis.asked and not redis.error and not self.workers:
            waiting = f" {kafka.lag_records:,} records wait." if kafka.lag_records else ""
            yield Problem("bad", f"No worker is running.{waiting}", "Start one: tagstream worker")
        for worker in self.workers:
            name = worker.name
            if worker.stalled:
                yield Problem("bad", f"{name} makes no progress: {worker.stalled}", "It ends by itself: see its log.")
            if worker.paused:
                yield Problem("bad", f"{name} is paused: {worker.paused}", "See Dead letters; then let it go on.")
            if worker.model_failure:
                yield Problem("bad", f"{name} keeps its model: {worker.model_failure}", "Mend or promote another.")
            if worker.refusal:
                yield Problem("bad", f"{name} refuses the live table: {worker.refusal}", "Set that tag anew.")
            elif self._is_behind(worker):
                mine = worker.thresholds or "nothing yet"
                remedy = "It follows as soon as Redis reaches it."
                yield Problem("note", f"{name} decides by {mine}, not by {redis.thresholds}.", remedy)
        if self.workers and kafka.lag:
            owned = {partition for worker in self.workers for partition in worker.partitions}
            orphans = sorted(set(kafka.lag) - owned)
            if orphans:
                which = ", ".join(map(str, orphans[:8])) + (" ..." if len(orphans) > 8 else "")
                yield Problem("note", f"No worker has partition {which} now.", "A rebalance gives them out in seconds.")

    def _is_behind(self, worker: Worker) -> bool:
        since_s = (self.at_ms - (self.redis.written_at_ms or 0.0)) / 1000
        return bool(worker.model and self.redis.thresholds) and not self.obeys(worker) and since_s > OBEY_S
