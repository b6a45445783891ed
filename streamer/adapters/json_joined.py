"""Many canonical events read as one: the numbers of all of them in a single parse.

Upstream's program writes every event alike but for the track id and the numbers. So what stands around the numbers is
held to what it must be, byte for byte, and the numbers of list 0 of all events, then those of list 1, and so on, are
joined into one JSON array for simdjson: a call for each list of each event would cost more than its numbers do.

That no number slips from one event or list into the next is shown by a *mark* behind each list: -1 behind every list
0, -2 behind every list 1. There are as many marks as places for them, each kind in its own block, and a number that
is not in [0, 1] sends all of it the slow way; so where each place holds its mark, these are the marks, in order.

`[` is what the texts are split by, so no nested array can hide in one; simdjson takes an object, a string, `true` or
`null` for no number.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

from streamer.core.events import MAX_JSON_BYTES, MAX_TRACK_ID_CHARACTERS, Record
from streamer.core.layout import CLASSES, Layout, ListSlice

_NOT_IN_AN_ID = re.compile(r'["\\\x00-\x09\x0b-\x1f]')  # \x0a separates them here
_ID = "@"  # where the track id stands in a form
STYLES = ((",", ":"), (", ", ": "))  # how JSON is written: without spaces, or as Python's json does by default


class _Form:
    """How an event is written: what stands before and after its track id, and behind each list."""

    def __init__(self, layout: Layout, pieces: Sequence[ListSlice], style: tuple[str, str]) -> None:
        event: dict[str, Any] = {"track_id": _ID, "vocabulary": layout.fingerprint}
        for piece in pieces:
            event.setdefault(piece.class_name, {})[piece.list_name] = []
        head, *tails = json.dumps(event, separators=style, ensure_ascii=False).encode().split(b"[")
        self.before, self.after = head.split(_ID.encode(), 1)
        self.tails = tails


class JoinedEvents:
    """Reads several events of one vocabulary at once, or says that they are not for it."""

    def __init__(self, layout: Layout) -> None:
        # In the contract's own order: by class, tags before categories.
        self._pieces = sorted(
            (piece for piece in layout.lists if piece.names),
            key=lambda piece: (CLASSES.index(piece.class_name), piece.start),
        )
        self._forms = [_Form(layout, self._pieces, style) for style in STYLES]
        self._marks = [b"-%d" % (number + 1) for number in range(len(self._pieces))]
        self._parser = simdjson.Parser()

    def read(self, records: Sequence[Record], rows: NDArray[np.float64]) -> list[str] | None:
        """Write the numbers of event `i` into `rows[i]` [F] and return the track ids.

        None where one of them is not canonical, valid or not; then `rows` may hold anything.
        """
        values = [record.value or b"" for record in records]
        form = next((form for form in self._forms if values[0].startswith(form.before)), None)
        if form is None or max(map(len, values)) > MAX_JSON_BYTES:
            return None
        try:
            heads, *lists = zip(*[value.split(b"[") for value in values], strict=True)
            ids = self._track_ids(records, heads, form)
            return ids if ids is not None and self._numbers(lists, form, rows) else None
        except (ValueError, TypeError, RuntimeError):  # lists in another number; what simdjson raises
            self._parser = simdjson.Parser()  # whatever the old one was left with
            return None

    @staticmethod
    def _track_ids(records: Sequence[Record], heads: Sequence[bytes], form: _Form) -> list[str] | None:
        """The ids that stand in the heads, each the record's key where it has one; None where one is not plain."""
        begin, end = len(form.before), -len(form.after)
        ids = [head[begin:end] for head in heads]
        joined = form.after.join([form.before + one for one in ids]) + form.after
        if joined != b"".join(heads):
            return None
        keys = [record.key for record in records]
        if keys != ids and any(key not in (one, None) for key, one in zip(keys, ids, strict=True)):
            return None
        text = b"\n".join(ids).decode()
        names = text.split("\n")
        if _NOT_IN_AN_ID.search(text) or len(names) != len(ids):
            return None
        lengths = list(map(len, names))
        return names if min(lengths) >= 1 and max(lengths) <= MAX_TRACK_ID_CHARACTERS else None

    def _numbers(self, lists: Sequence[Sequence[bytes]], form: _Form, rows: NDArray[np.float64]) -> bool:
        """Whether every list holds as many numbers in [0, 1] as it must; if so, they are in `rows`."""
        count = len(rows)
        texts: list[bytes] = []
        for parts, tail, mark in zip(lists, form.tails, self._marks, strict=True):
            texts += ((b",%b," % mark).join([part.removesuffix(tail) for part in parts]), mark)
        left = sum(map(len, texts)) - count * sum(map(len, self._marks)) - 2 * (count - 1) * len(lists)
        if left + count * sum(map(len, form.tails)) != sum(sum(map(len, parts)) for parts in lists):
            return False  # one did not end as it must
        array: Any = self._parser.parse(b"[" + b",".join(texts) + b"]")
        numbers = np.frombuffer(array.as_buffer(of_type="d"))
        widths = [len(piece.names) for piece in self._pieces]
        if len(numbers) != count * sum(width + 1 for width in widths):
            return False
        start = 0
        for number, (piece, width) in enumerate(zip(self._pieces, widths, strict=True)):
            block = numbers[start : start + count * (width + 1)].reshape(count, width + 1)
            if (block[:, width] != -(number + 1)).any():
                return False
            rows[:, piece.start : piece.stop] = block[:, :width]
            start += block.size
        return bool(rows.min() >= 0.0 and rows.max() <= 1.0)
