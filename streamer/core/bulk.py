"""A bulk message: many tracks of one partition in one Kafka record, each at its own row.

Its numbers stay where they arrived and are copied into micro-batches by slices. A row has the shape of a record, so
that whatever happens to a single event can happen to a row; what only a dead letter needs, its key and a message of
that row alone, is made when it is asked for. Knows nothing of the wire format.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from streamer.core.events import MAX_TRACK_ID_CHARACTERS, Code, Record, Rejected
from streamer.core.layout import Layout
from streamer.core.packed import Packed


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a message holds, N rows."""

    track_ids: Packed  # [N]; of a dead row anything
    columns: Sequence[NDArray[np.floating]]  # by list of the layout that is not empty, each [N, names]
    dead: Mapping[int, Rejected]  # rows that can never be decided; the range of numbers is left to the caller
    letter: Callable[[int], bytes]  # a row as a message of its own

    def __len__(self) -> int:
        return len(self.track_ids)

    def fill(self, layout: Layout, first: int, rows: NDArray[np.float64]) -> None:
        """Copy the numbers of the rows from `first` on into `rows` [B, F]; of dead rows whatever lies there."""
        stop = first + len(rows)
        for piece, column in zip((piece for piece in layout.lists if piece.names), self.columns, strict=True):
            rows[:, piece.start : piece.stop] = column[first:stop]

    def explain(self, layout: Layout, row: int) -> Rejected | None:
        """The first number of a row that is not in [0, 1], or None."""
        for piece, column in zip((piece for piece in layout.lists if piece.names), self.columns, strict=True):
            numbers = column[row].astype(np.float64)
            wrong = np.flatnonzero(~((numbers >= 0.0) & (numbers <= 1.0)))
            if len(wrong):
                at = int(wrong[0])
                field = f"{piece.field}[{at}]"
                return Rejected(Code.NOT_A_PROBABILITY, f"{field} is {numbers[at]}, not a number in [0, 1]", field)
        return None


class BulkRow:
    """One row of a bulk message, in the shape of a `Record`."""

    __slots__ = ("bulk", "message", "row")

    def __init__(self, message: Record, bulk: Bulk, row: int) -> None:
        self.message, self.bulk, self.row = message, bulk, row

    @property
    def offset(self) -> int:
        """The message's."""
        return self.message.offset

    @property
    def timestamp(self) -> int:
        """The message's."""
        return self.message.timestamp

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """The message's."""
        return self.message.headers

    @property
    def key(self) -> bytes | None:
        """The row's track id, where it is one."""
        track_id = self.bulk.track_ids[self.row] or b""
        return track_id if 1 <= len(track_id.decode()) <= MAX_TRACK_ID_CHARACTERS else None

    @property
    def value(self) -> bytes:
        """A message of this row alone."""
        return self.bulk.letter(self.row)


class BulkRows(Sequence[BulkRow]):
    """Some rows of a bulk message, one after the other."""

    def __init__(self, message: Record, bulk: Bulk, first: int, count: int) -> None:
        self._message, self._bulk, self._rows = message, bulk, range(first, first + count)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> BulkRow: ...

    @overload
    def __getitem__(self, at: slice) -> "BulkRows": ...

    def __getitem__(self, at: "int | slice") -> "BulkRow | BulkRows":
        if isinstance(at, slice):
            rows = self._rows[at]
            return BulkRows(self._message, self._bulk, rows.start, len(rows))
        return BulkRow(self._message, self._bulk, self._rows[at])


class Unplaced(NamedTuple):
    """What has no place in a micro-batch yet: the rows of a message from `first` on."""

    message: Record
    bulk: Bulk
    first: int = 0


def source_row(record: Record) -> int:
    """A track's place inside its message: 0 where it is alone in it."""
    return record.row if isinstance(record, BulkRow) else 0
