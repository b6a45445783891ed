"""Which keys were met already, for a walk from the newest record of a partition to its oldest.

Walking backwards, a record is its key's newest exactly where its key has not been met. What is kept of a key is 64
bits, in sorted runs that are merged as they grow (like the levels of a log-structured tree): eight bytes a key, and
a lookup is a binary search in a few arrays, for a whole block at once. Two keys with the same 64 bits make the older
record pass for old: it is left as it is, never overwritten by mistake.
"""

import numpy as np
from numpy.typing import NDArray

GROWTH = 4  # a run is merged with the one before it unless that is so many times as long
LONG_RUN = 1 << 16  # merging longer ones takes milliseconds


class SeenKeys:
    """A set of 64-bit hashes."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []  # each sorted, the longest first

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    @property
    def size_bytes(self) -> int:
        return 8 * len(self)

    def has(self, hashes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """`[N]` whether each was met."""
        met = np.zeros(len(hashes), np.bool_)
        for run in self._runs:
            places = np.searchsorted(run, hashes)
            places[places == len(run)] = 0
            met |= run[places] == hashes
        return met

    def newest(self, hashes: NDArray[np.int64]) -> NDArray[np.intp]:
        """Of hashes [N] in offset order the places that are their key's newest; all of them count as met from now on.

        `settle` is to be called after it.
        """
        unique, from_the_end = np.unique(hashes[::-1], return_index=True)
        new = ~self.has(unique)
        if new.any():
            self._runs.append(unique[new])
        return np.sort(len(hashes) - 1 - from_the_end[new])

    def add(self, hashes: NDArray[np.int64]) -> None:
        """These are met, in whatever order."""
        self.newest(hashes)

    @property
    def long_merge(self) -> bool:
        """Whether `settle` would take milliseconds: a thread for it, then, in which nothing else touches this."""
        return self._is_due() and len(self._runs[-2]) >= LONG_RUN

    def settle(self) -> None:
        """Merge the runs that are due."""
        while self._is_due():
            merged = np.concatenate([self._runs.pop(), self._runs.pop()])
            merged.sort(kind="stable")  # of two sorted runs: one merge
            self._runs.append(merged)

    def _is_due(self) -> bool:
        return len(self._runs) > 1 and len(self._runs[-2]) < GROWTH * len(self._runs[-1])
