"""aiokafka's consumer on a thread of its own, as Faust runs it, with what Faust leaves out.

Heartbeats go on here whatever the event loop does. Added to Faust's: a poll bounded in bytes, committed transactions
only, a reader of record batches that nothing stops, the lease, commits that are tried again, and questions that go
past Faust's own queue.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streamer.adapters import consumer_look, kafka_records
from streamer.adapters.bounded_poll import poll_bounded
from streamer.adapters.membership import join_unless_leaving, keep_lease

log = logging.getLogger(__name__)

FETCH_WAIT_MS = 50  # Faust's 1,500 left a backlog of some partitions waiting for 0.7 s while the others were empty
COMMIT_TIMEOUT_S = 5.0  # per attempt: a commit that hangs must not hold up the next, newer one


class BulkConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer on its own thread; a commit that fails is tried again later instead of crashing."""

    read_to: Mapping[int, int] = {}  # by partition: where the last fetch that was handed over ended
    refused_commit = ""  # why the last commit failed; empty when it did not

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Faust offers no setting for these: what a transaction took back was never said, and is not decided; and a
        broker must not hold a fetch of empty partitions for long, because the others' next one waits behind it."""
        consumer = super()._create_consumer(loop)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def _fetch_records(
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> Any:
        """Bounded in bytes: memory must not depend on how many partitions there are, or how well they compress."""
        fetch = super()._fetch_records
        records = await poll_bounded(
            lambda wait_s, most: fetch(consumer, active_partitions, timeout=wait_s, max_records=most), timeout or 0.0
        )
        self.read_to = consumer_look.positions(self._ensure_consumer())
        return records

    async def ask(self, question: Callable[[Any], Awaitable[Any]], timeout_s: float) -> Any:
        """Put a question to the consumer on its thread, past Faust's queue of calls, which may be what hangs.

        Raises:
            TimeoutError: the thread does not get to it.
            ConsumerNotStarted: there is no consumer yet, or no more.
        """
        answer = _answer(question, self._ensure_consumer())
        try:
            asked = asyncio.run_coroutine_threadsafe(answer, self.thread_loop)
        except RuntimeError as error:  # the thread has ended: so does whoever asks, soon
            answer.close()
            raise ConsumerNotStarted(str(error)) from error
        return await asyncio.wait_for(asyncio.wrap_future(asked), timeout_s)

    async def on_start(self) -> None:
        """Connect; from then on the lease follows what the group's coordinator says."""
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        kafka_records.install(self._ensure_consumer(), in_chunks=True)
        keep_lease(coordinator, cast(Any, self.consumer).lease)
        join_unless_leaving(coordinator)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """As Faust's, which lets a worker that ends go at once: for it the group waits until it is done and leaves."""
        if not self.app.should_stop:
            await super().on_partitions_revoked(revoked)
        if self.app.should_stop:
            await asyncio.wait([self._ensure_consumer()._coordinator._closing])

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """As Faust's; a worker that ends takes nothing more."""
        if not self.app.should_stop:
            await super().on_partitions_assigned(assigned, generation_id)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        mine = self.assignment()
        wanted = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items() if tp in mine}
        if not wanted:
            return False
        try:
            await asyncio.wait_for(consumer.commit(wanted), COMMIT_TIMEOUT_S)
            self.refused_commit = ""
        except (CommitFailedError, IllegalStateError) as error:
            self.refused_commit = f"the partitions are being reassigned ({type(error).__name__})"
            log.info("offsets not committed, %s: %s", self.refused_commit, error)
            return False
        except TimeoutError:
            self.refused_commit = f"no answer within {COMMIT_TIMEOUT_S:g} s"
            log.warning("offsets not committed: %s; trying again", self.refused_commit)
            return False
        except KafkaError as error:
            if not error.retriable:
                raise
            self.refused_commit = str(error) or type(error).__name__
            log.warning("offsets not committed: %s; trying again", self.refused_commit)
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


async def _answer(question: Callable[[Any], Awaitable[Any]], consumer: Any) -> Any:
    return await question(consumer)
