"""How fast work beside the stream may go: as fast as the stream's own latency allows, by measurement.

The work is done in short pieces, with a rest after each. Every few seconds one window passes without any work, and its
p99 latency is what the windows with work are held against: where they are slower by more than `TOLERATED` the share of
time that is worked shrinks, where they are not it grows. Nothing is decided live: nobody is in the way of anybody.

The latency is the contract's, from an event's timestamp to its acknowledged decision, so a clock that is off or a
backlog is in both windows alike.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

WINDOW_S = 1.0
SETTLE_S = 0.25  # of a window without work: what was under way when it began does not count
WORK_WINDOWS = 6  # between two without work
BASELINES = 3  # their median counts
LEAST_TRACKS = 20  # in a window, for its p99 to say something
TOLERATED = 1.3  # times the p99 without work; the contract allows 1.5
FIRST_SHARE, LEAST_SHARE, MOST_SHARE = 0.25, 0.01, 0.8
SLOWER, FASTER = 0.5, 1.3
LONGEST_REST_S = 0.5  # a machine that is overloaded by others is no reason to stand still
SHORTEST_REST_S = 0.0005  # the stream gets its turn in any case

_STEP = 1.05  # from one edge of the histogram to the next: a p99 is told to within 5 %
_EDGES_S = 0.0005 * _STEP ** np.arange(300)  # to 1,100 s


class Pace:
    """Told of live latencies all the time, and of work while there is some. Times are monotonic seconds."""

    def __init__(self, now_s: float) -> None:
        self.share = FIRST_SHARE
        self._window = np.zeros(len(_EDGES_S) + 1, np.int64)
        self._began_s = now_s
        self._idle: deque[float] = deque(maxlen=BASELINES)  # p99 of windows without work
        self._number = 0  # of this window; every so many is without work
        self._resting = False  # this one is
        self._worked = False

    @property
    def baseline_s(self) -> float | None:
        """The p99 without work; None while nothing is decided live."""
        return float(np.median(self._idle)) if self._idle else None

    def observe(self, latencies_s: NDArray[np.float64], now_s: float) -> None:
        """A micro-batch has been acknowledged, its tracks after so long."""
        self._turn(now_s)
        if self._resting and now_s < self._began_s + SETTLE_S:
            return  # still slow from the work before
        buckets = np.searchsorted(_EDGES_S, latencies_s)
        self._window += np.bincount(buckets, minlength=len(self._window))

    def rest_s(self, worked_s: float, now_s: float) -> float:
        """How long to rest after a piece of work that took so long."""
        self._turn(now_s)
        if self._resting:
            return self._began_s + WINDOW_S - now_s
        self._worked = True
        if self.baseline_s is None:
            return SHORTEST_REST_S
        return min(LONGEST_REST_S, max(SHORTEST_REST_S, worked_s * (1 / self.share - 1)))

    def _turn(self, now_s: float) -> None:
        """End the window when its time is over."""
        if now_s < self._began_s + WINDOW_S:
            return
        p99_s = self._p99_s()
        if p99_s is None:
            self._idle.clear()  # nothing is decided live
        elif not self._worked:
            self._idle.append(p99_s)
        elif self.baseline_s is not None:
            factor = SLOWER if p99_s > TOLERATED * self.baseline_s else FASTER
            self.share = min(MOST_SHARE, max(LEAST_SHARE, self.share * factor))
        self._number += 1
        begins = p99_s is not None and self.baseline_s is None  # the stream does: how fast is it without work?
        self._resting = begins or (bool(self._idle) and self._number % (WORK_WINDOWS + 1) == 0)
        self._window[:] = 0
        self._worked = False
        self._began_s = now_s

    def _p99_s(self) -> float | None:
        total = int(self._window.sum())
        if total < LEAST_TRACKS:
            return None
        bucket = int(np.searchsorted(np.cumsum(self._window), 0.99 * total))
        return float(_EDGES_S[min(bucket, len(_EDGES_S) - 1)])
