"""What the hot path asks of the world, as Protocols: adapters fulfil them, tests fake them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.core.events import Rejected


class EventDecoder(Protocol):
    """One wire format of the input topic."""

    def decode(self, key: bytes | None, value: bytes, row: NDArray[np.float64]) -> str:
        """Write the event's probabilities into `row` [F] and return its track id.

        The range of the numbers is left to the caller, who checks a whole micro-batch at once: a row may come
        back with numbers outside [0, 1], never with NaN or infinity unchecked by that.

        Raises:
            Rejected: for everything else that the contract forbids.
        """

    def explain(self, key: bytes | None, value: bytes) -> Rejected | None:
        """The full, slow validation: why this event is refused, or None where it is valid."""


class DecisionEncoder(Protocol):
    """The wire format of the decision topic."""

    def encode(self, decisions: Sequence[object]) -> list[bytes]: ...
