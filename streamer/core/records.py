"""Consumed records of one partition as columns: what is asked of all of them at once costs no object for each.

A record of its own (`records[n]`) is made where one is asked for: for a dead letter, a withdrawal, an odd event.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from streamer.core.events import Record
from streamer.core.packed import NONE, Packed

RECORD_BYTES = 64  # what a record is counted for beside its value: its key and places, and that it is one

Headers = Sequence[tuple[str, bytes]]


class Consumed(NamedTuple):
    """One of them, in the shape of `core.events.Record`."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def _no_headers(raw: bytes) -> Headers:
    raise AssertionError(f"nobody can read these headers: {raw!r}")


class Records(Sequence[Record]):
    """N records, in offset order. Slices share the columns."""

    __slots__ = ("_originals", "_read_headers", "headers", "keys", "offsets", "timestamps", "values")

    def __init__(
        self,
        offsets: NDArray[np.int64],
        timestamps: NDArray[np.int64],
        keys: Packed,
        values: Packed,
        headers: Packed,
        read_headers: Callable[[bytes], Headers] = _no_headers,
        originals: Sequence[Record] | None = None,
    ) -> None:
        self.offsets = offsets  # [N]
        self.timestamps = timestamps  # [N] milliseconds since the epoch; -1 where there is none
        self.keys = keys  # [N]
        self.values = values  # [N]
        self.headers = headers  # [N] as they came, None where there are none: `read_headers` makes headers of them
        self._read_headers = read_headers
        self._originals = originals

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Records":
        """The columns of records that are objects already; they stay what `records[n]` gives."""
        if isinstance(records, Records):
            return records
        return cls(
            np.array([record.offset for record in records], np.int64),
            np.array([record.timestamp for record in records], np.int64),
            Packed.of([record.key for record in records]),
            Packed.of([record.value for record in records]),
            Packed.of([b"" if record.headers else None for record in records]),
            originals=records,
        )

    @classmethod
    def joined(cls, parts: "Sequence[Records]") -> "Records":
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        if any(part._originals is not None or part._read_headers is not parts[0]._read_headers for part in parts):
            return cls.of([record for part in parts for record in part])
        return cls(
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.timestamps for part in parts]),
            Packed.joined([part.keys for part in parts]),
            Packed.joined([part.values for part in parts]),
            Packed.joined([part.headers for part in parts]),
            parts[0]._read_headers,
        )

    def take(self, places: NDArray[np.int64]) -> "Records":
        """Those at these places, in this order."""
        return Records(
            self.offsets[places],
            self.timestamps[places],
            self.keys.take(places),
            self.values.take(places),
            self.headers.take(places),
            self._read_headers,
            None if self._originals is None else [self._originals[place] for place in places.tolist()],
        )

    @property
    def size_bytes(self) -> int:
        """What holding them takes, about."""
        return int(self.values.lengths.clip(0).sum()) + RECORD_BYTES * len(self)

    def stop_of_plain(self, start: int) -> int:
        """The place after the last of those from `start` on that have a value and no headers."""
        odd = (self.values.lengths[start:] == NONE) | (self.headers.lengths[start:] != NONE)
        return start + int(odd.argmax()) if odd.any() else len(self)

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, at: int) -> Record: ...

    @overload
    def __getitem__(self, at: slice) -> "Records": ...

    def __getitem__(self, at: "int | slice") -> "Record | Records":
        if isinstance(at, slice):
            return Records(
                self.offsets[at],
                self.timestamps[at],
                self.keys[at],
                self.values[at],
                self.headers[at],
                self._read_headers,
                None if self._originals is None else self._originals[at],
            )
        if self._originals is not None:
            return self._originals[at]
        offset, timestamp = int(self.offsets[at]), int(self.timestamps[at])
        return Consumed(offset, timestamp, self.keys[at], self.values[at], self.headers_of(at))

    def headers_of(self, at: int) -> Headers:
        """Of one record, which need not be made for them."""
        if self._originals is not None:
            return self._originals[at].headers
        raw = self.headers[at]
        return [] if raw is None else self._read_headers(raw)
