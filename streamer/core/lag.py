"""How old the oldest record is that is not done yet: lag in seconds, by partition.

Records that were fetched tell it by their own timestamps; of a batch only both ends are kept, and between them the
age is taken to follow the offset. A record that nobody has fetched yet tells nothing, so for such a partition the
clock runs from the moment it was first seen to have any.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from streamer.core.stall import Standing


@dataclass(frozen=True, slots=True)
class Fetched:
    """The ends of one batch of records: offsets, and milliseconds since the epoch."""

    first: int
    last: int
    first_ms: int
    last_ms: int

    def at_ms(self, offset: int) -> float:
        """When the record at this offset was made, or about then."""
        share = max(0, offset - self.first) / max(1, self.last - self.first)
        return self.first_ms + share * (self.last_ms - self.first_ms)


class LagAge:
    """Told of what was fetched, and asked with where the partitions stand."""

    def __init__(self) -> None:
        self._fetched: dict[int, deque[Fetched]] = {}  # by partition, oldest first; what is done is dropped
        self._seen_ms: dict[int, float] = {}  # by partition with nothing fetched: since when there is something

    def fetched(self, partition: int, batch: Fetched, done: int) -> None:
        """Records of this partition were fetched; those before offset `done` are done."""
        waiting = self._fetched.setdefault(partition, deque())
        waiting.append(batch)
        self._drop(waiting, done)

    def forget(self) -> None:
        """The partitions are gone, or are read anew."""
        self._fetched.clear()
        self._seen_ms.clear()

    def ages_s(self, now_ms: float, standings: Mapping[int, Standing]) -> dict[int, float]:
        """By partition whose lag is known: the age of the oldest record that is not done; 0 where there is none."""
        return {
            partition: max(0.0, now_ms - self._oldest_ms(now_ms, partition, standing)) / 1000
            for partition, standing in standings.items()
            if standing.lag is not None
        }

    def _oldest_ms(self, now_ms: float, partition: int, standing: Standing) -> float:
        done = standing.done or 0
        waiting = self._fetched.get(partition) or deque()
        self._drop(waiting, done)
        told = bool(waiting) and waiting[0].first_ms >= 0  # -1: the producer gave no timestamp
        if standing.lag and not told:
            return self._seen_ms.setdefault(partition, now_ms)
        self._seen_ms.pop(partition, None)
        return waiting[0].at_ms(done) if standing.lag else now_ms

    @staticmethod
    def _drop(waiting: deque[Fetched], done: int) -> None:
        while waiting and waiting[0].last < done:
            waiting.popleft()
