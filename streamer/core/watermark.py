"""The contiguous watermark: the one offset per partition below which everything is acknowledged.

Spans are opened in offset order and acknowledged in any order; the watermark only passes a span when every span
before it has been acknowledged too. So no offset can be committed before its outputs, and no gap can stall it: the
next offset is taken from what was delivered, not from consecutive numbers (compacted topics and aborted
transactions leave holes that are not gaps).
"""

from collections import deque


class Watermark:
    """One partition's watermark. `value` is None until the first span was acknowledged."""

    def __init__(self) -> None:
        self.value: int | None = None
        self._pending: deque[tuple[int, int]] = deque()  # (ticket, next offset), in offset order
        self._done: set[int] = set()
        self._tickets = 0

    def open(self, next_offset: int) -> int:
        """Enter a span that ends before `next_offset`; returns the ticket to acknowledge it with."""
        self._tickets += 1
        self._pending.append((self._tickets, next_offset))
        return self._tickets

    def acknowledge(self, ticket: int) -> None:
        """Every output of that span is acknowledged by Kafka."""
        self._done.add(ticket)
        while self._pending and self._pending[0][0] in self._done:
            done, self.value = self._pending.popleft()
            self._done.remove(done)
