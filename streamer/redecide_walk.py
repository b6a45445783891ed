"""One partition's retained scores, from the newest record to the oldest, re-decided between live micro-batches.

    Step 1. Listen    which keys the hot path hands over from now on: their records here are not the newest any more
    Step 2. Span      where the partition ends, asked while nothing of it is on its way to Kafka
    Step 3. Catch up  a walk that goes on where another left off: the keys behind it are read again; and after one
                      that was killed under another table, what it may have decided without retaining it
    Step 4. Walk      block by block backwards: a key that has not been met is its newest record; compare the tags
    Step 5. Publish   in a turn of its own: what is still the newest; the decision, its acknowledgement, the scores

Because nothing is handed over beside a turn, and what was handed over before it is acknowledged when it begins, what
it publishes follows every older record of its key and precedes every newer one: order and compaction hold without
any further bookkeeping. What is known of a key is eight bytes (`core.seen_keys`); a block is a few megabytes.

After each piece of work there is a rest, as long as the stream's own latency asks for (`core.pace`).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.core.errors import TagstreamError
from streamer.core.outputs import OutputRecord, Stamp
from streamer.core.pace import Pace
from streamer.core.redecide import Counts, examine
from streamer.core.redecide_runs import Progress, Run, State, label
from streamer.core.score_records import ScoreRecords
from streamer.core.seen_keys import SeenKeys
from streamer.core.thresholds import BadThreshold, ThresholdTable
from streamer.pipeline import Pipeline
from streamer.ports import Clock, DecisionEncoder, Serving, ServingSource, Sink
from streamer.redecide_changes import Anew, Change
from streamer.serving import StoreUnavailable

log = logging.getLogger(__name__)

REPORT_S = 0.5  # between two reports of progress; a cancel is heard as soon
STORE_RETRY_S = 0.5
PIECE_S = 0.003  # of work without a rest: the stream waits so long at most
BLOCK_RECORDS = 4_000  # aimed at; offsets may be sparse after compaction
BLOCK_BYTES = 8 << 20
FIRST_REACH, MOST_REACH = 2_000, 1 << 20  # offsets
TURN_TRACKS = 256  # published in one turn: live micro-batches wait for its end


class Interrupted(Exception):
    """The partition, the worker or what it decides by is not what it was: begin again, from what is true then."""


class Cancelled(Exception):
    """An operator ended the run."""


class CannotPublish(TagstreamError):
    """Kafka refused an output: nothing later of its partition may go out, so the worker ends."""


class ScoresTopic(Protocol):
    """The retained scores."""

    worked_s: float  # time spent on reading, waiting left out

    async def span(self, partition: int) -> range:
        """The offsets that the partition has."""

    def read(self, partition: int, start: int, stop: int) -> AsyncIterator[tuple[range, ScoreRecords]]:
        """Whole batches in order, with the offsets each covers; the first may begin before `start`."""


class RunStore(Protocol):
    """The runs and what they need to know (Redis). Every method may raise StoreUnavailable."""

    async def newest(self) -> Run | None: ...

    async def report(self, run: Run, progress: Progress) -> None:
        """Say how far a partition is."""

    async def table(self, model: str, version: str) -> str | None:
        """The very JSON of a table, or None where it is not stored."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a walk works with."""

    pipeline: Pipeline
    serving: ServingSource
    sink: Sink
    scores: ScoresTopic
    store: RunStore
    encoder: DecisionEncoder
    pace: Pace
    clock: Clock
    topic_tags: str
    topic_scores: str
    worker: str


class Walk:
    """One run over one partition, for as long as nothing around it changes."""

    def __init__(self, around: Around, run: Run, partition: int, is_mine: Callable[[int], bool]) -> None:
        self._around = around
        self._run = run
        self._partition = partition
        self._is_mine = is_mine  # whether the partition of this epoch still is this worker's
        self._epoch = around.pipeline.epoch
        self._serving: Serving = around.serving.current()
        self._table = self._serving.table
        self._stamp = Stamp(
            "", self._serving.model.version, self._table.version, self._serving.model.layout.fingerprint
        )
        self._tables: dict[str, ThresholdTable | None] = {}
        self._doubts: list[ThresholdTable] = []
        self._anew = Anew(
            self._stamp, self._table, self._serving.model.layout, self._tables, self._doubts, around, run.name
        )
        self._seen = SeenKeys()
        self._live: set[int] = set()  # handed over since the last look
        self._reach = FIRST_REACH
        self._worked_s = 0.0  # since the last rest
        self._told_s = around.clock.monotonic_s()
        self.progress, self._goes_on = self._start(run.progress.get(partition))

    def _start(self, before: Progress | None) -> tuple[Progress, bool]:
        """Where to begin, and whether that is where somebody else left off.

        Under another table all is to be looked at again; what was published for it stays counted.
        """
        counts = Counts()
        same = before is not None and (before.model, before.thresholds) == (self._stamp.model, self._stamp.thresholds)
        if before is not None and same and before.state is State.RUNNING:
            before.worker, before.whole = self._around.worker, False
            return before, before.end > 0
        if before is not None and not self._run.dry_run:
            counts = Counts(changed=before.counts.changed, added=before.counts.added, removed=before.counts.removed)
        fresh = Progress(self._partition, State.RUNNING, self._around.worker, self._stamp.model, self._stamp.thresholds)
        fresh.counts = counts
        fresh.entry = before.entry if before is not None else ""
        mine = label(self._stamp.model, self._stamp.thresholds)
        fresh.left = tuple(one for one in self._run.in_doubt().get(self._partition, ()) if one != mine)
        return fresh, False

    async def run(self) -> None:
        """Walk to the beginning of the partition.

        Raises:
            Interrupted: something around it has changed.
            Cancelled: the run was cancelled.
            CannotPublish: the worker must end.
            TagstreamError: the partition cannot be read.
        """
        # Step 1. Listen
        self._around.pipeline.on_hand_over = self._hear
        try:
            # Step 2. Span
            async with self._around.pipeline.between_batches(self._partition):
                self._check()
                span = await self._around.scores.span(self._partition)
            progress = self.progress
            progress.begin = span.start
            if not self._goes_on:
                progress.end = progress.position = span.stop
            await self._report()
            # Step 3. Catch up
            if self._goes_on:
                await self._catch_up(span.stop)
            await self._learn_doubts()
            # Step 4. Walk
            while progress.position > progress.begin:
                await self._step()
        finally:
            self._around.pipeline.on_hand_over = None
        progress.state = State.DONE
        if not self._run.dry_run:
            progress.left = tuple(one for one in progress.left if self._version_of(one) is None)
        await self._report()

    def _hear(self, partition: int, keys: list[bytes | None]) -> None:
        if partition == self._partition:
            self._live.update(map(hash, keys))

    async def _catch_up(self, end: int) -> None:
        """Meet the keys that were met before."""
        position = self.progress.position
        async for _, records in self._around.scores.read(self._partition, position, end):
            started_s = self._now_s()
            self._seen.add(records.hashes())
            await self._settle()
            await self._rest(self._now_s() - started_s)

    async def _learn_doubts(self) -> None:
        versions = [self._version_of(one) for one in self.progress.left]
        tables = [await self._ask_table(version) for version in versions if version is not None]
        self._doubts += [table for table in tables if table is not None]

    def _version_of(self, left: str) -> str | None:
        """The table of a label of this walk's model; None for another's, whose records are not looked at."""
        model, _, version = left.partition("/")
        return version if model == self._stamp.model else None

    async def _step(self) -> None:
        """The next few blocks below where the walk stands."""
        progress = self.progress
        start = max(progress.begin, progress.position - self._reach)
        lowest, blocks = start, []
        async for covers, records in self._around.scores.read(self._partition, start, progress.position):
            lowest = min(lowest, covers.start)
            blocks.append((covers.start, records))
            await self._rest(0.0)
        for first, records in reversed(blocks):
            if len(records):
                await self._look_at(records)
            progress.position = max(first, progress.begin)
        progress.position = max(lowest, progress.begin)
        found = sum(len(records) for _, records in blocks)
        too_much = found > BLOCK_RECORDS or sum(len(records.data) for _, records in blocks) > BLOCK_BYTES
        if too_much:
            self._reach = max(1, self._reach // 2)
        elif found < BLOCK_RECORDS // 2:
            self._reach = min(MOST_REACH, self._reach * 2)

    async def _look_at(self, records: ScoreRecords) -> None:
        started_s = self._now_s()
        self._absorb_live()
        rows = self._seen.newest(records.hashes())
        await self._settle()
        await self._learn_tables(records, rows)
        counts, changed = examine(records, rows, self._stamp.model, self._table, self._tables, self._doubts)
        worked_s = self._now_s() - started_s
        await self._rest(worked_s)
        if not self._run.dry_run:
            for at in range(0, len(changed), TURN_TRACKS):
                started_s = self._now_s()
                changes = self._anew.prepare(records, changed[at : at + TURN_TRACKS], counts)
                await self._publish(changes, counts)
                await self._rest(self._now_s() - started_s)
        self.progress.counts.add(counts)

    def _absorb_live(self) -> None:
        if self._live:
            self._seen.add(np.fromiter(self._live, np.int64, len(self._live)))
            self._live.clear()

    async def _settle(self) -> None:
        if self._seen.long_merge:
            await asyncio.to_thread(self._seen.settle)
        else:
            self._seen.settle()

    async def _learn_tables(self, records: ScoreRecords, rows: NDArray[np.intp]) -> None:
        for place in np.unique(records.label[rows]).tolist():
            label = records.labels[place]
            if label.model == self._stamp.model and label.thresholds not in self._tables:
                self._tables[label.thresholds] = await self._ask_table(label.thresholds)

    async def _ask_table(self, version: str) -> ThresholdTable | None:
        if version == self._table.version:
            return self._table
        while True:
            try:
                text = await self._around.store.table(self._stamp.model, version)
                break
            except StoreUnavailable:
                await self._wait_for_store()
        try:
            table = ThresholdTable.from_canonical(self._table.tags, text) if text is not None else None
        except BadThreshold:
            table = None
        return table if table is not None and table.version == version else None

    async def _publish(self, changes: list[Change], counts: Counts) -> None:
        """In one turn: of these the ones whose key has not been handed over meanwhile."""
        async with self._around.pipeline.between_batches(self._partition):
            self._check()
            newest = [change for change in changes if change.hashed not in self._live]
            for change in changes:
                if change.hashed in self._live:
                    counts.take_back(change.added, change.removed)
            if newest:
                await self._send(self._around.topic_tags, [change.decision for change in newest])
                await self._send(self._around.topic_scores, [change.scores for change in newest])

    async def _send(self, topic: str, records: list[OutputRecord]) -> None:
        try:
            await (await self._around.sink.send(topic, self._partition, records))
        except TagstreamError as error:
            raise CannotPublish(str(error)) from error

    # Around it ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raises Interrupted where this walk is over."""
        pipeline, now = self._around.pipeline, self._around.serving.current()
        same = now.table.version == self._table.version and now.model.version == self._stamp.model
        if not same or pipeline.epoch != self._epoch or pipeline.failed.done() or not self._is_mine(self._partition):
            raise Interrupted

    async def _rest(self, worked_s: float) -> None:
        scores = self._around.scores
        self._worked_s += worked_s + scores.worked_s
        scores.worked_s = 0.0
        if self._worked_s >= PIECE_S:
            worked_s, self._worked_s = self._worked_s, 0.0
            await asyncio.sleep(self._around.pace.rest_s(worked_s, self._now_s()))
        self._check()
        if self._now_s() >= self._told_s + REPORT_S:
            await self._report()

    async def _report(self) -> None:
        """Say how far it is, and hear whether the run still goes on; wait where Redis is away."""
        self._told_s = self._now_s()
        while True:
            try:
                newest = await self._around.store.newest()
                if newest is None or newest.name != self._run.name or newest.cancelled:
                    raise Cancelled
                await self._around.store.report(self._run, self.progress)
                return
            except StoreUnavailable:
                await self._wait_for_store()

    async def tell_whole(self) -> None:
        """Of a walk that something around it has ended, while the partition still is this worker's."""
        if self._around.pipeline.epoch == self._epoch and self._is_mine(self._partition):
            self.progress.whole = True
            await self.tell_end()

    async def tell_end(self) -> None:
        """Of a walk that ended before the partition's beginning; where Redis is away nobody is told."""
        with suppress(StoreUnavailable):
            await self._around.store.report(self._run, self.progress)

    async def _wait_for_store(self) -> None:
        await asyncio.sleep(STORE_RETRY_S)
        self._check()

    def _now_s(self) -> float:
        return self._around.clock.monotonic_s()
