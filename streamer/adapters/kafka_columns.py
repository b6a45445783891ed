"""Consumed record batches as columns: a kernel finds where each record's parts lie, and makes no object of any.

To aiokafka a `Chunk` of them is one record, the last of it: so much of its bookkeeping is per record. What the kernel
does not take is left to the patient reader of kafka_unpack.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from streamer.adapters import batch_kernel as kernel
from streamer.adapters.kafka_unpack import HEADER_BYTES_MAX, HEADERS_MAX, read_headers, read_patiently
from streamer.core.packed import Packed
from streamer.core.records import Records

CHUNK_RECORDS = 128
RECORD_BYTES_FAST = 2**20  # a larger record is read in Python: it could hold headers by the hundred thousand


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records of one partition, in the shape of the last of them."""

    records: Records

    @classmethod
    def of(cls, records: Sequence[Any]) -> "Chunk":
        """These."""
        return cls(Records.of(records))

    @property
    def offset(self) -> int:
        """Of the last."""
        return int(self.records.offsets[-1])

    @property
    def size_bytes(self) -> int:
        return self.records.size_bytes

    def from_offset(self, offset: int) -> "Chunk":
        """Without what lies before."""
        first = int(np.searchsorted(self.records.offsets, offset))
        return self if first == 0 else Chunk(self.records[first:])


def read_chunks(data: bytes, count: int, batch: Any, log_append_time: bool) -> Iterator[Chunk]:
    """The `count` records of unpacked `data`; `batch` knows offset and time of the first.

    Raises:
        Rejected: `unreadable`, at the first record that breaks the format.
    """
    buffer, at, read = np.frombuffer(data, np.uint8), 0, 0
    while read < count:
        found = np.empty((min(CHUNK_RECORDS, count - read), 8), np.int64)
        done, at = kernel.read_records(buffer, at, found, RECORD_BYTES_FAST, HEADERS_MAX, HEADER_BYTES_MAX)
        if done:
            yield Chunk(_records(buffer, found[:done], batch, log_append_time))
        read += done
        if done < len(found):
            break
    if read < count or at < len(data):
        yield from in_chunks(read_patiently(data, count, batch, read))


def in_chunks(records: Iterable[Any]) -> Iterator[Chunk]:
    """Records that are objects already; those before an exception come before it."""
    some: list[Any] = []
    try:
        for record in records:
            some.append(record)
            if len(some) == CHUNK_RECORDS:
                yield Chunk.of(some)
                some = []
    except Exception:
        if some:
            yield Chunk.of(some)
        raise
    if some:
        yield Chunk.of(some)


def _records(buffer: NDArray[np.uint8], found: NDArray[np.int64], batch: Any, log_append_time: bool) -> Records:
    columns = np.ascontiguousarray(found.T)  # [8, N]
    timestamps = columns[kernel.TIMESTAMP] + batch.first_timestamp
    if log_append_time:
        timestamps[:] = batch.max_timestamp
    return Records(
        columns[kernel.OFFSET] + batch.base_offset,
        timestamps,
        Packed(buffer, columns[kernel.KEY], columns[kernel.KEY_BYTES]),
        Packed(buffer, columns[kernel.VALUE], columns[kernel.VALUE_BYTES]),
        Packed(buffer, columns[kernel.HEADERS], columns[kernel.HEADERS_BYTES]),
        cast(Any, read_headers),  # a value may be None, which nobody who reads them minds
    )
