"""Faust's Kafka transport, handing over whole record batches instead of single events.

Faust stays the runtime (group membership, rebalances, agents, web); only the way from its consumer thread to the
agent is ours, because its per-event path costs ten times what the work itself costs, and its commit bookkeeping
skips or stalls at gaps. Three things are replaced, each a documented hook of `faust.transport.consumer.Consumer`:

- `_drain_messages`: what one fetch brought for a partition goes to the channel as one `RecordBatch`. The channel is
  bounded and this loop awaits it: a full channel means no further poll, and aiokafka does not fetch a partition whose
  records nobody has taken. That is the back-pressure; heartbeats go on in the consumer thread meanwhile.
- `force_commit`: commits the pipeline's contiguous watermarks, nothing else.
- `wait_empty`: drains the pipeline; Faust calls it before a revocation returns and when the worker stops.

Knows the pipeline only as an `Intake`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, cast

from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streamer.adapters import consumer_look
from streamer.adapters.consumer_look import Look, right_missing
from streamer.adapters.consumer_thread import BulkConsumerThread
from streamer.adapters.kafka_columns import Chunk
from streamer.core.batch import RecordBatch
from streamer.core.errors import TagstreamError
from streamer.core.lag import Fetched, LagAge
from streamer.core.lease import Lease
from streamer.core.records import Records
from streamer.core.stall import Standing

log = logging.getLogger(__name__)

FETCH_TIMEOUT_S = 1.0  # how long one poll waits for records
SEEK_RETRY_S = 0.5
LOOK_TIMEOUT_S = 2 * consumer_look.ASK_TIMEOUT_S


class Intake(Protocol):
    """What the consumer needs of the hot path."""

    epoch: int

    def committable(self) -> dict[int, int]: ...

    async def drain(self, timeout_s: float) -> bool: ...

    def forget(self) -> None: ...


class BulkConsumer(driver.Consumer):
    """Faust's consumer, by record batches."""

    intake: Intake | None = None  # set by the worker before Kafka is joined
    lease: Lease
    deliver: Callable[[RecordBatch], Awaitable[None]]
    drain_s: float

    topic: str
    group: str
    made_partitions: int  # of the input topic when the worker began: for so many there are output partitions
    give_up: Callable[[TagstreamError], None]  # ends the worker

    _thread: BulkConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._committed: dict[TP, int] = {}
        self._first: dict[TP, int] = {}
        self._handed: dict[int, int] = {}  # by partition: the next offset after what was handed over
        self._read_to: Mapping[int, int] = {}  # by partition: everything before this was handed over
        self._ends: dict[int, int] = {}  # by partition: as Kafka said when it was asked last
        self._beyond: dict[int, tuple[int | None, int]] = {}  # by partition: a watermark, and what was read beyond it
        self._lag_age = LagAge()
        self._handing = False
        self._given_up = False

    def _new_consumer_thread(self) -> BulkConsumerThread:
        return BulkConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        assert self.intake is not None
        try:
            while not (self.should_stop or fetcher.should_stop):
                epoch = self.intake.epoch
                polled, _ = await self._wait_next_records(FETCH_TIMEOUT_S)
                if not polled:
                    await asyncio.sleep(0)
                elif self.flow_active and epoch == self.intake.epoch:
                    await self._hand_all_over(epoch, polled)
                else:  # a rebalance began, or even ended, during the fetch: nobody can say whose records these are
                    await self._seek_back()
                if epoch == self.intake.epoch:
                    self._read_to = self._thread.read_to
        except (TopicAuthorizationFailedError, GroupAuthorizationFailedError) as error:
            self._end(right_missing(error, self.topic, self.group))
        except (ConsumerStoppedError, asyncio.CancelledError):
            # Faust takes a cancellation in the middle of a rebalance for a crash, even when the worker was told to end.
            if not self.app.should_stop:
                raise

    async def _hand_all_over(self, epoch: int, polled: Mapping[TP, Sequence[Chunk]]) -> None:
        records = {tp: Records.joined([chunk.records for chunk in chunks]) for tp, chunks in polled.items()}
        handed_before = dict(self._handed)
        for tp, batch in records.items():
            (first, last), times = batch.offsets[[0, -1]].tolist(), batch.timestamps[[0, -1]].tolist()
            self._handed[tp.partition] = last + 1
            self._lag_age.fetched(tp.partition, Fetched(first, last, *times), self._committed.get(tp, 0))
        self._handing = True
        try:
            for tp, batch in records.items():
                if self.intake is not None and epoch == self.intake.epoch and not self._given_up:
                    follows = handed_before.get(tp.partition)
                    await self._hand_over(RecordBatch(epoch, tp.partition, batch, follows))
        finally:
            self._handing = False

    async def _hand_over(self, batch: RecordBatch) -> None:
        """Wait for room in the channel, at most until the flow stops: then the batch is read again later.

        Faust cancels whoever waits for room when it empties the channel; its own `wait_first` would crash at that.
        """
        delivery = asyncio.ensure_future(self.deliver(batch))
        stopped = asyncio.ensure_future(self.suspend_flow.wait())
        try:
            await asyncio.wait({delivery, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            delivery.cancel()  # of no effect where it is done
        if delivery.done() and not delivery.cancelled():
            delivery.result()  # raises what it raised

    def stop_flow(self) -> None:
        """Faust empties the channel after this: what comes later through it must not pass for its successor."""
        super().stop_flow()
        if self.intake is not None:
            self.intake.epoch += 1
        self._handed.clear()
        self._lag_age.forget()
        self._beyond.clear()
        self._read_to = {}

    async def _seek_back(self) -> None:
        """Read what was fetched and dropped again, from what is committed; must succeed before anything later."""
        while not self.should_stop:
            try:
                return await self.perform_seek()
            except Exception as error:  # the partitions may be taken away under it
                log.info("seek during a rebalance: %s", str(error) or type(error).__name__)
            if not self.flow_active:
                return  # Faust seeks before the flow begins again
            await asyncio.sleep(SEEK_RETRY_S)

    async def wait_empty(self) -> None:
        """Finish what has entered a micro-batch, commit it, and let go of the partitions."""
        if self.intake is None:
            return
        if not await self.intake.drain(self.drain_s):
            log.warning("not everything in flight was acknowledged; it will be delivered again")
            self.lease.end()  # what the producer still holds must not go out behind the next owner's
            if not self.app.should_stop:
                log.error("cannot go on: the partitions are being taken away with outputs in flight")
                cast(Any, self.app).end(1)
        await self.maybe_wait_for_commit_to_finish()
        await self.force_commit()
        self.intake.forget()
        self._committed.clear()
        self._first.clear()

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit each partition's watermark where it has moved.

        Back too: what is committed beyond the end of a log that was cut short would skip what comes there later.
        """
        if self.intake is None:
            return False
        watermarks = self.intake.committable()
        offsets = {}
        for tp in self.assignment():
            offset = max(watermarks.get(tp.partition, self._first.get(tp, -1)), self._read_beyond(tp, watermarks))
            if offset >= 0 and offset != self._committed.get(tp, -1):
                offsets[tp] = offset
        try:
            if not offsets or not await self._commit(offsets):
                return False
        except (TopicAuthorizationFailedError, GroupAuthorizationFailedError) as error:
            self._end(right_missing(error, self.topic, self.group))
            return False
        self._committed.update(offsets)
        return True

    def _read_beyond(self, tp: TP, watermarks: Mapping[int, int]) -> int:
        """How far was read beyond a watermark with nothing on its way: marks of transactions, and no records."""
        mark, read = watermarks.get(tp.partition), self._read_to.get(tp.partition)
        if read is not None and self._handed.get(tp.partition) == mark and read >= self._committed.get(tp, read + 1):
            self._beyond[tp.partition] = mark, read
        of, beyond = self._beyond.get(tp.partition, (None, -1))
        return beyond if of == mark else -1

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """As Faust's, and the flow stands still until it has found where to read from.

        Faust stops it as partitions are taken away, and so not where there were none: what was fetched of the new
        ones before it was ready went into the channel, and Faust empties that when it is.
        """
        if self.flow_active:
            self.stop_flow()
            self.app.flow_control.suspend()
        found = max((tp.partition for tp in assigned), default=0) + 1
        if found > self.made_partitions:
            self._end(
                f"the topic {self.topic} has more partitions than the {self.made_partitions} of this worker's start, "
                "and tracks move with that: stop the workers, run `tagstream topics check`, and start them again"
            )
        await super().on_partitions_assigned(assigned, generation_id)
        self.add_future(self._first_commit(set(assigned)))

    async def _first_commit(self, assigned: set[TP]) -> None:
        """Give every partition a committed offset at once: a kill before the first batch is done costs nothing then."""
        epoch = self.intake.epoch if self.intake else 0
        try:
            committed, first = await self._thread.group_offsets(assigned)
        except KafkaError as error:
            log.warning("could not read the group's offsets: %s", error)
            return
        if self.intake is None or epoch != self.intake.epoch:
            return  # another rebalance has begun, and will ask again
        for tp, offset in committed.items():
            self._committed.setdefault(tp, offset)  # what this worker has committed meanwhile is newer
        self._first.update(first)
        await self.commit()

    def _end(self, why: str) -> None:
        """End the worker, and hand nothing more over meanwhile."""
        if not self._given_up:
            self._given_up = True
            self.give_up(TagstreamError(why))

    def standings(self) -> dict[int, Standing]:
        """By assigned partition: where it stands."""
        try:
            assigned = self.assignment()
        except ConsumerNotStarted:  # whoever asks before the consumer's thread is up: health, heartbeat, metrics
            return {}
        acknowledged = self.intake.committable() if self.intake is not None else {}
        return {tp.partition: self._standing(tp, acknowledged.get(tp.partition)) for tp in assigned}

    def lag_ages_s(self, now_ms: float) -> dict[int, float]:
        """By assigned partition whose lag is known: the age of the oldest record that is not committed."""
        return self._lag_age.ages_s(now_ms, self.standings())

    def _standing(self, tp: TP, acknowledged: int | None) -> Standing:
        handed = self._handed.get(tp.partition)
        ends = [end for end in (self._ends.get(tp.partition), self._fetched_end(tp)) if end is not None]
        return Standing(
            end=max(ends, default=None),
            done=self._committed.get(tp),
            read=self._read_to.get(tp.partition),
            queued=self._handing or (handed is not None and handed > (acknowledged or 0)),
        )

    def _fetched_end(self, tp: TP) -> int | None:
        """As the last fetch said: fresh while there are fetches."""
        try:
            end = self._thread._ensure_consumer().last_stable_offset(driver.ensure_aiokafka_TP(tp))
        except (IllegalStateError, AssertionError, AttributeError, KeyError):  # not fetched yet, or just taken away
            return None
        return end if end is not None and end >= 0 else None

    async def look(self) -> Look:
        """Ask Kafka about this consumer; empty where even the consumer's own thread does not answer."""
        try:
            look = await self._thread.ask(
                lambda consumer: consumer_look.look_at(consumer, self.topic, self.group), LOOK_TIMEOUT_S
            )
        except (ConsumerNotStarted, TimeoutError):
            return Look()
        self._ends = look.ends if look.answered else self._ends
        return look

    async def unhealthy(self, topics: Collection[str]) -> str:
        """What Kafka says is wrong with these topics; empty where all is well."""
        try:
            return await self._thread.ask(lambda consumer: consumer_look.unhealthy(consumer, topics), LOOK_TIMEOUT_S)
        except (ConsumerNotStarted, TimeoutError):
            return "the consumer's thread does not answer"

    @property
    def refused_commit(self) -> str:
        """Why the last commit failed; empty when it did not."""
        return self._thread.refused_commit

    def connected(self) -> bool:
        """Whether the group's coordinator is known: aiokafka forgets it as soon as it does not answer a heartbeat."""
        return self._thread.coordinator_known()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """See BulkConsumerThread."""


class BulkTransport(driver.Transport):
    """The transport to set as `app.transport`."""

    Consumer = BulkConsumer
