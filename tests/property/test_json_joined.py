"""Many events read as one are what each of them is alone, whatever stands between them."""

import json
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.adapters import schema
from streamer.adapters.json_events import JOINED_EVENTS, JsonEventDecoder
from streamer.adapters.json_joined import STYLES, JoinedEvents
from streamer.core.events import Rejected
from streamer.core.layout import Layout
from tests.fakes import FakeRecord

FINGERPRINT = "3f9c0a17b2de"
# Lists of one length: numbers that slip from one into the next would be of the right number.
LAYOUT = Layout.build(
    FINGERPRINT,
    {
        "genres": {"tags": ["rock", "é"], "categories": ["x", "y"]},
        "instruments": {"categories": ["strings", "z"]},
        "moods": {"tags": ["sad", "happy"]},
    },
)
JOINED = JoinedEvents(LAYOUT)
DECODER = JsonEventDecoder(LAYOUT)
SHAPE = [("genres", "tags"), ("genres", "categories"), ("instruments", "categories"), ("moods", "tags")]


def an_event(track_id: str, lists: list[str], style: tuple[str, str] = STYLES[0]) -> bytes:
    """An event with these texts inside its brackets, whatever they are."""
    event: dict[str, Any] = {"track_id": track_id, "vocabulary": FINGERPRINT}
    for number, (class_name, list_name) in enumerate(SHAPE):
        event.setdefault(class_name, {})[list_name] = f"@{number}"
    text = json.dumps(event, separators=style, ensure_ascii=False)
    for number, one in enumerate(lists):
        text = text.replace(f'"@{number}"', f"[{one}]")
    return text.encode("utf-8", "surrogatepass")


ODD_NUMBERS = '0 1 0.5 -0 -0.0 0.0 1E-3 1e0 -1 -2 -3 -4 1.5 01 .5 1. NaN null true "a" {} [0.5] 1e400'
NUMBER = st.one_of(st.floats(0, 1).map(repr), st.sampled_from(ODD_NUMBERS.split()))
GOOD = st.integers(0, 10**4).map(lambda n: str(n / 10**4))
PLAIN = st.tuples(GOOD, GOOD).map(",".join)
ODD = st.one_of(
    st.lists(NUMBER, max_size=5).map(",".join),
    st.sampled_from(["", " ", "0.5", "0.5,0.5,-1,0.5", "0.5,0.5,-1,0.5,0.5,-2", "0.5,-1,0.5", "0.5,", "0.5 ,0.5", "-"]),
    st.sampled_from(
        ['0.5,0.5],"categories":', '0.5,0.5]},"moods":{"tags":', "0.5,0.5]", "0.5,0.5}", "\xff", "0,0\x00"]
    ),
)
TRACK_IDS = st.one_of(
    st.just("T"), st.text(max_size=4), st.sampled_from(['"', "\\", "\n", "\x1f", "\x7f", "x" * 257, "\ud800", "[", "@"])
)


@st.composite
def records(draw: st.DrawFn) -> list[FakeRecord]:
    """Mostly good ones; some wear the skeleton of a good one around something else, some are no events at all."""
    style = draw(st.sampled_from(STYLES))
    odd = draw(st.sampled_from([0, 0, 0, 1, 3]))
    made = []
    for offset in range(draw(st.integers(1, 12))):
        track_id = f"T-{offset}"
        lists = [draw(PLAIN) for _ in SHAPE]
        if odd and draw(st.integers(0, 3)) < odd:
            kind = draw(st.integers(0, 4))
            if kind == 0:
                track_id = draw(TRACK_IDS)
            elif kind < 4:
                for _ in range(kind):
                    lists[draw(st.integers(0, len(SHAPE) - 1))] = draw(ODD)
            else:
                style = draw(st.sampled_from(STYLES))
        value = an_event(track_id, lists, style)
        if odd and draw(st.integers(0, 9)) == 0:
            value = draw(st.sampled_from([b"", b"{}", value[:-1], value + b" ", value + b"}", value[1:], value * 2]))
        key = draw(st.sampled_from([track_id.encode("utf-8", "surrogatepass")] * 3 + [None, b"other"]))
        made.append(FakeRecord(offset, value, key))
    return made


def alone(record: FakeRecord) -> tuple[str, list[float]] | tuple[str, str]:
    try:
        return schema.parse(record.key, record.value or b"", LAYOUT)
    except Rejected as why:
        return why.code, why.field


def together(given_records: list[FakeRecord]) -> list[tuple[str, list[float]] | tuple[str, str]]:
    """As the pipeline does it, the check of the range included."""
    rows = np.full((len(given_records), LAYOUT.n_inputs), np.nan)
    track_ids, dead = DECODER.decode_all(given_records, rows)
    accepted = iter(zip(track_ids, rows.tolist(), strict=False))
    found: list[Any] = []
    for place, record in enumerate(given_records):
        why = dead.get(place)
        if why is None:
            track_id, numbers = next(accepted)
            if all(0 <= number <= 1 for number in numbers):
                found.append((track_id, numbers))
                continue
            why = DECODER.explain(record.key, record.value or b"")
            assert why is not None
        found.append((why.code, why.field))
    return found


@given(records())
@settings(max_examples=250, deadline=None)
def test_together_they_are_what_they_are_alone(given_records: list[FakeRecord]):
    assert together(given_records) == [alone(record) for record in given_records]


@pytest.mark.parametrize("style", STYLES)
def test_good_events_are_joined(style: tuple[str, str]):
    random = Random(7)
    some = [
        FakeRecord(n, an_event(f"T-é{n}", [f"{random.random()},{random.random():.4f}" for _ in SHAPE], style))
        for n in range(JOINED_EVENTS)
    ]
    rows = np.zeros((len(some), LAYOUT.n_inputs))
    assert JOINED.read(some, rows) == [f"T-é{n}" for n in range(JOINED_EVENTS)]
    assert rows.tolist() == [alone(record)[1] for record in some]


def test_numbers_that_slip_are_found():
    """Events of one producer who writes marks himself: two of them hold the rows of three, or of one."""
    a, b = "0.1,0.2", "0.3,0.4"
    slipped = [
        [f"{a},-1,{b}", a, a, a],
        [f"{a},-1,{b},-1,{a}", "0.1", "0.2", a],
        [a, f"{a},-2,{b}", a, a],
        ["0.1", f"0.2,-1,{b},-2,{a}", a, a],
    ]
    for lists in slipped:
        some = [FakeRecord(0, an_event("T", [a] * 4)), FakeRecord(1, an_event("T", lists)),
                FakeRecord(2, an_event("T", [b, "", "0.5", a])), FakeRecord(3, an_event("T", [b] * 4))]  # fmt: skip
        assert JOINED.read(some, np.zeros((4, LAYOUT.n_inputs))) is None
        assert together(some) == [alone(record) for record in some]
