"""The names of a decision: where its input came from, and the id by which consumers recognise a redelivery.

Kept apart from the encoders because headers, dead letters and re-decide all spell them, and one spelling is the
contract's (DESIGN section 3).
"""

import hashlib
from binascii import hexlify
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ID_CHARACTERS = 16  # hex digits of the sha256


class Origins(NamedTuple):
    """Where N events came from: `places` [N, 4] are the topic's place in `topics`, partition, offset and row."""

    topics: Sequence[str]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, origins: Sequence[tuple[str, int, int, int]]) -> "Origins":
        """Of as many (topic, partition, offset, row)."""
        topics = list(dict.fromkeys(topic for topic, *_ in origins))
        places = [(topics.index(topic), *numbers) for topic, *numbers in origins]
        return cls(topics, np.array(places, np.int64).reshape(-1, 4))


def source_text(topic: str, partition: int, offset: int, row: int) -> str:
    """`topic/partition/offset/row`: the header `source`."""
    return f"{topic}/{partition}/{offset}/{row}"


def decision_id(
    topic: str, partition: int, offset: int, row: int, model: str, thresholds: str, redecide_run: str = ""
) -> str:
    """The header `decision-id`: equal for a redelivery under the same model and table, new for a re-decision."""
    (identity,) = decision_ids(topic, partition, [(offset, row)], model, thresholds, redecide_run)
    return identity.decode()


def decision_ids(
    topic: str,
    partition: int,
    places: Iterable[tuple[int, int]],
    model: str,
    thresholds: str,
    redecide_run: str = "",
) -> list[bytes]:
    """The same for many (offset, row) at once.

    The hashed text of a live decision ends in `|`, because its re-decide run is empty.
    """
    begin, end = f"{topic}|{partition}|", f"|{model}|{thresholds}|{redecide_run}"
    sha256, size = hashlib.sha256, ID_CHARACTERS // 2
    return [hexlify(sha256(f"{begin}{offset}|{row}{end}".encode()).digest()[:size]) for offset, row in places]
