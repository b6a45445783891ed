"""Retained scores by columns: what a re-decide looks at, without a Python object per number or per field.

Knows nothing of Kafka: who reads the topic says where in `data` each record's value and source lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GATHERED_SHARE = 10  # where more than one column in so many is wanted, whole rows are faster than single numbers


class Label(NamedTuple):
    """Under what a record was published: its headers `model` and `thresholds`; empty where it has none."""

    model: str
    thresholds: str


@dataclass(frozen=True, slots=True)
class ScoreRecords:
    """N records of one partition, in offset order."""

    data: bytes  # where values and sources lie
    offsets: NDArray[np.int64]  # [N]
    timestamps_ms: NDArray[np.int64]  # [N]
    keys: Sequence[bytes | None]  # N
    value_at: NDArray[np.int64]  # [N]
    value_bytes: NDArray[np.int64]  # [N]; -1 is a tombstone
    source_at: NDArray[np.int64]  # [N]
    source_bytes: NDArray[np.int64]  # [N]; -1 where there is none
    label: NDArray[np.int64]  # [N] place in `labels`
    labels: Sequence[Label]

    def __len__(self) -> int:
        return len(self.keys)

    def hashes(self) -> NDArray[np.int64]:
        """`[N]` of the keys: Python's own, 64 bits, of this process alone."""
        return np.fromiter(map(hash, self.keys), np.int64, len(self.keys))

    def value(self, row: int) -> bytes:
        at = int(self.value_at[row])
        return self.data[at : at + int(self.value_bytes[row])]

    def source(self, row: int) -> bytes:
        at = int(self.source_at[row])
        return self.data[at : at + max(0, int(self.source_bytes[row]))]

    def columns(self, rows: NDArray[np.intp], columns: NDArray[np.intp], width: int) -> NDArray[np.float16]:
        """`[n, c]` of the scores of some rows, each of whose values has `width` of them."""
        if len(columns) * GATHERED_SHARE > width:
            whole = np.frombuffer(b"".join(map(self.value, rows.tolist())), "<f2").reshape(-1, width)  # [n, T]
            return whole[:, columns]
        raw = np.frombuffer(self.data, np.uint8)
        at = self.value_at[rows][:, None] + 2 * columns  # [n, c]
        return (raw[at] | raw[at + 1].astype(np.uint16) << 8).astype("<u2").view("<f2")
