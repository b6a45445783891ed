"""Many byte strings in one buffer: keys, values, header values of a whole micro-batch without an object for each."""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from streamer.core.kernel import kernel

NONE = -1  # the length of what is not there
INTEGER_BYTES = 20  # at most, of an int64 in decimal

_ONE, _TEN, _ZERO, _MINUS = np.uint64(1), np.uint64(10), np.uint8(48), np.uint8(45)
_MOST_DIGITS = np.uint64(19)

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Texts = tuple[Bytes, Places, Places]  # to a kernel: the buffer, where each begins, how long it is


class Packed(Sequence[bytes | None]):
    """Byte strings, or None, each a stretch of `buffer`. Slices share it."""

    __slots__ = ("buffer", "lengths", "starts")

    def __init__(self, buffer: Bytes, starts: Places, lengths: Places) -> None:
        if buffer.flags.writeable:  # to a kernel, what can be written is of another type: one is enough
            buffer = buffer.view()
            buffer.flags.writeable = False
        self.buffer = buffer
        self.starts = starts  # [N]
        self.lengths = lengths  # [N], NONE of None

    @classmethod
    def of(cls, items: Iterable[bytes | None]) -> "Packed":
        """These, copied into one buffer."""
        if isinstance(items, Packed):
            return items
        given = list(items)
        lengths = np.array([NONE if item is None else len(item) for item in given], np.int64)
        buffer = np.frombuffer(b"".join([item for item in given if item]), np.uint8)
        return cls(buffer, _starts(lengths), lengths)

    @classmethod
    def rows(cls, matrix: NDArray[np.generic]) -> "Packed":
        """The bytes of each row of a matrix that lies in memory row by row."""
        count = len(matrix)
        buffer = matrix.reshape(-1).view(np.uint8)
        width = len(buffer) // count if count else 0
        return cls(buffer, np.arange(count) * width, np.full(count, width, np.int64))

    @classmethod
    def ending(cls, buffer: Bytes, ends: Places) -> "Packed":
        """End to end from the beginning of a buffer on, each up to where it ends."""
        starts = np.zeros_like(ends)
        starts[1:] = ends[:-1]
        return cls(buffer, starts, ends - starts)

    @classmethod
    def joined(cls, parts: Sequence["Packed"]) -> "Packed":
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.of(())
        lengths = np.concatenate([part.lengths for part in parts])
        if all(part.buffer is parts[0].buffer for part in parts):
            return cls(parts[0].buffer, np.concatenate([part.starts for part in parts]), lengths)
        starts = _starts(lengths)
        buffer = np.empty(int(lengths.clip(0).sum()), np.uint8)
        first = 0
        for part in parts:
            last = first + len(part)
            _gather(part.buffer, part.starts, part.lengths, buffer, starts[first:last])
            first = last
        return cls(buffer, starts, lengths)

    def take(self, places: Places) -> "Packed":
        """Those at these places, in this order; None where a place is negative."""
        if not len(self):
            return Packed(self.buffer, np.zeros(len(places), np.int64), np.full(len(places), NONE, np.int64))
        return Packed(self.buffer, self.starts[places], np.where(places < 0, NONE, self.lengths[places]))

    @property
    def columns(self) -> Texts:
        """As a kernel takes it."""
        return self.buffer, self.starts, self.lengths

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...

    @overload
    def __getitem__(self, at: slice) -> "Packed": ...

    def __getitem__(self, at: "int | slice") -> "bytes | Packed | None":
        if isinstance(at, slice):
            return Packed(self.buffer, self.starts[at], self.lengths[at])
        length = self.lengths[at]
        if length < 0:
            return None
        start = self.starts[at]
        return self.buffer[start : start + length].tobytes()


def _starts(lengths: Places) -> Places:
    """Where each begins, when they lie end to end."""
    ends = np.cumsum(lengths.clip(0))
    return ends - lengths.clip(0)


@kernel
def _gather(buffer: Bytes, starts: Places, lengths: Places, out: Bytes, places: Places) -> None:
    """Copy stretches of one buffer to where they belong in another."""
    for item in range(len(starts)):
        put(out, np.uint64(places[item]), buffer, np.uint64(starts[item]), np.uint64(max(0, lengths[item])))


@kernel
def put(out: Bytes, at: np.uint64, buffer: Bytes, start: np.uint64, length: np.uint64) -> np.uint64:
    """In a kernel: copy `length` bytes, and tell the place after them.

    Places are unsigned in kernels: of a signed one numba asks first whether it counts from the end.
    """
    for n in range(length):
        out[at + np.uint64(n)] = buffer[start + np.uint64(n)]
    return at + length


@kernel
def put_text(out: Bytes, at: np.uint64, texts: Texts, which: int) -> np.uint64:
    """In a kernel: copy one of some texts, and tell the place after it."""
    return put(out, at, texts[0], np.uint64(texts[1][which]), np.uint64(texts[2][which]))


@kernel
def put_integer(out: Bytes, at: np.uint64, number: int) -> np.uint64:
    """In a kernel: write a number in decimal, and tell the place after it."""
    rest = np.uint64(abs(number))
    if number < 0:
        out[at] = _MINUS
        at += _ONE
    end, power = at + _ONE, _TEN
    while power <= rest and end - at < _MOST_DIGITS:
        end += _ONE
        power *= _TEN
    place = end
    while place > at:
        place -= _ONE
        out[place] = _ZERO + np.uint8(rest % _TEN)
        rest //= _TEN
    return end
