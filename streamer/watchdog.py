"""The watchdog of one worker: it ends what has silently stopped, and says first that it is about to.

Every few seconds it asks Kafka for the ends of the logs and holds them against what this worker has done
(`core.stall`). At half of `stall_s` without progress the worker is not ready any more; at `stall_s` it ends, with one
line that says where it stands and what it waits for. Where Kafka itself is away it only says so: such a worker mends
itself when Kafka is back, and a new one could do no better.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Protocol

from streamer.adapters.consumer_look import Look
from streamer.core.errors import TagstreamError
from streamer.core.stall import WORKER, Stall, StallWatch, Standing
from streamer.pipeline import SCORER, Pipeline
from streamer.ports import Clock

log = logging.getLogger(__name__)

LOOK_EVERY_S = 3.0
LOOKS = 8  # at least so many within `stall_s`


class Stalled(TagstreamError):
    """Something is left to do and nothing moves: a new process may do better."""


class Consumer(Protocol):
    """What is asked of the consumer."""

    flow_active: bool

    @property
    def refused_commit(self) -> str: ...

    def connected(self) -> bool: ...

    def standings(self) -> dict[int, Standing]: ...

    def lag_ages_s(self, now_ms: float) -> dict[int, float]: ...

    async def look(self) -> Look: ...

    async def unhealthy(self, topics: Collection[str]) -> str: ...


class Watchdog:
    """`run` it beside the stream; `reason` is what readiness goes by."""

    def __init__(self, topic: str, outputs: Collection[str], stall_s: float, clock: Clock) -> None:
        self.reason = ""  # why this worker is not ready; empty while all is well
        self.stalled_partitions = 0
        self.idle_s = 0.0  # the longest time that a partition with something left to do has not moved
        self._topic, self._outputs = topic, outputs
        self._stall_s = stall_s
        self._clock = clock
        self._watch = StallWatch()
        self._look = Look()
        self._answered_at_s = clock.monotonic_s()
        self._waiting_on_kafka: set[int] = set()  # partitions that cannot move, by Kafka's own word

    @property
    def silent_s(self) -> float:
        """How long Kafka has not answered."""
        return self._clock.monotonic_s() - self._answered_at_s

    async def run(self, consumer: Consumer, pipeline: Pipeline, served: Callable[[], int]) -> None:
        """Look until it is cancelled.

        Args:
            consumer: where the partitions stand.
            pipeline: what they wait for.
            served: inputs acknowledged so far.

        Raises:
            Stalled: something stands still for `stall_s`, and Kafka is there.
            TagstreamError: a right is missing.
        """
        self._answered_at_s = self._clock.monotonic_s()
        while True:
            await asyncio.sleep(min(LOOK_EVERY_S, self._stall_s / LOOKS))
            self._look = await consumer.look()
            was = self.reason
            await self._judge(consumer, pipeline, served())
            if self.reason and not was:
                log.warning("not ready: %s", self.reason)
            elif was and not self.reason:
                log.warning("ready again: it moves")

    async def _judge(self, consumer: Consumer, pipeline: Pipeline, served: int) -> None:
        now_s = self._clock.monotonic_s()
        if self._look.denied:
            raise TagstreamError(self._look.denied)
        if consumer.connected() and self._look.answered:
            self._answered_at_s = now_s
        if pipeline.paused:
            self._watch.forget()
        standings = self._standings(consumer, pipeline)
        excused, self._waiting_on_kafka = self._waiting_on_kafka, set()
        if self._answered_at_s != now_s:
            excused = set(standings)
        stalls = self._watch.look(now_s, standings, served, excused)
        late = [stall for stall in stalls if stall.idle_s >= self._stall_s / 2]
        self.idle_s = stalls[0].idle_s if stalls else 0.0
        self.stalled_partitions = sum(stall.partition != WORKER for stall in late)
        self.reason = self._away() or (self._diagnosis(late, consumer, pipeline) if late else "")
        overdue = [stall for stall in stalls if stall.blamed_s >= self._stall_s]
        if overdue and not await self._kafkas_fault(overdue, consumer, pipeline):
            raise Stalled(self._diagnosis(overdue, consumer, pipeline))

    def _standings(self, consumer: Consumer, pipeline: Pipeline) -> Mapping[int, Standing]:
        """By partition; of the worker as a whole where it should have some, or has them and no flow."""
        if not self._look.joined or not consumer.flow_active:
            return {WORKER: Standing(None, None, None)}
        found = consumer.standings()
        for partition, standing in found.items():
            waits = pipeline.waiting_for(partition)
            if waits is not None and waits[0] != SCORER:  # it has had its turn
                found[partition] = replace(standing, queued=False)
        return found

    def _away(self) -> str:
        return f"Kafka has not answered for {self.silent_s:.0f} s" if self.silent_s >= self._stall_s / 2 else ""

    async def _kafkas_fault(self, overdue: list[Stall], consumer: Consumer, pipeline: Pipeline) -> bool:
        """Whether what is waited for is something that Kafka, by its own word, cannot do now."""
        waits = [pipeline.waiting_for(stall.partition) for stall in overdue]
        if any(wait is not None and wait[0] == SCORER for wait in waits):
            return False
        unhealthy = await consumer.unhealthy([self._topic, *self._outputs])
        if unhealthy:
            self._waiting_on_kafka = {stall.partition for stall in overdue}
            self.reason = f"{self.reason}; it waits on, because {unhealthy}"
        return bool(unhealthy)

    def _diagnosis(self, stalls: list[Stall], consumer: Consumer, pipeline: Pipeline) -> str:
        stall, others = stalls[0], len(stalls) - 1
        if stall.partition == WORKER:
            what = "a rebalance has not ended" if self._look.joined else "the consumer group has not let it in"
            return f"stalled: this worker does nothing for {stall.idle_s:.0f} s: {what}"
        lag, done = stall.standing.lag, stall.standing.done
        where = f"partition {stall.partition} of {self._topic}" + (f" (and {others} more)" if others else "")
        return (
            f"stalled: {where} has not moved for {stall.idle_s:.0f} s, at offset {'none' if done is None else done} "
            f"with a lag of {'unknown' if lag is None else lag}: {self._cause(stall, consumer, pipeline)}"
        )

    def _cause(self, stall: Stall, consumer: Consumer, pipeline: Pipeline) -> str:
        waits = pipeline.waiting_for(stall.partition)
        if waits is not None:
            what, since_s = waits
            return f"it has waited for {what} for {self._clock.monotonic_s() - since_s:.0f} s"
        standing = stall.standing
        if standing.queued:
            return "what was fetched waits in the channel, and nobody takes it"
        if consumer.refused_commit:
            return f"its offsets are not committed: {consumer.refused_commit}"
        if standing.end is None:
            return "Kafka does not say where its log ends"
        if standing.read is not None and standing.read >= standing.end:
            return "all of it is done, and its offset is not committed"
        return f"nothing is fetched, the consumer stands at {'none' if standing.read is None else standing.read}"
