"""Decisions put together from prepared texts, byte by byte: see json_decisions.py for what they are."""

import numpy as np
from numpy.typing import NDArray

from streamer.core.kernel import kernel
from streamer.core.packed import Bytes, Places, Texts, put_integer, put_text

# The places of the texts that all decisions of a batch share, in `frame`.
BEFORE_ID, AFTER_ID, SECOND_CLASS, THIRD_CLASS, BEFORE_SCORES, AFTER_SCORES, PARTITION, OFFSET, ROW, END = range(10)
_ONE, _COMMA = np.uint64(1), np.uint8(44)


@kernel
def write_decisions(
    tags: NDArray[np.int64],
    bits: NDArray[np.int64],
    bounds: NDArray[np.int64],
    ids: Texts,
    topics: Texts,
    places: NDArray[np.int64],
    names: Texts,
    labels: Texts,
    decimals: Texts,
    frame: Texts,
    ends: Places,
    out: Bytes,
) -> None:
    """Write a decision for each row of `bounds` [B, 4] into `out`, end to end; `ends` [B] is told where each ends.

    `tags` [N] and `bits` [N], of their scores as float16, are what is decided, as `core.decide.Decided` has it.
    `places` [B, 4] are topic, partition, offset and row. `out` must have room for all, and a byte.
    """
    at = np.uint64(0)
    for row in range(len(bounds)):
        at = put_text(out, at, frame, BEFORE_ID)
        at = put_text(out, at, ids, row)
        for place in range(3):
            at = put_text(out, at, frame, AFTER_ID + place)
            for n in range(bounds[row, place], bounds[row, place + 1]):
                at = _comma(out, at, n > bounds[row, place])
                at = put_text(out, at, names, tags[n])
        at = put_text(out, at, frame, BEFORE_SCORES)
        for n in range(bounds[row, 0], bounds[row, 3]):
            at = _comma(out, at, n > bounds[row, 0])
            at = put_text(out, at, labels, tags[n])
            at = put_text(out, at, decimals, bits[n])
        at = put_text(out, at, frame, AFTER_SCORES)
        at = put_text(out, at, topics, places[row, 0])
        for place in range(3):
            at = put_text(out, at, frame, PARTITION + place)
            at = put_integer(out, at, places[row, 1 + place])
        at = put_text(out, at, frame, END)
        ends[row] = at


@kernel
def _comma(out: Bytes, at: np.uint64, wanted: bool) -> np.uint64:
    out[at] = _COMMA
    return at + _ONE if wanted else at


@kernel
def are_plain(texts: Texts) -> bool:
    """Whether JSON writes each of them as it is, between quotes."""
    buffer, starts, lengths = texts
    for item in range(len(starts)):
        start = np.uint64(starts[item])
        for n in range(np.uint64(lengths[item])):
            byte = buffer[start + np.uint64(n)]
            if byte < 32 or byte == 34 or byte == 92:
                return False
    return True
