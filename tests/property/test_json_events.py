"""The fast decoder and the pydantic way agree on every event: accepted or not, the numbers, the track id."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.adapters import schema
from streamer.adapters.json_events import JsonEventDecoder
from streamer.core.events import Rejected
from streamer.core.layout import CLASSES, LISTS, Layout

FINGERPRINT = "3f9c0a17b2de"
FULL = Layout.build(
    FINGERPRINT,
    {
        "genres": {"tags": ["rock", "électro", "a[b]"], "categories": ["x", "y"]},
        "instruments": {"tags": ["bass"], "categories": ["strings", "z"]},
        "moods": {"tags": ["sad", "happy"], "categories": ["m"]},
    },
)
SPARSE = Layout.build(FINGERPRINT, {"genres": {"tags": ["rock", "pop"]}, "moods": {"categories": ["m"]}})
DECODERS = {FULL: JsonEventDecoder(FULL), SPARSE: JsonEventDecoder(SPARSE)}


class Pairs(list):
    """A JSON object as pairs, so that a key may come twice."""


def text(value: Any) -> str:
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(name)}: {text(item)}" for name, item in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text, value)) + "]"
    return value.raw if isinstance(value, Raw) else json.dumps(value, ensure_ascii=False)


class Raw:
    """JSON text as it stands, valid or not."""

    def __init__(self, raw: str) -> None:
        self.raw = raw

    def __repr__(self) -> str:
        return f"Raw({self.raw!r})"


NUMBERS = st.one_of(st.floats(0, 1), st.sampled_from([0, 1, 0.5, -0.0, 5e-324]))
ODD_NUMBERS = (
    "NaN Infinity -Infinity 1e400 -1e400 1e-400 1.2 -0.1 2 -1 01 .5 1. +1 1E0 1e0 0e9 -0 "
    "18446744073709551616 9223372036854775808 0.1,0.2 0x1"
)
ODD_VALUES = 'null true false {} [] [0.1] [0.1,0.2] [[]] {"a":[0]} "0.5" "" "[" "\\ud800" "\\u005b"'
ODD = st.one_of(
    st.sampled_from(ODD_NUMBERS.split() + ODD_VALUES.split()).map(Raw),
    st.floats().map(lambda number: Raw(json.dumps(number))),
    st.integers(-3, 2**70),
)
TRACK_IDS = st.one_of(
    st.just("T-1"), st.text(min_size=0, max_size=5), st.sampled_from(["x" * 256, "é" * 257, "[", "{"])
)


@st.composite
def lists(draw: st.DrawFn, names: tuple[str, ...], named: bool) -> Any:
    numbers: list[Any] = draw(st.lists(NUMBERS, min_size=len(names), max_size=len(names)))
    if not named:
        return numbers
    return Pairs(draw(st.permutations(list(zip(names, numbers, strict=True)))))


@st.composite
def events(draw: st.DrawFn, layout: Layout) -> Pairs:
    """A valid event of either form, with or without what may be absent and what is ignored."""
    event = Pairs([("track_id", draw(TRACK_IDS))])
    any_named = draw(st.booleans())
    if not any_named or draw(st.booleans()):
        event.append(("vocabulary", FINGERPRINT))
    for class_name in CLASSES:
        group = Pairs()
        for part in LISTS:
            names = next(p.names for p in layout.lists if p.field == f"{class_name}.{part}")
            if names or draw(st.booleans()):
                named = any_named and draw(st.sampled_from([True, True, False]))
                group.append((part, draw(lists(names, named))))
        if group or draw(st.booleans()):
            event.append((class_name, group))
    if draw(st.booleans()):
        event.insert(draw(st.integers(0, len(event))), ("extra", draw(st.one_of(ODD, st.text(max_size=3)))))
    return event


def mutate(draw: st.DrawFn, node: Any) -> None:
    """Change one thing somewhere in the event, in place."""
    while True:
        inner = [
            item for item in (([v for _, v in node]) if isinstance(node, Pairs) else node) if isinstance(item, list)
        ]
        if not inner or draw(st.integers(0, 3)) == 0:
            break
        node = draw(st.sampled_from(inner))
    place = draw(st.integers(0, max(0, len(node) - 1)))
    kind = draw(st.sampled_from(["drop", "twice", "odd", "nest", "rename", "dupkey", "swap"]))
    named = isinstance(node, Pairs)
    if not node:
        node.append(("tags", draw(ODD)) if named else draw(ODD))
    elif kind == "drop":
        del node[place]
    elif kind == "twice":
        node.insert(draw(st.integers(0, len(node))), node[place])
    elif kind in ("odd", "dupkey") or not named:
        item = [node[place]] if kind == "nest" and not named else draw(ODD)
        pair = (node[place][0], item) if named else item
        node[place : place + (kind != "dupkey")] = [pair]
    elif kind == "rename":
        node[place] = (draw(st.sampled_from(["tags", "genres", "moods", "rock", "vocabulary", "x"])), node[place][1])
    else:
        other = draw(st.integers(0, len(node) - 1))
        node[place], node[other] = node[other], node[place]


@st.composite
def wire_events(draw: st.DrawFn) -> tuple[Layout, bytes | None, bytes]:
    layout = draw(st.sampled_from([FULL, SPARSE]))
    event = draw(events(layout))
    track_id = next(item for name, item in event if name == "track_id")
    for _ in range(draw(st.integers(0, 3))):
        mutate(draw, event)
    value = text(event).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 4)) == 0:  # damage a byte
        place = draw(st.integers(0, len(value) - 1))
        value = value[:place] + draw(st.binary(max_size=2)) + value[place + draw(st.integers(0, 2)) :]
    encoded = track_id.encode("utf-8", "surrogatepass")
    return layout, draw(st.sampled_from([None, encoded, encoded, b"other"])), value


def fast(layout: Layout, key: bytes | None, value: bytes) -> tuple[str, list[float]] | None:
    """Decode and the caller's check of the range."""
    row = np.full(layout.n_inputs, np.nan)
    decoder = DECODERS[layout]
    try:
        track_id = decoder.decode(key, value, row)
    except Rejected:
        return None
    if not ((row >= 0) & (row <= 1)).all():
        assert decoder.explain(key, value) is not None
        return None
    return track_id, row.tolist()


def slow(layout: Layout, key: bytes | None, value: bytes) -> tuple[str, list[float]] | None:
    try:
        return schema.parse(key, value, layout)
    except Rejected as rejected:
        rejected.message.encode()
        rejected.field.encode()
        return None


@given(wire_events())
@settings(max_examples=1500, deadline=None)
def test_both_ways_agree(case: tuple[Layout, bytes | None, bytes]):
    layout, key, value = case
    assert fast(layout, key, value) == slow(layout, key, value)


@given(st.data(), st.sampled_from([FULL, SPARSE]))
@settings(max_examples=300, deadline=None)
def test_unmutated_events_with_a_good_id_are_accepted(data: st.DataObject, layout: Layout):
    event = data.draw(events(layout))
    good = [(name, item) for name, item in event if name not in ("extra", "track_id")]
    good.insert(0, ("track_id", "T-1"))
    arrays = any(type(item) is list and item for _, group in good[1:] if isinstance(group, Pairs) for _, item in group)
    if arrays and good[1][0] != "vocabulary":
        good.insert(1, ("vocabulary", FINGERPRINT))
    value = text(Pairs(good)).encode()
    assert fast(layout, b"T-1", value) is not None
    assert fast(layout, b"T-1", value) == slow(layout, b"T-1", value)


@given(st.binary(max_size=60), st.sampled_from([None, b"k"]))
def test_any_bytes_are_refused_and_nothing_else_happens(value: bytes, key: bytes | None):
    assert fast(FULL, key, value) is None
    assert schema.explain(key, value, FULL) is not None


@pytest.mark.parametrize("depth", [1, 30, 60, 63, 64, 65, 98, 99, 100, 101, 990, 1000, 1024, 1030, 5000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_agree_on_nesting_in_an_ignored_field(depth: int, opening: str, closing: str):
    event = {"track_id": "T-1", "vocabulary": FINGERPRINT}
    for piece in FULL.lists:
        event.setdefault(piece.class_name, {})[piece.list_name] = [0.5] * len(piece.names)  # type: ignore[call-overload]
    value = json.dumps(event)[:-1] + ', "extra": ' + opening * depth + "1" + closing * depth + "}"
    assert fast(FULL, None, value.encode()) == slow(FULL, None, value.encode())
    assert (fast(FULL, None, value.encode()) is not None) == (depth < schema.MAX_NESTING)
