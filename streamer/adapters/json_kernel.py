"""Canonical events as upstream's program writes them, read byte by byte straight into rows.

Upstream's program writes every event alike but for the track id and the numbers. What stands around them is held to
what it must be, byte for byte; the numbers between are read here. An event that is not such is told by its place, for a
reader that knows all of JSON: this one only ever accepts.

A decimal number becomes the double nearest to it, as every JSON reader makes it. Where digits and power of ten are
doubles themselves, their quotient is rounded right (W. D. Clinger, "How to read floating point numbers accurately",
1990). Beyond, a product of 128 bits tells the nearest double (D. Lemire, "Number parsing at a gigabyte per second",
2021), unless it lies too near the middle of two: those, about one in a thousand, are listed for Python's own reader.
"""

import math

import numpy as np
from numpy.typing import NDArray

from streamer.core.kernel import kernel
from streamer.core.packed import NONE, Bytes, Places, Texts

MOST_POWER = 40  # of ten, below one, that the table holds
_EXACT_POWER = 22  # 10**22 is the last power of ten that is a double
_TENS = np.array([10.0**power for power in range(_EXACT_POWER + 1)])
_POWERS = [10**power for power in range(MOST_POWER + 1)]
# 10**-power is a little more than `_SCALED` * 2**-`_SHIFTS`, `_SCALED` with its highest bit set; of power 0 nothing.
_SHIFTS = np.array([63 + power.bit_length() for power in _POWERS], np.int64)
_SCALED = np.array([(1 << int(s)) // p % 2**64 for s, p in zip(_SHIFTS, _POWERS, strict=True)], np.uint64)

_EXACT = np.uint64(2**53)
_ROOM = np.uint64((2**64 - 10) // 10)  # to this another digit can be added
_TEN, _ONE, _HALF_WORD, _LOW = np.uint64(10), np.uint64(1), np.uint64(32), np.uint64(2**32 - 1)
_TOP = np.uint64(2**63)
_SPARE = np.uint64(11)

# Places are unsigned: of a signed index numba looks first whether it counts from the end.
_NOWHERE = np.uint64(2**64 - 1)
_0, _2, _8, _64 = np.uint64(0), np.uint64(2), np.uint64(8), np.uint64(64)
_7, _16, _24, _40, _48, _56 = (np.uint64(number) for number in (7, 16, 24, 40, 48, 56))

# Eight digits in one word, as in simdjson (G. Langdale and D. Lemire, "Parsing gigabytes of JSON per second", 2019).
_EIGHT_ZEROS, _OVER_NINE, _HIGH_BITS = (np.uint64(int(byte * 8, 16)) for byte in ("30", "76", "80"))
_BYTE_OF_LOWEST = np.uint64(0x0001020304050607)
_PAIRS, _FOURS, _EIGHTS = np.uint64(2561), np.uint64(6553601), np.uint64(42949672960001)
_MASK_PAIRS, _MASK_FOURS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_EIGHT_MORE = np.uint64(10**8)
_TENS_64 = np.array([10**power for power in range(9)], np.uint64)
_ROOM_FOR_EIGHT = np.uint64((2**64 - 10**8) // 10**8)

_ZERO, _NINE, _DOT, _COMMA, _SPACE = 48, 57, 46, 44, 32
_QUOTE, _BACKSLASH, _PLUS, _MINUS, _LOWER_E, _UPPER_E = 34, 92, 43, 45, 101, 69
_FIRST_NOT_ASCII = 128


@kernel
def read_events(
    values: Texts,
    keys: Texts,
    forms: Texts,
    columns: NDArray[np.int64],
    most_id_bytes: int,
    rows: NDArray[np.float64],
    ids: tuple[Places, Places],
    odd: NDArray[np.bool_],
    doubtful: NDArray[np.int64],
) -> int:
    """Read N values; returns how many numbers are `doubtful`, each as (row, column, start, length) of its text.

    `forms` are the ways to write an event, [ways, 2 + lists] texts: what stands before the track id, after it, and
    after each list. `columns` [lists, 2] are a list's first column and the one after its last. `odd` [N] tells what was
    not read; of all others `rows` [N, F] has the numbers, `ids` where the track id begins and its length.
    """
    text, starts, lengths = values
    found = 0
    for event in range(len(starts)):
        odd[event] = True
        start = np.uint64(starts[event])
        stop = start + np.uint64(max(0, lengths[event]))
        way = 0
        at = _past(text, start, stop, forms, way, 0)
        while at == _NOWHERE and way + 1 < len(forms[1]):
            way += 1
            at = _past(text, start, stop, forms, way, 0)
        if at == _NOWHERE:
            continue
        length = _id_bytes(text, at, stop, np.uint64(most_id_bytes))
        if length == _0 or not _is_key(text, at, length, keys, event):
            continue
        ids[0][event], ids[1][event] = at, length
        at = _past(text, at + length, stop, forms, way, 1)
        before = found
        for place in range(len(columns)):
            if at != _NOWHERE:
                at, found = _numbers(text, at, stop, columns[place], way == 1, rows, event, doubtful, found)
            if at != _NOWHERE:
                at = _past(text, at, stop, forms, way, 2 + place)
        if at == stop:
            odd[event] = False
        else:
            found = before
    return found


@kernel
def _past(
    text: Bytes,
    at: np.uint64,
    stop: np.uint64,
    forms: Texts,
    way: int,
    piece: int,
) -> np.uint64:
    """The place after this piece of the form, where it stands here; else nowhere."""
    wanted, length = np.uint64(forms[1][way, piece]), np.uint64(forms[2][way, piece])
    if length > stop - at:
        return _NOWHERE
    for n in range(length):
        if text[at + np.uint64(n)] != forms[0][wanted + np.uint64(n)]:
            return _NOWHERE
    return at + length


@kernel
def _id_bytes(text: Bytes, start: np.uint64, stop: np.uint64, most: np.uint64) -> np.uint64:
    """The length of a plain string up to its quote: ASCII, nothing escaped; 0 for another."""
    at = start
    while at < stop and at - start <= most:
        byte = text[at]
        if byte == _QUOTE:
            return at - start
        if byte < _SPACE or byte == _BACKSLASH or byte >= _FIRST_NOT_ASCII:
            return _0
        at += _ONE
    return _0


@kernel
def _is_key(text: Bytes, start: np.uint64, length: np.uint64, keys: Texts, event: int) -> bool:
    """Whether the event has no key, or this."""
    if keys[2][event] == NONE:
        return True
    if np.uint64(keys[2][event]) != length:
        return False
    key = np.uint64(keys[1][event])
    for n in range(length):
        if text[start + np.uint64(n)] != keys[0][key + np.uint64(n)]:
            return False
    return True


@kernel
def _numbers(
    text: Bytes,
    at: np.uint64,
    stop: np.uint64,
    column: NDArray[np.int64],
    spaced: bool,
    rows: NDArray[np.float64],
    row: int,
    doubtful: NDArray[np.int64],
    found: int,
) -> tuple[np.uint64, int]:
    """Read a list's numbers, none of them beyond [0, 1]: the place after the last, or nowhere; the doubtful so far."""
    for place in range(np.uint64(column[0]), np.uint64(column[1])):
        if place > column[0]:
            if at >= stop or text[at] != _COMMA:
                return _NOWHERE, found
            at += _ONE
            if spaced:
                if at >= stop or text[at] != _SPACE:
                    return _NOWHERE, found
                at += _ONE
        begin = at
        at, digits, power = _decimal(text, at, stop)
        if at == _NOWHERE:
            return _NOWHERE, found
        number, sure = _nearest(digits, power)
        if number > 1.0:
            return _NOWHERE, found
        if not sure:
            if found == len(doubtful):
                return _NOWHERE, found
            doubtful[found, 0], doubtful[found, 1] = row, place
            doubtful[found, 2], doubtful[found, 3] = begin, at - begin
            found += 1
        rows[row, place] = number
    return at, found


@kernel
def _decimal(text: Bytes, at: np.uint64, stop: np.uint64) -> tuple[np.uint64, np.uint64, int]:
    """A JSON number without a sign as digits * 10**-power, and the place after it: nowhere if it is none, or long."""
    begin, digits = at, _0
    if stop - at >= _2 and text[at] == _ZERO and text[at + _ONE] == _DOT:  # nearly all: told without counting digits
        at += _ONE
    else:
        at, digits = _digits(text, at, stop, _0)
        if at == begin or at == _NOWHERE or (at - begin > _ONE and text[begin] == _ZERO):
            return _NOWHERE, digits, 0
    power = 0
    if at < stop and text[at] == _DOT:
        begin = at + _ONE
        at, digits = _digits(text, begin, stop, digits)
        if at == begin or at == _NOWHERE:
            return _NOWHERE, digits, 0
        power = np.int64(at - begin)
    if at < stop and (text[at] == _LOWER_E or text[at] == _UPPER_E):
        at += _ONE
        negative = at < stop and text[at] == _MINUS
        if at < stop and (text[at] == _MINUS or text[at] == _PLUS):
            at += _ONE
        begin = at
        at, exponent = _digits(text, begin, stop, _0)
        if at == begin or at == _NOWHERE or exponent > np.uint64(MOST_POWER):
            return _NOWHERE, digits, 0
        power += np.int64(exponent) if negative else -np.int64(exponent)
    if power < 0 or power > MOST_POWER:
        return _NOWHERE, digits, 0
    return at, digits, power


@kernel
def _digits(text: Bytes, at: np.uint64, stop: np.uint64, number: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Append the digits that stand here to the number: the place after them, and it; nowhere where it gets too long."""
    while stop - at >= _8:
        word = (
            np.uint64(text[at])
            | np.uint64(text[at + _ONE]) << _8
            | np.uint64(text[at + _2]) << _16
            | np.uint64(text[at + np.uint64(3)]) << _24
            | np.uint64(text[at + np.uint64(4)]) << _HALF_WORD
            | np.uint64(text[at + np.uint64(5)]) << _40
            | np.uint64(text[at + np.uint64(6)]) << _48
            | np.uint64(text[at + _7]) << _56
        ) ^ _EIGHT_ZEROS
        others = ((word + _OVER_NINE) | word) & _HIGH_BITS  # above the first of them there may be carries
        if others == _0:
            if number > _ROOM_FOR_EIGHT:
                return _NOWHERE, number
            number = number * _EIGHT_MORE + _eight(word)
            at += _8
            continue
        count = (((others & (_0 - others)) >> _7) * _BYTE_OF_LOWEST) >> _56
        if count == _0:
            return at, number
        if number > _ROOM_FOR_EIGHT:
            break
        return at + count, number * _TENS_64[count] + _eight(word << (_64 - _8 * count))
    while at < stop and _ZERO <= text[at] <= _NINE:
        if number > _ROOM:
            return _NOWHERE, number
        number = number * _TEN + np.uint64(text[at] - _ZERO)
        at += _ONE
    return at, number


@kernel
def _eight(digits: np.uint64) -> np.uint64:
    """Eight digits, a byte each, the first of them the lowest byte, as a number."""
    pairs = (digits * _PAIRS) >> _8
    fours = ((pairs & _MASK_PAIRS) * _FOURS) >> _16
    return ((fours & _MASK_FOURS) * _EIGHTS) >> _HALF_WORD


@kernel
def _nearest(digits: np.uint64, power: int) -> tuple[float, bool]:
    """The double nearest to digits * 10**-power, and whether it surely is."""
    if digits <= _EXACT and power <= _EXACT_POWER:
        return np.float64(digits) / _TENS[power], True
    if digits == _0 or power == 0:
        return np.float64(digits), True  # without a fraction far beyond 1
    shift = _leading_zeros(digits)
    high = _high_product(digits << np.uint64(shift), _SCALED[power])
    spare = _SPARE if high >= _TOP else _SPARE - _ONE  # bits beyond a double's 53
    mantissa = high >> spare
    rest, middle = high - (mantissa << spare), _ONE << (spare - _ONE)
    # The true product is `high` and less than two more.
    sure = rest > middle or rest + _ONE + _ONE <= middle
    if rest > middle:
        mantissa += _ONE
    return math.ldexp(np.float64(mantissa), np.int64(spare) + 64 - shift - _SHIFTS[power]), sure


@kernel
def _leading_zeros(number: np.uint64) -> int:
    """Of a number that is not 0."""
    zeros = 0
    while number < _TOP:
        number <<= _ONE
        zeros += 1
    return zeros


@kernel
def _high_product(one: np.uint64, other: np.uint64) -> np.uint64:
    """The upper 64 of the product's 128 bits."""
    a, b, c, d = one >> _HALF_WORD, one & _LOW, other >> _HALF_WORD, other & _LOW
    low = ((b * d) >> _HALF_WORD) + ((a * d) & _LOW) + ((b * c) & _LOW)
    return a * c + ((a * d) >> _HALF_WORD) + ((b * c) >> _HALF_WORD) + (low >> _HALF_WORD)
