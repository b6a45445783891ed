"""The names of a decision: where its input came from, and the id by which consumers recognise a redelivery.

Kept apart from the encoders because headers, dead letters and re-decide all spell them, and one spelling is the
contract's (DESIGN section 3).
"""

import hashlib
from binascii import hexlify
from collections.abc import Iterable

ID_CHARACTERS = 16  # hex digits of the sha256


def source_text(topic: str, partition: int, offset: int, row: int) -> str:
    """`topic/partition/offset/row`: the header `source`."""
    return f"{topic}/{partition}/{offset}/{row}"


def decision_id(
    topic: str, partition: int, offset: int, row: int, model: str, thresholds: str, redecide_run: str = ""
) -> str:
    """The header `decision-id`: equal for a redelivery under the same model and table, new for a re-decision.

    The hashed text of a live decision ends in `|`, because its re-decide run is empty.
    """
    text = f"{topic}|{partition}|{offset}|{row}|{model}|{thresholds}|{redecide_run}"
    return hashlib.sha256(text.encode()).hexdigest()[:ID_CHARACTERS]


def decision_ids(
    topic: str, partition: int, places: Iterable[tuple[int, int]], model: str, thresholds: str
) -> list[bytes]:
    """`decision_id` of a live decision for many (offset, row) at once, as the header carries it."""
    begin, end = f"{topic}|{partition}|", f"|{model}|{thresholds}|"
    sha256, size = hashlib.sha256, ID_CHARACTERS // 2
    return [hexlify(sha256(f"{begin}{offset}|{row}{end}".encode()).digest()[:size]) for offset, row in places]
