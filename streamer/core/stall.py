"""Whether a partition with something left to do is still being worked on: lag held against progress, by the clock.

A consumer that silently stops is the fault that nobody sees: it heartbeats, it logs nothing, and lag grows. So every
few seconds each partition is looked at. It is *late* while it has lag and nothing of it has moved: no commit, nothing
further read, and, where its records wait their turn behind other partitions', nothing acknowledged at all. A slow
scorer moves; a hung one does not.

Two clocks run. `idle_s` counts every second without progress: readiness goes by it. `blamed_s` counts only those in
which the fault can be this worker's own: it begins anew with every look at which Kafka was away, because a worker
that would mend itself must not be ended.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

WORKER = -1  # in place of a partition: the worker as a whole, where it has none and should


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one partition stands at one moment. Offsets are those of the next record; None: not known."""

    end: int | None  # of the log, as Kafka said last
    done: int | None  # committed
    read: int | None  # fetched
    queued: bool = False  # what was read of it waits its turn at the scorer, perhaps behind other partitions'

    @property
    def lag(self) -> int | None:
        """Records that are not done; None where that cannot be told."""
        done = self.read if self.done is None else self.done
        return None if self.end is None or done is None else max(0, self.end - done)


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition with something left to do, and for how long nothing of it has moved."""

    partition: int
    standing: Standing
    idle_s: float
    blamed_s: float  # of these, the seconds since Kafka was last away


@dataclass(frozen=True, slots=True)
class _Track:
    done: int | None
    read: int  # the furthest: reading again what was read is no progress
    served: int
    moved_at_s: float
    blamed_from_s: float

    def has_moved(self, now: Standing, served: int) -> bool:
        """Whether anything but the log's end has; a queue that moves carries all that wait in it."""
        further = now.read is not None and now.read > self.read
        return now.done != self.done or further or (now.queued and served != self.served)


class StallWatch:
    """Remembers when each partition last moved; every look at them gives those that stand still, longest first."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}

    def look(
        self, now_s: float, standings: Mapping[int, Standing], served: int, excused: Collection[int] = ()
    ) -> list[Stall]:
        """Take one look; `now_s` never goes back.

        Args:
            now_s: seconds of a monotonic clock.
            standings: by partition, those that are assigned now; the others are forgotten.
            served: inputs acknowledged so far, of all partitions: moves while the queue at the scorer moves.
            excused: partitions that cannot move because Kafka is away.
        """
        tracks = {}
        for partition, standing in standings.items():
            before = self._tracks.get(partition)
            read = -1 if standing.read is None else standing.read
            if before is None or standing.lag == 0 or before.has_moved(standing, served):
                tracks[partition] = _Track(standing.done, read, served, now_s, now_s)
            elif partition in excused:
                tracks[partition] = replace(before, blamed_from_s=now_s)
            else:
                tracks[partition] = before
        self._tracks = tracks
        stalls = [
            Stall(partition, standings[partition], now_s - track.moved_at_s, now_s - track.blamed_from_s)
            for partition, track in tracks.items()
            if now_s > track.moved_at_s
        ]
        return sorted(stalls, key=lambda stall: (-stall.idle_s, stall.partition))

    def forget(self) -> None:
        """Start all clocks anew: the worker rests on purpose."""
        self._tracks = {}
