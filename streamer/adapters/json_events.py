"""Probability events in JSON, read at the speed of the stream.

Three ways, each for what the one before it is not for. Canonical events (arrays in vocabulary order under the right
fingerprint) that are written as upstream's program writes them are read where they lie, many in a call
(json_kernel.py). One that is canonical, however it is written, is read by simdjson into its row of the input matrix.
Everything else, valid or not, goes the slow way through schema.py, which alone refuses: the fast ways only ever accept,
and property tests hold that to what the slow way accepts, number by number. Not thread-safe, because simdjson's parser
is not: one decoder per thread.

simdjson's traps, each closed here:
- `as_buffer` flattens nested arrays silently: the `[` of the whole text must be as many as its lists.
- of a duplicate key simdjson returns the first, JSON readers the last: the fields are counted.
- a parser cannot be used again while an object or array of its last document lives: none outlives `_fast`.
- it reads deeper nesting than the standard library does: an ignored field with much nesting goes the slow way.
"""

import json
from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

from streamer.adapters import schema
from streamer.adapters.json_kernel import read_events
from streamer.core.events import MAX_JSON_BYTES, MAX_TRACK_ID_CHARACTERS, Rejected
from streamer.core.layout import CLASSES, Layout, ListSlice
from streamer.core.packed import Packed, Texts
from streamer.core.records import Records

STYLES = ((",", ":"), (", ", ": "))  # how JSON is written: without spaces, or as Python's json does by default
DOUBTFUL_NUMBERS = 16  # per event that Python reads after the kernel; one with more goes the next way
_ID = "@"  # where the track id stands in a form
MAX_EXTRA_NESTING = 64  # brackets in an event with extra fields that the fast way still reads


class _NotCanonical(Exception):
    """Not for the fast way; says nothing about whether the event is valid."""


# What simdjson and the shape checks raise for an event that is not canonical; UnicodeDecodeError is a ValueError.
_NOT_CANONICAL = (_NotCanonical, ValueError, TypeError, KeyError, AttributeError, RuntimeError)


class JsonEventDecoder:
    """One vocabulary's events. Fulfils `ports.EventDecoder`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._parser = simdjson.Parser()
        # A canonical event's lists in its own order, the contract's: by class, tags before categories.
        pieces = sorted(
            (piece for piece in layout.lists if piece.names),
            key=lambda piece: (CLASSES.index(piece.class_name), piece.start),
        )
        self._forms = _forms(layout, pieces)
        self._columns = np.array([[piece.start, piece.stop] for piece in pieces], np.int64).reshape(-1, 2)
        self._plan: dict[str, list[tuple[str, int]]] = {}  # by class: ((list, length), ...), nothing that is empty
        for piece in pieces:
            self._plan.setdefault(piece.class_name, []).append((piece.list_name, len(piece.names)))
        self._empty_classes = frozenset(CLASSES) - self._plan.keys()
        self._n_fields = 2 + len(self._plan)
        self._column_order = [pieces.index(piece) for piece in layout.lists if piece.names]

    def decode_all(self, records: Records, rows: NDArray[np.float64]) -> tuple[Packed, dict[int, Rejected]]:
        """See `ports.EventDecoder`."""
        count = len(records)
        odd = np.empty(count, np.bool_)  # [N]
        ids = Packed(records.values.buffer, np.empty(count, np.int64), np.empty(count, np.int64))
        self._read(records, rows, ids, odd)
        if not odd.any():
            return ids, {}
        track_ids: list[bytes | None] = list(ids)
        dead: dict[int, Rejected] = {}
        for place in np.flatnonzero(odd).tolist():
            try:
                value = records.values[place] or b""
                track_ids[place] = self.decode(records.keys[place], value, rows[place]).encode()
            except Rejected as why:
                dead[place] = why
        if dead:
            alive = [place for place in range(count) if place not in dead]
            rows[: len(alive)] = rows[alive]
            track_ids = [track_ids[place] for place in alive]
        return Packed.of(track_ids), dead

    def _read(self, records: Records, rows: NDArray[np.float64], ids: Packed, odd: NDArray[np.bool_]) -> None:
        """The kernel's way: `rows`, `ids` and `odd` [N] are filled; of odd events there is no id."""
        doubtful = np.empty((len(records) * DOUBTFUL_NUMBERS, 4), np.int64)
        values = records.values
        found = read_events(
            values.columns,
            records.keys.columns,
            self._forms,
            self._columns,
            MAX_TRACK_ID_CHARACTERS,
            rows,
            (ids.starts, ids.lengths),
            odd,
            doubtful,
        )
        odd |= values.lengths > MAX_JSON_BYTES
        ids.lengths[odd] = 0
        ids.starts[odd] = 0
        for row, column, start, length in doubtful[:found].tolist():
            rows[row, column] = float(values.buffer[start : start + length].tobytes())

    def decode(self, key: bytes | None, value: bytes, row: NDArray[np.float64]) -> str:
        """Write the event's numbers into `row` [F] and return its track id; the caller checks their range.

        Raises:
            Rejected: for everything else that the contract forbids.
        """
        if len(value) <= MAX_JSON_BYTES:
            try:
                return self._fast(key, value, row)
            except _NOT_CANONICAL:
                self._parser = simdjson.Parser()  # whatever the old one was left with
        track_id, row[:] = schema.parse(key, value, self._layout)
        return track_id

    def explain(self, key: bytes | None, value: bytes) -> Rejected | None:
        """The full validation: why this event is refused, or None where it is valid."""
        return schema.explain(key, value, self._layout)

    def _fast(self, key: bytes | None, value: bytes, row: NDArray[np.float64]) -> str:
        """The track id of a canonical event, its numbers in `row`; raises any of `_NOT_CANONICAL` otherwise."""
        document: Any = self._parser.parse(value)
        track_id = document["track_id"]
        if document["vocabulary"] != self._layout.fingerprint or type(track_id) is not str:
            raise _NotCanonical
        if not 0 < len(track_id) <= MAX_TRACK_ID_CHARACTERS or (key is not None and track_id.encode() != key):
            raise _NotCanonical
        if len(document) != self._n_fields and not self._extras_are_harmless(document, value):
            raise _NotCanonical
        arrays: list[Any] = []
        for class_name, lists in self._plan.items():
            group = document[class_name]
            if len(group) != len(lists):
                raise _NotCanonical
            for list_name, length in lists:
                array = group[list_name]
                if len(array) != length:
                    raise _NotCanonical
                arrays.append(array)
        if value.count(b"[") != len(arrays) and any(b"[" in array.mini[1:] for array in arrays):
            raise _NotCanonical
        row[:] = np.frombuffer(b"".join([arrays[place].as_buffer(of_type="d") for place in self._column_order]))
        return track_id

    def _extras_are_harmless(self, document: Any, value: bytes) -> bool:
        """More fields than the canonical: fine where none is written twice and no optional class is among them."""
        if value.count(b"{") + value.count(b"[") > MAX_EXTRA_NESTING:
            return False
        names = list(document)
        return len(names) == len(set(names)) and self._empty_classes.isdisjoint(names)


def _forms(layout: Layout, pieces: list[ListSlice]) -> Texts:
    """How an event is written, [styles, 2 + lists]: what stands before the track id, after it, and after each list."""
    event: dict[str, Any] = {"track_id": _ID, "vocabulary": layout.fingerprint}
    for piece in pieces:
        event.setdefault(piece.class_name, {})[piece.list_name] = []
    texts: list[bytes] = []
    for style in STYLES:
        whole = json.dumps(event, separators=style, ensure_ascii=False).encode()
        before, after = whole.split(_ID.encode(), 1)
        head, *tails = after.split(b"[")
        texts += [before, *(text + b"[" for text in (head, *tails[:-1])), tails[-1]]
    forms = Packed.of(texts)
    return forms.buffer, forms.starts.reshape(len(STYLES), -1), forms.lengths.reshape(len(STYLES), -1)
