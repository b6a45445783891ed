"""Probability events in JSON, read at the speed of the stream.

Three ways, each for what the one before it is not for. Canonical events (arrays in vocabulary order under the right
fingerprint) that are written as upstream's program writes them are read many at once (json_joined.py). One that is
canonical, however it is written, is read by simdjson into its row of the input matrix. Everything else, valid or not,
goes the slow way through schema.py, which alone refuses: the fast ways only ever accept, and property tests hold
that to what the slow way accepts, number by number. Not thread-safe, because simdjson's parser is not: one decoder
per thread.

simdjson's traps, each closed here:
- `as_buffer` flattens nested arrays silently: the `[` of the whole text must be as many as its lists.
- of a duplicate key simdjson returns the first, JSON readers the last: the fields are counted.
- a parser cannot be used again while an object or array of its last document lives: none outlives `_fast`.
- it reads deeper nesting than the standard library does: an ignored field with much nesting goes the slow way.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

from streamer.adapters import schema
from streamer.adapters.json_joined import JoinedEvents
from streamer.core.events import MAX_JSON_BYTES, MAX_TRACK_ID_CHARACTERS, Record, Rejected
from streamer.core.layout import CLASSES, Layout

JOINED_EVENTS = 128  # read at once, or one by one where one of them is odd
MAX_EXTRA_NESTING = 64  # brackets in an event with extra fields that the fast way still reads


class _NotCanonical(Exception):
    """Not for the fast way; says nothing about whether the event is valid."""


# What simdjson and the shape checks raise for an event that is not canonical; UnicodeDecodeError is a ValueError.
_NOT_CANONICAL = (_NotCanonical, ValueError, TypeError, KeyError, AttributeError, RuntimeError)


class JsonEventDecoder:
    """One vocabulary's events. Fulfils `ports.EventDecoder`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._joined = JoinedEvents(layout)
        self._parser = simdjson.Parser()
        # What a canonical event holds, in its own order: (class, ((list, length), ...)), nothing that is empty.
        self._plan: list[tuple[str, list[tuple[str, int]]]] = []
        for name in CLASSES:
            lists = [(p.list_name, len(p.names)) for p in layout.lists if p.class_name == name and p.names]
            if lists:
                self._plan.append((name, lists))
        self._empty_classes = frozenset(CLASSES) - {name for name, _ in self._plan}
        self._n_fields = 2 + len(self._plan)
        fields = [f"{name}.{list_name}" for name, lists in self._plan for list_name, _ in lists]
        self._column_order = [fields.index(piece.field) for piece in layout.lists if piece.names]

    def decode_all(self, records: Sequence[Record], rows: NDArray[np.float64]) -> tuple[list[str], dict[int, Rejected]]:
        """See `ports.EventDecoder`."""
        track_ids: list[str] = []
        dead: dict[int, Rejected] = {}
        for start in range(0, len(records), JOINED_EVENTS):
            some, row = records[start : start + JOINED_EVENTS], len(track_ids)
            ids = self._joined.read(some, rows[row : row + len(some)])
            if ids is not None:
                track_ids += ids
                continue
            for place, record in enumerate(some, start):
                try:
                    track_ids.append(self.decode(record.key, record.value or b"", rows[len(track_ids)]))
                except Rejected as why:
                    dead[place] = why
        return track_ids, dead

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
        for class_name, lists in self._plan:
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
