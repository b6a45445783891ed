"""A replay on Kafka: choosing, remembering, sending.

The topic is read twice, up to the end that it has when the plan is made, so that the dead letters which a replay itself
leads to are not replayed by it. What was acknowledged is committed each second and at the end: after a kill -9 the
letters of at most that second (and those in flight) are sent again, which an idempotent effect makes harmless.
"""

import asyncio
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from ops.deadletter_memory import (
    Commits,
    committed_at_once,
    committed_now,
    memory,
    replay_group,
    replay_rights,
    understood,
)
from ops.deadletter_replay import Chosen, Done, Plan, Rules, Skip, Target, prepare
from ops.deadletters import Letter, Selection
from ops.errors import OpsError
from ops.kafka_io import PRODUCER_BATCH_BYTES, event_producer, read_ranges, send_to_partition, topic_ranges
from streamer.adapters.kafka_client import Admin, running, telling_kafka_errors
from streamer.adapters.kafka_topics import read_topics
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

REMEMBER_INTERVAL_S = 1.0
BURST_S = 0.1  # how far a replay that was held up may catch up with its rate
FLUSH_AFTER_FAILURE_S = 10.0
UNLIMITED_BYTES = 2**31  # where the broker does not let us read what the input topic takes


@dataclass(frozen=True)
class Prepared:
    """A plan that has been made and not been carried out."""

    target: Target
    chosen: Chosen
    skipped: Counter[Skip]
    older: int  # letters before the time asked for
    done: Mapping[int, Done]
    committed: Commits
    forgotten: list[int]  # partitions whose commits could not be read
    most_bytes: int  # that the input topic takes


@dataclass
class Outcome:
    """What came of it."""

    sent: int = 0
    too_large: int = 0
    interrupted: bool = False
    failure: BaseException | None = None
    seconds: float = 0.0


async def make_plan(
    settings: Settings, selection: Selection, rules: Rules, on_read: Callable[[int, int], None]
) -> Prepared:
    """Choose what to replay; `on_read` is told how many records of how many are read.

    Raises:
        TagstreamError: when Kafka cannot be reached, or a topic is missing.
        OpsError: when Kafka could not remember the choice.
    """
    topic = settings.topic_deadletter
    kept = await topic_ranges(settings, topic)
    reading = kept
    if selection.since_ms is not None:
        later = await topic_ranges(settings, topic, selection.since_ms)
        reading = {p: range(max(later[p].start, mine.start), mine.stop) for p, mine in kept.items()}
    async with memory(settings, kept) as (consumer, admin):
        committed = await committed_now(settings, consumer, admin, kept)
    done, forgotten = understood(kept, committed)
    target, most_bytes = await _target(settings)
    plan = Plan(target, rules, done)
    total, count = sum(map(len, reading.values())), 0
    async with aclosing(read_ranges(settings, topic, reading)) as records:
        async for record in records:
            count += 1
            on_read(count, total)
            letter = Letter.parse(record)
            if selection.wants(letter):
                plan.add(letter)
    chosen = plan.finish()
    prepare(chosen, done)
    older = sum(max(0, reading[p].start - mine.start) for p, mine in kept.items())
    return Prepared(target, chosen, plan.skipped, older, done, committed, forgotten, most_bytes)


async def _target(settings: Settings) -> tuple[Target, int]:
    name = settings.topic_probabilities
    found = (await read_topics(settings, replay_rights(settings))).get(name)
    if found is None:
        raise TagstreamError(f"Kafka at {settings.kafka_bootstrap} has no topic {name}: nothing can be replayed to it.")
    most_bytes = (found.config or {}).get("max.message.bytes")
    return Target(name, found.partitions), UNLIMITED_BYTES if most_bytes is None else int(most_bytes)


async def replay(
    settings: Settings,
    prepared: Prepared,
    rate_per_s: float,
    on_sent: Callable[[int], None],
    stop: asyncio.Event | None = None,
) -> Outcome:
    """Send what was chosen, at most `rate_per_s`, until all is sent or `stop`; without one SIGINT or SIGTERM ends it.

    Raises:
        TagstreamError: when Kafka cannot be reached.
        OpsError: when another replay is under way.
    """
    asked, stop = stop is not None, stop or asyncio.Event()
    producer = event_producer(settings, min(PRODUCER_BATCH_BYTES, max(1, prepared.most_bytes // 2)))
    started = time.perf_counter()
    with nullcontext() if asked else _stopped_by_signals(stop), telling_kafka_errors(settings):
        async with memory(settings, prepared.chosen.offsets) as (consumer, admin), running(producer, settings):
            run = _Run(settings, prepared, consumer, admin, producer, on_sent)
            await run.claim()
            try:
                await run.send_all(Pace(rate_per_s), stop)
            except BaseException:
                await run.finish(FLUSH_AFTER_FAILURE_S)
                raise
            await run.finish(FLUSH_AFTER_FAILURE_S if run.outcome.failure else None)
    run.outcome.interrupted = stop.is_set()
    run.outcome.seconds = time.perf_counter() - started
    return run.outcome


@contextmanager
def _stopped_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """The first signal asks for an orderly end; the next one is the system's own."""
    loop = asyncio.get_running_loop()

    def once(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, once, number)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class Pace:
    """At most so many turns a second; one that was held up does not make up for it by a burst."""

    def __init__(self, rate_per_s: float) -> None:
        self._step_s = 1 / rate_per_s
        self._due = time.perf_counter()

    async def turn(self, stop: asyncio.Event) -> bool:
        """Wait for the next turn; False where `stop` came first."""
        now = time.perf_counter()
        self._due = max(self._due, now - BURST_S)
        ahead_s, self._due = self._due - now, self._due + self._step_s
        if ahead_s > 0 and not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), ahead_s)
        return not stop.is_set()


@dataclass
class _Run:
    settings: Settings
    prepared: Prepared
    consumer: AIOKafkaConsumer
    admin: Admin
    producer: AIOKafkaProducer
    on_sent: Callable[[int], None]
    outcome: Outcome = field(default_factory=Outcome)
    name: str = field(default_factory=lambda: secrets.token_hex(4))

    def __post_init__(self) -> None:
        self._last: Commits = {p: at for p, at in self.prepared.committed.items() if p in self.prepared.chosen.offsets}
        self._changed: set[int] = set()
        self._remembered_at = time.monotonic()

    async def claim(self) -> None:
        """Write this run's name beside what was replayed so far: another run sees it at its next commit, and ends."""
        self._changed = set(self.prepared.chosen.offsets)
        await self.remember()

    async def send_all(self, pace: Pace, stop: asyncio.Event) -> None:
        """Send the chosen letters in the topic's order; ends early at `stop` or a refusal."""
        topic, chosen = self.settings.topic_deadletter, self.prepared.chosen
        async with aclosing(read_ranges(self.settings, topic, chosen.spans())) as records:
            async for record in records:
                if record.offset not in chosen.offsets[record.partition]:
                    continue
                if not await pace.turn(stop) or self.outcome.failure:
                    return
                if time.monotonic() - self._remembered_at >= REMEMBER_INTERVAL_S:
                    await self.remember()
                await self._send(record)

    async def _send(self, record: ConsumerRecord) -> None:
        letter, (topic, _) = Letter.parse(record), self.prepared.target
        source = letter.source
        assert source is not None  # a letter without one is not chosen
        headers = [header for header in letter.original if header[0] != "attempt"]
        headers.append(("attempt", str(letter.attempt).encode()))
        future = await send_to_partition(
            self.producer, topic, source.partition, (record.key, record.value, headers), self.prepared.most_bytes
        )
        if future is None:
            self.outcome.too_large += 1
        else:
            future.add_done_callback(lambda acked: self._acknowledged(acked, record.partition, record.offset))

    def _acknowledged(self, future: asyncio.Future, partition: int, offset: int) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self.outcome.failure = self.outcome.failure or error
            return
        self.prepared.done[partition].mark(offset)
        self._changed.add(partition)
        self.outcome.sent += 1
        self.on_sent(self.outcome.sent)

    async def remember(self) -> None:
        """Commit what is acknowledged.

        Raises:
            OpsError: when another replay has committed since.
        """
        self._remembered_at = time.monotonic()
        changed, self._changed = self._changed, set()
        if not changed:
            return
        there = await committed_at_once(self.settings, self.admin, changed)
        if any(there.get(partition) not in (None, self._last.get(partition)) for partition in changed):
            raise OpsError(
                f"another replay (group {replay_group(self.settings)}) has been at work since this one made its plan; "
                f"this one has sent {self.outcome.sent:,} letters."
            )
        commits = {partition: self.prepared.done[partition].committed(self.name) for partition in changed}
        topic = self.settings.topic_deadletter
        await self.consumer.commit({TopicPartition(topic, partition): at for partition, at in commits.items()})
        self._last.update(commits)

    async def finish(self, timeout_s: float | None) -> None:
        """Wait for what is in flight, and commit it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.producer.flush()
        await self.remember()
