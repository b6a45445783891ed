"""A micro-batch: the tracks that are scored together, and what else arrived between them.

It holds a preallocated `[B, F]` matrix and, per input partition, a *span*: what that partition contributed, in
offset order. Knows nothing of Kafka, wire formats or the model. Micro-batches are reused: `clear` before refilling.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.core.bulk import BulkRow, Unplaced, source_row
from streamer.core.events import Record, Rejected
from streamer.core.layout import Layout

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
class Span:
    """One partition's share of a micro-batch.

    `entries` keeps order, because a decision and a withdrawal of the same track must not overtake each other;
    dead letters have no such order. `next_offset` is what may be committed once all of it is acknowledged.
    """

    partition: int
    next_offset: int = 0
    entries: list[tuple[Record, int]] = field(default_factory=list)
    dead: list[tuple[Record, Rejected]] = field(default_factory=list)


class MicroBatch:
    """Up to `capacity` inputs (rows, withdrawals and dead letters together)."""

    def __init__(self, capacity: int, n_inputs: int) -> None:
        self.capacity = capacity
        # float64, so that 1.00000001 is refused and not rounded into range
        self.probabilities: NDArray[np.float64] = np.zeros((capacity, n_inputs), np.float64)  # [B, F]
        self.track_ids: list[str] = []  # by row
        self._spans: dict[int, Span] = {}
        self._places: dict[int, tuple[Span, int]] = {}  # by row: its span and its index there; made when asked for
        self.size = 0
        self.held_bytes = 0  # of the values of its records: they are kept until their outputs are acknowledged
        self.opened_at_s = 0.0
        self.decode_s = 0.0

    def clear(self) -> None:
        """Make it ready for refilling; the matrix keeps old numbers that no row refers to."""
        self.track_ids = []
        self._spans = {}
        self._places = {}
        self.size = 0
        self.held_bytes = 0
        self.decode_s = 0.0

    @property
    def n_rows(self) -> int:
        return len(self.track_ids)

    @property
    def room(self) -> int:
        return self.capacity - self.size

    @property
    def spans(self) -> list[Span]:
        return list(self._spans.values())

    def span(self, partition: int) -> Span:
        """The span of a partition, opened if need be: one per partition, so that its order is one list."""
        span = self._spans.get(partition)
        if span is None:
            span = self._spans[partition] = Span(partition)
        return span

    def take_rows(self, layout: Layout, partition: int, rows: Unplaced) -> Unplaced | None:
        """Take as many rows of a bulk message as there is room for; what is left of it, or None.

        A row that is dead keeps its place among the numbers: they are copied by slices.
        """
        message, bulk, first = rows
        count = min(self.room, len(bulk) - first)
        span, at = self.span(partition), self.n_rows
        bulk.fill(layout, first, self.probabilities[at : at + count])
        self.track_ids += bulk.track_ids[first : first + count]
        entries = [(BulkRow(message, bulk, first + n), at + n) for n in range(count)]
        # Looked up row by row: a message of nothing but dead rows must not be walked once per micro-batch.
        for place in range(count) if bulk.dead else ():
            why = bulk.dead.get(first + place)
            if why is not None:
                record = entries[place][0]
                entries[place] = (record, REJECTED)
                self.probabilities[at + place] = 0.0
                span.dead.append((record, why))
        span.entries += entries
        # Until its last row is acknowledged all of the message may have to come again.
        span.next_offset = message.offset + (first + count == len(bulk))
        self.size += count
        return Unplaced(message, bulk, first + count) if first + count < len(bulk) else None

    def coordinates(self) -> list[tuple[int, int, int]]:
        """(partition, offset, row inside the message) by row; (-1, -1, -1) for a row that was rejected."""
        by_row = [(-1, -1, -1)] * self.n_rows
        for span in self._spans.values():
            for record, row in span.entries:
                if row >= 0:
                    by_row[row] = (span.partition, record.offset, source_row(record))
        return by_row

    def out_of_range_rows(self) -> NDArray[np.intp]:
        """Rows with a number that is not in [0, 1]; NaN counts as such. One check for the whole batch."""
        numbers = self.probabilities[: self.n_rows]
        fine = (numbers >= 0.0) & (numbers <= 1.0)
        return np.flatnonzero(~fine.all(axis=1))

    def record_of(self, row: int) -> Record:
        """The record that became this row."""
        span, index = self._entry(row)
        return span.entries[index][0]

    def reject_row(self, row: int, why: Rejected) -> None:
        """Turn a row into a dead letter; its scores are computed on zeros and thrown away."""
        span, index = self._entry(row)
        record = span.entries[index][0]
        span.entries[index] = (record, REJECTED)
        span.dead.append((record, why))
        self.probabilities[row] = 0.0

    def _entry(self, row: int) -> tuple[Span, int]:
        if row not in self._places:  # once for all rows: a stream of nothing but bad numbers must not stop the loop
            for span in self._spans.values():
                self._places |= {one: (span, index) for index, (_, one) in enumerate(span.entries) if one >= 0}
        try:
            return self._places[row]
        except KeyError:
            raise LookupError(f"no entry of this micro-batch has row {row}") from None
