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
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, cast

from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError, KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streamer.adapters import kafka_records
from streamer.adapters.membership import keep_lease
from streamer.core.batch import RecordBatch
from streamer.core.lease import Lease

log = logging.getLogger(__name__)

COMMIT_TIMEOUT_S = 5.0  # per attempt: a commit that hangs must not hold up the next, newer one
FETCH_TIMEOUT_S = 1.0  # how long one poll waits for records
SEEK_RETRY_S = 0.5


class Intake(Protocol):
    """What the consumer needs of the hot path."""

    epoch: int

    def committable(self) -> dict[int, int]: ...

    async def drain(self, timeout_s: float) -> bool: ...

    def forget(self) -> None: ...


class BulkConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer on its own thread; a commit that fails is tried again later instead of crashing."""

    async def on_start(self) -> None:
        """Connect; from then on the lease follows what the group's coordinator says."""
        await super().on_start()
        kafka_records.install(self._ensure_consumer())
        keep_lease(self._ensure_consumer()._coordinator, cast(BulkConsumer, self.consumer).lease)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        mine = self.assignment()
        wanted = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items() if tp in mine}
        if not wanted:
            return False
        try:
            await asyncio.wait_for(consumer.commit(wanted), COMMIT_TIMEOUT_S)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("offsets not committed, the partitions are being reassigned: %s", error)
            return False
        except TimeoutError:
            log.warning("offsets not committed: no answer within %g s; trying again", COMMIT_TIMEOUT_S)
            return False
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("offsets not committed: %s; trying again", error)
            return False
        return True

    async def on_thread_stop(self) -> None:
        """End the thread in any case: while the broker is away aiokafka lets a cancellation out of its `close`."""
        try:
            await super().on_thread_stop()
        except (asyncio.CancelledError, KafkaError) as error:
            log.warning("left Kafka without a goodbye: %s", type(error).__name__)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Read again from what is committed, from the very start where nothing is.

        aiokafka's own leaves a partition where it is when its committed offset is 0 or missing: what was fetched of
        it and dropped would never be read again.
        """
        return await self.call_thread(self._seek_to_committed)

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        offsets = {}
        for tp in consumer.assignment():
            offset = await consumer.committed(tp)
            if offset is None:
                offset = (await consumer.beginning_offsets([tp]))[tp]
            consumer.seek(tp, offset)
            offsets[tp] = offset
        return offsets

    async def group_offsets(self, tps: Iterable[TP]) -> tuple[dict[TP, int], dict[TP, int]]:
        """What the group has committed; and the earliest offset of the partitions for which it has nothing."""
        return await self.call_thread(self._group_offsets, list(tps))

    async def _group_offsets(self, tps: list[TP]) -> tuple[dict[TP, int], dict[TP, int]]:
        consumer = self._ensure_consumer()
        found = {tp: await consumer.committed(driver.ensure_aiokafka_TP(tp)) for tp in tps}
        new = [driver.ensure_aiokafka_TP(tp) for tp, offset in found.items() if offset is None]
        first = await consumer.beginning_offsets(new) if new else {}
        committed = {tp: offset for tp, offset in found.items() if offset is not None}
        return committed, {TP(tp.topic, tp.partition): offset for tp, offset in first.items()}

    def coordinator_known(self) -> bool:
        """False before the first contact and while the broker that coordinates the group is away."""
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        return coordinator is not None and coordinator.coordinator_id is not None

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's livelock check reads its own per-event marks, which this transport does not make."""


class BulkConsumer(driver.Consumer):
    """Faust's consumer, by record batches."""

    intake: Intake | None = None  # set by the worker before Kafka is joined
    lease: Lease
    deliver: Callable[[RecordBatch], Awaitable[None]]
    drain_s: float

    _thread: BulkConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._committed: dict[TP, int] = {}
        self._first: dict[TP, int] = {}

    def _new_consumer_thread(self) -> BulkConsumerThread:
        return BulkConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _drain_messages(self, fetcher: Any) -> None:
        assert self.intake is not None
        try:
            while not (self.should_stop or fetcher.should_stop):
                epoch = self.intake.epoch
                records, _ = await self._wait_next_records(FETCH_TIMEOUT_S)
                if not records:
                    await asyncio.sleep(0)
                elif self.flow_active and epoch == self.intake.epoch:
                    for tp, batch in records.items():
                        await self._hand_over(RecordBatch(epoch, tp.partition, batch))
                else:  # a rebalance began, or even ended, during the fetch: nobody can say whose records these are
                    await self._seek_back()
        except (ConsumerStoppedError, asyncio.CancelledError):
            # Faust takes a cancellation in the middle of a rebalance for a crash, even when the worker was told to end.
            if not self.app.should_stop:
                raise

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
            log.warning(
                "not everything in flight was acknowledged within %g s; it will be delivered again", self.drain_s
            )
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
            offset = watermarks.get(tp.partition, self._first.get(tp, -1))
            if offset >= 0 and offset != self._committed.get(tp, -1):
                offsets[tp] = offset
        if not offsets or not await self._commit(offsets):
            return False
        self._committed.update(offsets)
        return True

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
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

    def positions(self) -> dict[int, tuple[int | None, int | None]]:
        """By assigned partition: the offset committed last, and the end of the log as last seen."""
        known = {}
        try:
            assigned = self.assignment()
        except ConsumerNotStarted:  # whoever asks before the consumer's thread is up: health, heartbeat, metrics
            return {}
        for tp in assigned:
            known[tp.partition] = (self._committed.get(tp), self._highwater(tp))
        return known

    def connected(self) -> bool:
        """Whether the group's coordinator is known: aiokafka forgets it as soon as it does not answer a heartbeat."""
        return self._thread.coordinator_known()

    def _highwater(self, tp: TP) -> int | None:
        try:
            return self.highwater(tp)
        except (IllegalStateError, AssertionError, KeyError):  # not fetched yet, or just taken away
            return None

    def verify_event_path(self, now: float, tp: TP) -> None:
        """See BulkConsumerThread."""


class BulkTransport(driver.Transport):
    """The transport to set as `app.transport`."""

    Consumer = BulkConsumer
