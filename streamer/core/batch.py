"""A micro-batch: the tracks that are scored together, and what else arrived between them.

It holds a preallocated `[B, F]` matrix and, per input partition, a *span*: what that partition contributed, in
offset order. Knows nothing of Kafka, wire formats or the model. Micro-batches are reused: `clear` before refilling.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.core.bulk import BulkRows, Unplaced
from streamer.core.events import Record, Rejected
from streamer.core.layout import Layout
from streamer.core.packed import Packed
from streamer.core.records import Records

WITHDRAWN = -1  # stands in a span where a row number would: a tombstone goes out in its place
REJECTED = -2  # was a row until the batch's numbers were checked


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """What one fetch brought for one partition, in offset order, and the epoch it was fetched in."""

    epoch: int
    partition: int
    records: Sequence[Record]
    follows: int | None = None  # the offset after the batch before it; None where it is its epoch's first


@dataclass(slots=True)
class Run:
    """Entries of one span that came together, as columns, in offset order."""

    records: Sequence[Record]  # [N] made one by one, where one is asked for
    rows: NDArray[np.int64]  # [N] of the micro-batch; or WITHDRAWN, or REJECTED
    offsets: NDArray[np.int64]  # [N]
    source_rows: NDArray[np.int64]  # [N] the place inside its message
    timestamps_ms: NDArray[np.int64]  # [N]; -1 where there is none
    keys: Packed  # [N] of the outputs: the track ids

    @classmethod
    def of(cls, records: Records, rows: NDArray[np.int64], keys: Packed) -> "Run":
        """Each record for itself."""
        source_rows = np.zeros(len(records), np.int64)
        return cls(records, rows, records.offsets, source_rows, records.timestamps, keys)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(slots=True)
class Span:
    """One partition's share of a micro-batch.

    `runs` keep order, because a decision and a withdrawal of the same track must not overtake each other; dead letters
    have no such order. `next_offset` is what may be committed once all of it is acknowledged.
    """

    partition: int
    next_offset: int = 0
    runs: list[Run] = field(default_factory=list)
    dead: list[tuple[Record, Rejected]] = field(default_factory=list)


class MicroBatch:
    """Up to `capacity` inputs (rows, withdrawals and dead letters together)."""

    def __init__(self, capacity: int, n_inputs: int) -> None:
        self.capacity = capacity
        # float64, so that 1.00000001 is refused and not rounded into range
        self.probabilities: NDArray[np.float64] = np.zeros((capacity, n_inputs), np.float64)  # [B, F]
        self.clear()
        self.opened_at_s = 0.0

    def clear(self) -> None:
        """Make it ready for refilling; the matrix keeps old numbers that no row refers to."""
        self.n_rows = 0
        self._track_ids: list[Packed] = []
        self._spans: dict[int, Span] = {}
        self._places: dict[int, tuple[Span, Run, int]] = {}  # by row, and its place in its run; made when asked for
        self.size = 0
        self.held_bytes = 0  # of the values of its records: they are kept until their outputs are acknowledged
        self.decode_s = 0.0

    @property
    def room(self) -> int:
        return self.capacity - self.size

    @property
    def track_ids(self) -> Packed:
        """`[B]` by row."""
        return Packed.joined(self._track_ids)

    @property
    def spans(self) -> list[Span]:
        return list(self._spans.values())

    def span(self, partition: int) -> Span:
        """The span of a partition, opened if need be: one per partition, so that its order is one list."""
        span = self._spans.get(partition)
        if span is None:
            span = self._spans[partition] = Span(partition)
        return span

    def take(self, partition: int, records: Records, track_ids: Packed) -> None:
        """Take records whose numbers are in the matrix already, from row `n_rows` on."""
        if not len(records):
            return
        rows = np.arange(self.n_rows, self.n_rows + len(records))
        self.span(partition).runs.append(Run.of(records, rows, track_ids))
        self._track_ids.append(track_ids)
        self.n_rows += len(records)

    def withdraw(self, partition: int, record: Records) -> None:
        """Take withdrawals."""
        rows = np.full(len(record), WITHDRAWN, np.int64)
        self.span(partition).runs.append(Run.of(record, rows, record.keys))

    def take_rows(self, layout: Layout, partition: int, rest: Unplaced) -> Unplaced | None:
        """Take as many rows of a bulk message as there is room for; what is left of it, or None.

        A row that is dead keeps its place among the numbers: they are copied by slices.
        """
        message, bulk, first = rest
        count = min(self.room, len(bulk) - first)
        span, at = self.span(partition), self.n_rows
        bulk.fill(layout, first, self.probabilities[at : at + count])
        track_ids = bulk.track_ids[first : first + count]
        records, rows = BulkRows(message, bulk, first, count), np.arange(at, at + count)
        # Looked up row by row: a message of nothing but dead rows must not be walked once per micro-batch.
        for place in range(count) if bulk.dead else ():
            why = bulk.dead.get(first + place)
            if why is not None:
                rows[place] = REJECTED
                self.probabilities[at + place] = 0.0
                span.dead.append((records[place], why))
        offsets, timestamps = (np.full(count, number, np.int64) for number in (message.offset, message.timestamp))
        span.runs.append(Run(records, rows, offsets, np.arange(first, first + count), timestamps, track_ids))
        # Until its last row is acknowledged all of the message may have to come again.
        span.next_offset = message.offset + (first + count == len(bulk))
        self._track_ids.append(track_ids)
        self.n_rows += count
        self.size += count
        return Unplaced(message, bulk, first + count) if first + count < len(bulk) else None

    def places(self) -> NDArray[np.int64]:
        """`[B, 3]` partition, offset, row inside the message; all -1 of a row that was rejected."""
        by_row = np.full((self.n_rows, 3), -1, np.int64)
        for span in self._spans.values():
            for run in span.runs:
                decided = run.rows >= 0
                rows = run.rows[decided]
                by_row[rows, 0] = span.partition
                by_row[rows, 1] = run.offsets[decided]
                by_row[rows, 2] = run.source_rows[decided]
        return by_row

    def out_of_range_rows(self) -> NDArray[np.intp]:
        """Rows with a number that is not in [0, 1]; NaN counts as such. One check for the whole batch."""
        numbers = self.probabilities[: self.n_rows]
        if not len(numbers) or (numbers.min() >= 0.0 and numbers.max() <= 1.0):  # a NaN is the least, and the most
            return np.empty(0, np.intp)
        fine = (numbers >= 0.0) & (numbers <= 1.0)
        return np.flatnonzero(~fine.all(axis=1))

    def record_of(self, row: int) -> Record:
        """The record that became this row."""
        _, run, place = self._entry(row)
        return run.records[place]

    def reject_row(self, row: int, why: Rejected) -> None:
        """Turn a row into a dead letter; its scores are computed on zeros and thrown away."""
        span, run, place = self._entry(row)
        run.rows[place] = REJECTED
        span.dead.append((run.records[place], why))
        self.probabilities[row] = 0.0

    def _entry(self, row: int) -> tuple[Span, Run, int]:
        if row not in self._places:  # once for all rows: a stream of nothing but bad numbers must not stop the loop
            for span in self._spans.values():
                for run in span.runs:
                    self._places |= {one: (span, run, at) for at, one in enumerate(run.rows.tolist()) if one >= 0}
        try:
            return self._places[row]
        except KeyError:
            raise LookupError(f"no entry of this micro-batch has row {row}") from None
