"""The names of a decision: where its input came from, and the id by which consumers recognise a redelivery.

Kept apart from the encoders because headers, dead letters and re-decide all spell them, and one spelling is the
contract's (DESIGN section 3).
"""

import hashlib
from binascii import hexlify
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.core.kernel import kernel
from streamer.core.packed import INTEGER_BYTES, Bytes, Packed, Places, Texts, put_integer, put_text

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


def source_texts(topic: str, partition: int, offsets: Places, rows: Places) -> Packed:
    """The same of many."""
    return _numbered(f"{topic}/{partition}/", offsets, "/", rows, "")


def decision_id(
    topic: str, partition: int, offset: int, row: int, model: str, thresholds: str, redecide_run: str = ""
) -> str:
    """The header `decision-id`: equal for a redelivery under the same model and table, new for a re-decision."""
    places = np.array([offset], np.int64), np.array([row], np.int64)
    (identity,) = decision_ids(topic, partition, *places, model, thresholds, redecide_run)
    assert identity is not None
    return identity.decode()


def decision_ids(
    topic: str,
    partition: int,
    offsets: Places,
    rows: Places,
    model: str,
    thresholds: str,
    redecide_run: str = "",
) -> Packed:
    """The same of many.

    The hashed text of a live decision ends in `|`, because its re-decide run is empty.
    """
    texts = _numbered(f"{topic}|{partition}|", offsets, "|", rows, f"|{model}|{thresholds}|{redecide_run}")
    whole, sha256, size = texts.buffer.tobytes(), hashlib.sha256, ID_CHARACTERS // 2
    places = zip(texts.starts.tolist(), (texts.starts + texts.lengths).tolist(), strict=True)
    hashed = hexlify(b"".join([sha256(whole[start:stop]).digest()[:size] for start, stop in places]))
    return Packed.rows(np.frombuffer(hashed, np.uint8).reshape(-1, ID_CHARACTERS))


def _numbered(begin: str, offsets: Places, between: str, rows: Places, end: str) -> Packed:
    """`begin`, an offset, `between`, a row, `end`: a text for each."""
    around = Packed.of([text.encode() for text in (begin, between, end)])
    room_bytes = len(offsets) * int(around.lengths.sum() + 2 * INTEGER_BYTES)
    out, ends = np.empty(room_bytes, np.uint8), np.empty(len(offsets), np.int64)
    _write_numbered(around.columns, offsets, rows, out, ends)
    return Packed.ending(out, ends)


@kernel
def _write_numbered(around: Texts, offsets: Places, rows: Places, out: Bytes, ends: Places) -> None:
    at = np.uint64(0)
    for item in range(len(offsets)):
        at = put_text(out, at, around, 0)
        at = put_integer(out, at, offsets[item])
        at = put_text(out, at, around, 1)
        at = put_integer(out, at, rows[item])
        at = put_text(out, at, around, 2)
        ends[item] = at
