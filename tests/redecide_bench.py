"""A walk over retained scores on fakes: a real pipeline, whose sink is the topic that is walked."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import numpy as np

from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.core.outputs import OutputRecord
from streamer.core.pace import Pace
from streamer.core.redecide_runs import Progress, Run
from streamer.core.score_records import Label, ScoreRecords
from streamer.core.thresholds import ThresholdTable
from streamer.ports import Serving
from streamer.redecide_walk import Around, Walk
from streamer.serving import StoreUnavailable
from tests.fakes import LAYOUT, MODEL, a_table
from tests.pipeline_bench import INPUT, SCORES, TAGS, Bench, bench

RUN = "20261125T120000Z-1a2b3c4d"


def score_records(records: Sequence[OutputRecord], first_offset: int = 0) -> ScoreRecords:
    """By columns what is in the topic from this offset on."""
    labels: list[Label] = []
    columns, parts, at = [], [], 0
    for number, record in enumerate(records):
        headers = {name: value.decode() for name, value in record.headers}
        label = Label(headers.get("model", ""), headers.get("thresholds", ""))
        labels += [] if label in labels else [label]
        value, source = record.value, headers.get("source", "").encode()
        size = -1 if value is None else len(value)
        source_size = len(source) if "source" in headers else -1
        columns.append(
            (
                first_offset + number,
                record.timestamp_ms or 0,
                at,
                size,
                at + max(size, 0),
                source_size,
                labels.index(label),
            )
        )
        parts += [value or b"", source]
        at += max(size, 0) + len(source)
    table = np.array(columns, np.int64).reshape(-1, 7).T
    offsets, times, value_at, value_bytes, source_at, source_bytes, label_at = table
    keys = [record.key for record in records]
    return ScoreRecords(
        b"".join(parts), offsets, times, keys, value_at, value_bytes, source_at, source_bytes, label_at, labels
    )


class MemoryScores:
    """`ScoresTopic` of what the bench's sink has got; `pauses_s` are taken one after the other, one for each batch."""

    def __init__(self, b: Bench, batch_records: int) -> None:
        self.worked_s = 0.0
        self.reads: list[tuple[int, int]] = []
        self.pauses_s: list[float] = []
        self.error: Exception | None = None
        self.is_open = False
        self._bench = b
        self._batch_records = batch_records

    async def open(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False

    async def span(self, partition: int) -> range:
        return range(len(self._bench.sink.records(SCORES, partition)))

    async def read(self, partition: int, start: int, stop: int) -> AsyncIterator[tuple[range, ScoreRecords]]:
        self.reads.append((start, stop))
        if self.error is not None:
            raise self.error
        records, size = self._bench.sink.records(SCORES, partition), self._batch_records
        for at in range(start // size * size, stop, size):
            if self.pauses_s:
                await asyncio.sleep(self.pauses_s.pop())
            covers = range(at, min(at + size, len(records)))
            yield covers, score_records(records[covers.start : covers.stop], at)


class MemoryRuns:
    """`RunStore`."""

    def __init__(self, run: Run, tables: Iterable[ThresholdTable]) -> None:
        self.run = run
        self.tables = {table.version: table.canonical for table in tables}
        self.down = 0  # so many calls find Redis away
        self.cancel_at: int | None = None  # after so many questions somebody cancels
        self.reports: list[tuple[int, str]] = []  # position and state of each

    def _call(self) -> None:
        if self.down:
            self.down -= 1
            raise StoreUnavailable("Redis does not answer (a marker)")

    async def newest(self) -> Run | None:
        self._call()
        if self.cancel_at is not None:
            self.cancel_at -= 1
            self.run.cancelled = self.cancel_at <= 0
        return self.run

    async def report(self, run: Run, progress: Progress) -> None:
        self._call()
        self.reports.append((progress.position, progress.state.value))
        run.progress[progress.partition] = progress

    async def table(self, model: str, version: str) -> str | None:
        self._call()
        return self.tables.get(version)


class WalkBench:
    """A pipeline that has decided tracks under the tuned table, and what a walk over them needs."""

    def __init__(self, b: Bench, *, dry_run: bool = False, batch_records: int = 4, **live: object) -> None:
        self.b = b
        self.before = b.serving.serving.table
        self.now = a_table(None, **live)
        self.run = Run(RUN, "1-0", dry_run, "me", "", MODEL, self.now.version, 1)
        self.scores = MemoryScores(b, batch_records)
        self.store = MemoryRuns(self.run, [self.before, self.now])
        self.mine = True

    def swap(self, table: ThresholdTable | None = None) -> None:
        """Decide by the run's table, or another."""
        b = self.b
        b.serving.serving = Serving(b.serving.serving.model, table or self.now)

    def walk(self, partition: int = 0) -> Walk:
        """A walk of this moment, as `Redecider` makes one."""
        b = self.b
        around = Around(
            b.pipeline, b.serving, b.sink, self.scores, self.store, JsonDecisionEncoder(LAYOUT),
            Pace(b.clock.monotonic_s()), b.clock, TAGS, SCORES, "w-1",
        )  # fmt: skip
        return Walk(around, self.run, partition, lambda _: self.mine)

    def kept(self, topic: str, partition: int = 0) -> dict[str, OutputRecord]:
        """What compaction keeps, by key; tombstones included."""
        return {(record.key or b"").decode(): record for record in self.b.sink.records(topic, partition)}


def header(record: OutputRecord, name: str) -> str:
    """A header's value."""
    return dict(record.headers)[name].decode()


@asynccontextmanager
async def walk_bench(*, dry_run: bool = False, batch_records: int = 4, **live: object) -> AsyncIterator[WalkBench]:
    """`live`: the thresholds that differ from the tuned ones in the run's table."""
    async with bench(batch_max=4, linger_s=0.001, encoder=JsonDecisionEncoder(LAYOUT)) as b:
        yield WalkBench(b, dry_run=dry_run, batch_records=batch_records, **live)


__all__ = [
    "INPUT",
    "SCORES",
    "TAGS",
    "MemoryRuns",
    "MemoryScores",
    "WalkBench",
    "header",
    "score_records",
    "walk_bench",
]
