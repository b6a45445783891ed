"""Until when a worker may take itself for the owner of its partitions.

The group's coordinator gives a member's partitions away when it has not heard of it for the session timeout. A
worker that was frozen or cut off meanwhile does not know that, but its clock does: what the coordinator last
answered was *sent* at a known moment, and from that moment on its word is good for the session timeout, less a
margin for what is on its way. Beyond that nothing may be published until the coordinator has spoken again. (Leases
by local clocks: Gray and Cheriton, SOSP 1989.)
"""

import math
from enum import Enum

MARGIN_SHARE = 0.25  # of the session timeout: for what is on its way to the broker when the lease runs out


class Standing(Enum):
    """What the lease says right now."""

    HELD = "held"
    LAPSED = "lapsed"  # the coordinator has not answered for too long: wait for its word
    LOST = "lost"  # the coordinator has given the membership away, or the worker has


class Lease:
    """One worker's membership. Written by the consumer's thread, read by the producer: single values, no lock.

    Times are monotonic seconds, which go on while a process is stopped.
    """

    def __init__(self, session_timeout_s: float) -> None:
        self.margin_s = session_timeout_s * MARGIN_SHARE
        self._lasts_s = session_timeout_s - self.margin_s
        self._until_s = -math.inf
        self._lost = False
        self._ended = False

    def renew(self, asked_at_s: float) -> None:
        """The coordinator has confirmed the membership, or given a new one, in answer to what was sent at this time."""
        self._until_s = asked_at_s + self._lasts_s
        self._lost = False

    def lose(self) -> None:
        """The coordinator no longer knows this member: others may own its partitions by now."""
        self._lost = True

    def end(self) -> None:
        """For good: what was handed over under this lease must never go out, whatever the worker joins later."""
        self._ended = True

    def standing(self, now_s: float) -> Standing:
        """Whether something may be published now."""
        if self._lost or self._ended:
            return Standing.LOST
        return Standing.HELD if now_s < self._until_s else Standing.LAPSED
