"""The hot path, top to bottom, as one event flows through it.

    Step 1. Intake       record batches of one partition each, fed by the agent; a free micro-batch is the permit
    Step 2. Decode       each record into a row of the micro-batch, or many, or a withdrawal, or a dead letter
    Step 3. Batch        full, or `linger_s` old: dispatched; the next one is filled while this one is scored
    Step 4. Score        off the event loop, under the model and the thresholds that hold at this moment
    Step 5. Decide       float64(score) >= float64(threshold), vectorised over the batch
    Step 6. Publish      decisions, scores, tombstones and dead letters, in order, to the partition they came from
    Step 7. Acknowledge  once Kafka has all of it, the partition's watermark moves and may be committed

Three rules hold it together. Micro-batches come from a fixed pool, so what is in flight is bounded and memory is
flat. Every record batch carries the *epoch* it was fetched in; a rebalance ends the epoch, and what had not entered
a micro-batch by then is dropped unacknowledged, to be delivered again to the partition's next owner. A failure
anywhere stops the pipeline and comes out of `failed`: nothing later is published, nothing unacknowledged committed.

Knows nothing of Faust, Kafka clients, Redis, torch or JSON.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.core.batch import MicroBatch, RecordBatch, Span
from streamer.core.breaker import Breaker
from streamer.core.bulk import BulkRow, Unplaced
from streamer.core.decide import decide, tag_classes
from streamer.core.errors import TagstreamError
from streamer.core.events import JSON_CONTENT_TYPE, Code, Rejected
from streamer.core.ids import Origins
from streamer.core.layout import Layout
from streamer.core.outputs import (
    Stamp,
    check_withdrawal,
    content_type,
    dead_letters,
    span_outputs,
    utc_text,
)
from streamer.core.packed import Packed
from streamer.core.records import Records
from streamer.core.watermark import Watermark
from streamer.ports import (
    BatchReport,
    BulkDecoder,
    Clock,
    DecisionEncoder,
    EventDecoder,
    Metrics,
    Serving,
    ServingSource,
    Sink,
)

SCORER, HAND_OVER, ACKNOWLEDGEMENT = "the scorer", "Kafka to take outputs", "Kafka to acknowledge outputs"
log = logging.getLogger(__name__)

PAUSE_POLL_S = 0.1
# A micro-batch of large inputs is closed before it is full: what is in flight is bounded in bytes too.
HELD_BYTES_A_TRACK = 8 * 1024  # four times a usual event
LEAST_HELD_BYTES = 8 * 1024 * 1024
IN_FLIGHT_MICRO_BATCHES = 6  # one filling, one scoring, one publishing, three waiting for their acknowledgements


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """Where the hot path writes, and the numbers it runs on."""

    topic_probabilities: str
    topic_tags: str
    topic_scores: str
    topic_deadletter: str
    worker: str
    batch_max: int
    linger_s: float


@dataclass(slots=True)
class _Flight:
    """A micro-batch on its way from step 3 to step 7."""

    batch: MicroBatch
    tickets: list[tuple[Watermark, int]]  # one per span
    epoch: int
    dispatched_s: float
    waits_for: str = SCORER
    waits_since_s: float = 0.0
    whole: bool = True  # False when some of its outputs were not handed over any more
    acknowledged: asyncio.Task[None] | None = None  # once it was handed over
    report: BatchReport = field(default_factory=BatchReport)


class Pipeline:
    """One worker's hot path: `feed` it record batches, commit what `committable` says, `drain` it before a revoke."""

    def __init__(
        self,
        settings: PipelineSettings,
        layout: Layout,
        decoders: Mapping[str, EventDecoder],
        bulk_decoders: Mapping[str, BulkDecoder],
        encoder: DecisionEncoder,
        serving: ServingSource,
        sink: Sink,
        metrics: Metrics,
        clock: Clock,
        partition_of: Callable[[bytes], int | None],
        breaker: Breaker,
    ) -> None:
        self.epoch = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_hand_over: Callable[[int, list[bytes | None]], None] | None = None  # told partition and keys, before
        self._settings = settings
        self._layout = layout
        self._tag_class = tag_classes(layout)  # [T]
        self._decoders = decoders
        self._bulk_decoders = bulk_decoders
        self._encoder = encoder
        self._serving = serving
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        self._partition_of = partition_of
        self._breaker = breaker
        self._most_held_bytes = max(LEAST_HELD_BYTES, settings.batch_max * HELD_BYTES_A_TRACK)
        self._watermarks: dict[int, Watermark] = {}
        self._taken: dict[int, tuple[int, int]] = {}  # by partition: the epoch, and the offset after what came last
        self._free: asyncio.Queue[MicroBatch] = asyncio.Queue()
        for _ in range(IN_FLIGHT_MICRO_BATCHES):
            self._free.put_nowait(MicroBatch(settings.batch_max, layout.n_inputs))
        self._open: MicroBatch | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._dispatched: asyncio.Queue[_Flight] = asyncio.Queue()
        self._scored: asyncio.Queue[tuple[_Flight, Serving, NDArray[np.float16]]] = asyncio.Queue()
        self._in_flight: dict[int, _Flight] = {}  # oldest first
        self._idle = asyncio.Event()
        self._idle.set()
        self._given_up = -1  # the last epoch of which nothing more goes out
        self._turn = asyncio.Lock()  # who hands over: a micro-batch, or what comes between two
        self._scorer_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn("score", self._score_loop())
        self._spawn("publish", self._publish_loop())

    # Step 1. Intake -----------------------------------------------------------------------------------------------

    async def feed(self, batch: RecordBatch) -> None:
        """Take one record batch in; returns when all of it is in micro-batches, or its epoch is over."""
        try:
            await self._take_in(batch)
        except Exception as error:
            self._fail(error)  # a half-filled micro-batch must not go out as if it were all
            raise

    async def _take_in(self, batch: RecordBatch) -> None:
        start, records = 0, Records.of(batch.records)
        rest: Unplaced | None = None  # of the bulk message before `start`
        while start < len(records) or rest:
            await self._while_paused(batch)
            if self._open is None:
                micro = await self._free.get()
                micro.opened_at_s = self._clock.monotonic_s()
                self._open = micro
            if batch.epoch != self.epoch or self.failed.done():
                self._close_if_empty()
                return
            if start == 0:
                self._check_it_follows(batch)
            if rest is None:
                stop = min(len(records), start + self._open.room)
                taken, rest = self._decode(self._open, batch.partition, records[start:stop])
                start += taken
            if rest is not None:
                rest = self._open.take_rows(self._layout, batch.partition, rest)
            if self._open.room == 0 or self._open.held_bytes >= self._most_held_bytes:
                self._dispatch()
            elif self._linger is None:
                self._linger = asyncio.get_running_loop().call_later(self._settings.linger_s, self._dispatch_or_fail)
            await asyncio.sleep(0)  # polls, swaps and acknowledgements get their turn between micro-batches

    def _check_it_follows(self, batch: RecordBatch) -> None:
        """Between the consumer and here lies Faust's channel: what was lost in it must not be committed over."""
        here = self._taken.get(batch.partition)
        if batch.follows is not None and here != (batch.epoch, batch.follows):
            raise TagstreamError(
                f"records of partition {batch.partition} before offset {batch.follows} were fetched and lost on their "
                "way through this worker; they are delivered again"
            )
        self._taken[batch.partition] = batch.epoch, batch.records[-1].offset + 1

    async def _while_paused(self, batch: RecordBatch) -> None:
        """Wait until the circuit is closed; an epoch that ends meanwhile keeps no one waiting."""
        if not self._breaker.is_open(self._clock.monotonic_s()):
            return
        while self._breaker.is_open(self._clock.monotonic_s()):
            if batch.epoch != self.epoch or self.failed.done():
                return
            await asyncio.sleep(PAUSE_POLL_S)
        log.warning("taking in again after the surge of dead letters")

    @property
    def paused(self) -> str:
        """Why nothing is taken in for now; empty while all is well, and when its time is over, input or none."""
        return self._breaker.why if self._breaker.is_open(self._clock.monotonic_s()) else ""

    @property
    def pauses(self) -> int:
        """How often that has happened."""
        return self._breaker.trips

    def resume(self) -> None:
        """Take in again, whatever opened the circuit."""
        self._breaker.close()

    def _close_if_empty(self) -> None:
        if self._open is not None and self._open.size == 0:
            self._free.put_nowait(self._open)
            self._open = None

    # Step 2. Decode -----------------------------------------------------------------------------------------------

    def _decode(self, micro: MicroBatch, partition: int, records: Records) -> tuple[int, Unplaced | None]:
        """Each record becomes a row, a withdrawal or a dead letter of this micro-batch, until one holds many rows.

        Returns how many records it took, and the rows of the last one where it is such a bulk message.
        """
        started_s = self._clock.monotonic_s()
        span = micro.span(partition)
        taken = 0
        rest: Unplaced | None = None
        while taken < len(records) and rest is None:
            kind, start = self._kind(records, taken), taken
            if kind is not None and kind not in self._bulk_decoders:
                taken = self._stop_of_kind(records, taken, kind)
                self._decode_alike(micro, partition, kind, records[start:taken])
                continue
            taken += 1
            try:
                if kind is not None:
                    rest = Unplaced(records[start], self._bulk_decoders[kind].decode(records.values[start] or b""))
                else:
                    check_withdrawal(records.keys[start])
                    micro.withdraw(partition, records[start:taken])
            except Rejected as why:
                span.dead.append((records[start], why))
        done = taken - (rest is not None)
        if done:
            span.next_offset = int(records.offsets[done - 1]) + 1
        micro.size += done
        micro.held_bytes += records[:taken].size_bytes
        micro.decode_s += self._clock.monotonic_s() - started_s
        return taken, rest

    @staticmethod
    def _kind(records: Records, place: int) -> str | None:
        """The content type of an event; None of a withdrawal."""
        if records.values.lengths[place] < 0:
            return None
        return content_type(records.headers_of(place)) if records.headers.lengths[place] >= 0 else JSON_CONTENT_TYPE

    def _stop_of_kind(self, records: Records, start: int, kind: str) -> int:
        """The place after the last of those from `start` on that are of this kind, one after the other."""
        stop = records.stop_of_plain(start)
        if stop > start:
            return stop
        while stop < len(records) and self._kind(records, stop) == kind:
            stop += 1
        return stop

    def _decode_alike(self, micro: MicroBatch, partition: int, kind: str, records: Records) -> None:
        """Events of one content type, in one go."""
        row = micro.n_rows
        dead: Mapping[int, Rejected]
        try:
            rows = micro.probabilities[row : row + len(records)]
            track_ids, dead = self._decoder(kind).decode_all(records, rows)
        except Rejected as why:  # of a content type that nobody reads
            track_ids, dead = Packed.of([]), dict.fromkeys(range(len(records)), why)
        if dead:
            micro.span(partition).dead += [(records[place], why) for place, why in dead.items()]
            records = records.take(np.array([place for place in range(len(records)) if place not in dead], np.int64))
        micro.take(partition, records, track_ids)

    def _decoder(self, wanted: str) -> EventDecoder:
        decoder = self._decoders.get(wanted)
        if decoder is None:
            known = ", ".join(sorted([*self._decoders, *self._bulk_decoders]))
            raise Rejected(
                Code.UNSUPPORTED_CONTENT_TYPE,
                f"content-type {wanted[:100]!r} is not one of {known}",
                "content-type",
            )
        return decoder

    # Step 3. Batch ------------------------------------------------------------------------------------------------

    def _dispatch_or_fail(self) -> None:
        """For the timer and the drain, where nobody takes an exception."""
        try:
            self._dispatch()
        except Exception as error:
            self._fail(error)

    def _dispatch(self) -> None:
        """Close the open micro-batch and hand it to the scorer."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        micro, self._open = self._open, None
        if micro is None:
            return
        self._reject_out_of_range(micro)
        tickets = []
        for span in micro.spans:
            watermark = self._watermarks.setdefault(span.partition, Watermark())
            tickets.append((watermark, watermark.open(span.next_offset)))
        flight = _Flight(micro, tickets, self.epoch, self._clock.monotonic_s())
        flight.report.stage_s["decode"] = micro.decode_s
        flight.report.stage_s["fill"] = flight.dispatched_s - micro.opened_at_s
        flight.waits_since_s = flight.dispatched_s
        self._in_flight[id(flight)] = flight
        self._idle.clear()
        self._dispatched.put_nowait(flight)

    def _reject_out_of_range(self, micro: MicroBatch) -> None:
        """Rows with a number outside [0, 1] become dead letters; one vectorised check per micro-batch."""
        for row in micro.out_of_range_rows().tolist():
            record = micro.record_of(row)
            if isinstance(record, BulkRow):
                why = record.bulk.explain(self._layout, record.row)
            else:
                why = self._decoder(content_type(record.headers)).explain(record.key, record.value or b"")
            fallback = Rejected(Code.NOT_A_PROBABILITY, "a number of this event is not in [0, 1]")
            micro.reject_row(row, why or fallback)

    # Step 4. Score ------------------------------------------------------------------------------------------------

    async def _score_loop(self) -> None:
        while True:
            flight = await self._dispatched.get()
            started_s = flight.waits_since_s = self._clock.monotonic_s()
            serving = self._serving.current()  # one model and one table for the whole micro-batch
            scores = await self._score(serving, flight.batch.probabilities[: flight.batch.n_rows])
            flight.waits_for, flight.waits_since_s = HAND_OVER, self._clock.monotonic_s()
            flight.report.stage_s["wait"] = started_s - flight.dispatched_s
            flight.report.stage_s["score"] = flight.waits_since_s - started_s
            self._scored.put_nowait((flight, serving, scores))

    async def _score(self, serving: Serving, probabilities: NDArray[np.float64]) -> NDArray[np.float16]:
        """Scores [B, T] of probabilities [B, F]; nothing to score is answered at once."""
        expected = (len(probabilities), self._layout.n_tags)
        if not len(probabilities):
            return np.zeros(expected, np.float16)
        loop = asyncio.get_running_loop()
        scores = await loop.run_in_executor(self._scorer_thread, serving.model.scorer.score, probabilities)
        if scores.shape != expected or scores.dtype != np.float16:
            raise RuntimeError(
                f"model {serving.model.version} gave {scores.dtype} scores of shape {scores.shape}, "
                f"expected float16 of shape {expected}"
            )
        return scores

    # Step 5. Decide, and step 6. Publish --------------------------------------------------------------------------

    async def _publish_loop(self) -> None:
        while True:
            flight, serving, scores = await self._scored.get()
            if self._is_over(flight):
                self._release(flight)
                continue
            started_s = self._clock.monotonic_s()
            decided = decide(scores, serving.table.values, self._tag_class)
            decided_s = self._clock.monotonic_s()
            stamp = Stamp(
                self._settings.topic_probabilities,
                serving.model.version,
                serving.table.version,
                self._layout.fingerprint,
            )
            batch, topic = flight.batch, self._settings.topic_probabilities
            decisions = self._encoder.encode(
                decided,
                scores,
                batch.track_ids,
                Origins([topic], np.insert(batch.places(), 0, 0, axis=1)),
                stamp.model,
                stamp.thresholds,
                utc_text(self._clock.wall_ms()),
            )
            self._reject_unpublishable(batch, decisions)
            self._heed_surge(batch)
            encoded_s = self._clock.monotonic_s()
            retained = Packed.rows(np.ascontiguousarray(scores, "<f2"))
            sends = [self._publish(span, stamp, decisions, retained, flight) for span in batch.spans]
            async with self._turn:
                acknowledgements = [one for many in await asyncio.gather(*sends) for one in many]
            sent_s = self._clock.monotonic_s()
            flight.report.stage_s |= {
                "decide": decided_s - started_s,
                "encode": encoded_s - decided_s,
                "send": sent_s - encoded_s,
            }
            flight.waits_for, flight.waits_since_s = ACKNOWLEDGEMENT, sent_s
            flight.acknowledged = self._spawn("acknowledge", self._acknowledge(flight, acknowledgements, sent_s))

    def _reject_unpublishable(self, micro: MicroBatch, decisions: Packed) -> None:
        """A decision that its topic would never take makes its event a dead letter: its partition must go on."""
        topic = self._settings.topic_tags
        if self._sink.fits(topic, int(decisions.lengths.max(initial=0))):
            return
        for row, (size, partition) in enumerate(zip(decisions.lengths.tolist(), micro.places()[:, 0], strict=True)):
            if partition >= 0 and not self._sink.fits(topic, size):
                message = f"its decision has {size} bytes, more than {topic} takes"
                micro.reject_row(row, Rejected(Code.OUTPUT_REFUSED, message))

    def _heed_surge(self, micro: MicroBatch) -> None:
        """Dead letters in such numbers say that something else is broken: what comes next can wait."""
        dead = sum(len(span.dead) for span in micro.spans)
        if self._breaker.add(self._clock.monotonic_s(), micro.size, dead):
            log.error(
                "paused: %s (see `tagstream deadletter list`); `tagstream deadletter resume` ends the pause",
                self._breaker.why,
            )

    async def _publish(
        self,
        span: Span,
        stamp: Stamp,
        decisions: Packed,
        scores: Packed,
        flight: _Flight,
    ) -> list[Awaitable[None]]:
        """One span's outputs, to the partition number its input came from; dead letters by key."""
        tags, retained = span_outputs(span, stamp, decisions, scores)
        failed_at = utc_text(self._clock.wall_ms()) if span.dead else ""
        dead = dead_letters(span, stamp.topic, self._settings.worker, failed_at)
        flight.report.count(span, self._partition_of)
        if self.on_hand_over is not None:
            self.on_hand_over(span.partition, list(retained.keys))
        acknowledgements = []
        for topic, partition, records in (
            (self._settings.topic_tags, span.partition, tags),
            (self._settings.topic_scores, span.partition, retained),
            (self._settings.topic_deadletter, None, dead),
        ):
            if not records:
                continue
            if self._is_over(flight):  # while it waited to hand over what comes before
                flight.whole = False
                break
            acknowledgements.append(await self._sink.send(topic, partition, records))
        return acknowledgements

    @asynccontextmanager
    async def between_batches(self, partition: int) -> AsyncIterator[None]:
        """While it lasts no micro-batch is handed over, and nothing of this partition waits for Kafka.

        Whoever uses it looks at `epoch` and `failed` inside, and awaits what it sends; `drain` waits for its end.
        """
        async with self._turn:
            waited = [
                flight.acknowledged
                for flight in self._in_flight.values()
                if flight.acknowledged is not None and any(span.partition == partition for span in flight.batch.spans)
            ]
            if waited:
                await asyncio.wait(waited)
            yield

    def _is_over(self, flight: _Flight) -> bool:
        """Whether nothing of this micro-batch may go out any more."""
        return self.failed.done() or flight.epoch <= self._given_up

    # Step 7. Acknowledge ------------------------------------------------------------------------------------------

    async def _acknowledge(self, flight: _Flight, acknowledgements: list[Awaitable[None]], sent_s: float) -> None:
        await asyncio.gather(*acknowledgements)
        if flight.whole:
            for watermark, ticket in flight.tickets:
                watermark.acknowledge(ticket)
            flight.report.stage_s["acknowledge"] = self._clock.monotonic_s() - sent_s
            self._metrics.batch_acknowledged(flight.report)
        self._release(flight)

    def committable(self) -> dict[int, int]:
        """The next offset that may be committed, by partition of the input topic."""
        return {partition: mark.value for partition, mark in self._watermarks.items() if mark.value is not None}

    def waiting_for(self, partition: int) -> tuple[str, float] | None:
        """What the oldest micro-batch of this partition waits for, and since when (monotonic); None without one."""
        for flight in self._in_flight.values():
            if any(span.partition == partition for span in flight.batch.spans):
                return flight.waits_for, flight.waits_since_s
        return None

    def _release(self, flight: _Flight) -> None:
        flight.batch.clear()
        self._free.put_nowait(flight.batch)
        del self._in_flight[id(flight)]
        if not self._in_flight:
            self._idle.set()

    # Around it: the end of an epoch, failure, the end -------------------------------------------------------------

    async def drain(self, timeout_s: float) -> bool:
        """End the epoch: finish what is in micro-batches; what was not handed over in time never will be.

        Sends already handed over are awaited as long again. Returns whether all was finished.
        """
        self._dispatch_or_fail()
        ending, self.epoch = self.epoch, self.epoch + 1
        if await self._wait(self._quiet(), timeout_s):
            return True
        self._given_up = ending
        await self._wait(self._quiet(), timeout_s)
        return False

    async def _quiet(self) -> None:
        await self._idle.wait()
        async with self._turn:  # what goes out between micro-batches is in flight too
            pass

    def forget(self) -> None:
        """The partitions are gone: their watermarks must never be committed again."""
        self._watermarks = {}

    async def _wait(self, condition: Coroutine[object, object, object], timeout_s: float) -> bool:
        """Whether the condition came true before the time was up; a failed pipeline does not keep anyone waiting."""
        task: asyncio.Future[object] = asyncio.ensure_future(condition)
        waited: set[asyncio.Future[Any]] = {task, self.failed}
        await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return True
        task.cancel()
        return False

    def _spawn(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run a named side task whose failure is the pipeline's."""
        task = asyncio.get_running_loop().create_task(work, name=f"pipeline-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def close(self) -> None:
        """Stop the side tasks; nothing more is published."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._scorer_thread.shutdown(wait=False, cancel_futures=True)
        if not self.failed.done():
            self.failed.cancel()
