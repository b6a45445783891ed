"""Decisions put together from prepared texts, byte by byte: see json_decisions.py for what they are."""

import numpy as np
from numpy.typing import NDArray

from streamer.core.kernel import kernel
from streamer.core.packed import Bytes, Places, put

Texts = tuple[Bytes, Places, Places]

# The places of the texts that all decisions of a batch share, in `frame`.
BEFORE_ID, AFTER_ID, SECOND_CLASS, THIRD_CLASS, BEFORE_SCORES, AFTER_SCORES, PARTITION, OFFSET, ROW, END = range(10)
_ONE, _TEN, _COMMA, _ZERO, _MINUS = np.uint64(1), np.uint64(10), np.uint8(44), np.uint8(48), np.uint8(45)


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
    `places` [B, 4] are topic, partition, offset and row. `out` must have room for all: see `longest`.
    """
    at = np.uint64(0)
    for row in range(len(bounds)):
        at = _text(out, at, frame, BEFORE_ID)
        at = _text(out, at, ids, row)
        for place in range(3):
            at = _text(out, at, frame, AFTER_ID + place)
            for n in range(bounds[row, place], bounds[row, place + 1]):
                at = _comma(out, at, n > bounds[row, place])
                at = _text(out, at, names, tags[n])
        at = _text(out, at, frame, BEFORE_SCORES)
        for n in range(bounds[row, 0], bounds[row, 3]):
            at = _comma(out, at, n > bounds[row, 0])
            at = _text(out, at, labels, tags[n])
            at = _text(out, at, decimals, bits[n])
        at = _text(out, at, frame, AFTER_SCORES)
        at = _text(out, at, topics, places[row, 0])
        for place in range(3):
            at = _text(out, at, frame, PARTITION + place)
            at = _integer(out, at, places[row, 1 + place])
        at = _text(out, at, frame, END)
        ends[row] = at


@kernel
def _text(out: Bytes, at: np.uint64, texts: Texts, which: int) -> np.uint64:
    return put(out, at, texts[0], np.uint64(texts[1][which]), np.uint64(texts[2][which]))


@kernel
def _comma(out: Bytes, at: np.uint64, wanted: bool) -> np.uint64:
    out[at] = _COMMA
    return at + _ONE if wanted else at


@kernel
def _integer(out: Bytes, at: np.uint64, number: int) -> np.uint64:
    """In decimal; most numbers are long and differ in their last digits only."""
    rest = np.uint64(abs(number))
    if number < 0:
        out[at] = _MINUS
        at += _ONE
    end = at + _ONE
    power = _TEN
    while power <= rest and end - at < np.uint64(19):
        end += _ONE
        power *= _TEN
    place = end
    while place > at:
        place -= _ONE
        out[place] = _ZERO + np.uint8(rest % _TEN)
        rest //= _TEN
    return end


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
