"""A circuit breaker for a surge of dead letters.

When suddenly most inputs cannot be decided, the inputs are rarely to blame: a producer was deployed with another
vocabulary, say. Going on would turn the whole topic into dead letters; waiting costs only lag. Pure: the clock is
the caller's. (The pattern and its name: M. Nygard, Release It!, 2007.)
"""

from collections import deque

BUCKET_S = 1.0  # the window moves in steps of this


class Breaker:
    """Counts inputs and dead letters over a sliding window, and opens when more than `share` of enough are dead.

    Open, it stays open until `close`, or until `resume_s` have passed (0: never by itself).
    """

    def __init__(self, share: float, least_inputs: int, window_s: float, resume_s: float) -> None:
        self.trips = 0
        self.opened_at_s: float | None = None
        self.why = ""
        self._share, self._least_inputs = share, least_inputs
        self._window_s, self._resume_s = window_s, resume_s
        self._buckets: deque[list[float]] = deque()  # [since when, inputs, dead letters]

    def add(self, now_s: float, inputs: int, dead: int) -> bool:
        """Count a micro-batch; whether this opened the circuit."""
        if self.opened_at_s is not None:
            return False  # what was in flight when it opened
        if not self._buckets or now_s - self._buckets[-1][0] >= BUCKET_S:
            self._buckets.append([now_s, 0, 0])
        self._buckets[-1][1] += inputs
        self._buckets[-1][2] += dead
        while self._buckets[0][0] <= now_s - self._window_s:
            self._buckets.popleft()
        all_inputs = sum(bucket[1] for bucket in self._buckets)
        all_dead = sum(bucket[2] for bucket in self._buckets)
        if all_inputs < self._least_inputs or all_dead <= self._share * all_inputs:
            return False
        self.opened_at_s = now_s
        self.trips += 1
        self.why = f"{all_dead:.0f} of {all_inputs:.0f} inputs within {self._window_s:g} s could not be decided"
        return True

    def is_open(self, now_s: float) -> bool:
        """Whether nothing may be taken in; closes by itself when its time is over."""
        if self.opened_at_s is None:
            return False
        if self._resume_s and now_s - self.opened_at_s >= self._resume_s:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Go on, counting from nothing."""
        self.opened_at_s = None
        self.why = ""
        self._buckets.clear()
