"""Events that a kernel reads many at a time are what each of them is alone, to the last bit of every number."""

import json
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.adapters import schema
from streamer.adapters.json_events import STYLES, JsonEventDecoder
from streamer.adapters.json_kernel import read_events
from streamer.core.events import Rejected
from streamer.core.layout import Layout
from streamer.core.packed import Packed
from streamer.core.records import Records
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
    track_ids, dead = DECODER.decode_all(Records.of(given_records), rows)
    accepted = iter(zip([(one or b"").decode() for one in track_ids], rows.tolist(), strict=False))
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
def test_good_events_are_read_by_the_kernel(style: tuple[str, str]):
    random = Random(7)
    some = [
        FakeRecord(n, an_event(f"T-{n}", [f"{random.random()}{style[0]}{random.random():.4f}" for _ in SHAPE], style))
        for n in range(128)
    ]
    rows, odd = np.zeros((len(some), LAYOUT.n_inputs)), np.ones(len(some), np.bool_)
    ids = Packed(Packed.of([]).buffer, np.zeros(len(some), np.int64), np.zeros(len(some), np.int64))
    DECODER._read(Records.of(some), rows, ids, odd)
    assert not odd.any()
    assert rows.tolist() == [alone(record)[1] for record in some]


# Of a fraction, in every length that a number in an event may have; and around the middle of two doubles.
FRACTIONS = st.one_of(
    st.floats(0, 1).map(repr),
    st.floats(0, 1).map(lambda x: f"{x:.17f}"),
    st.floats(0, 1, width=32).map(repr),
    st.integers(0, 10**19 - 1).map(lambda n: f"0.{n:019d}"),
    st.integers(0, 10**18 - 1).map(lambda n: f"0.0000000000000000{n:018d}"),
    st.integers(0, 10**16).map(lambda n: f"{n}e-16"),
    st.builds("0.{}E-{}".format, st.integers(0, 10**12), st.integers(0, 28)),
    st.integers(0, 2**53).map(lambda n: str(Fraction(2 * n + 1, 2**54).limit_denominator(10**18).numerator / 10**18)),
    st.integers(2**52, 2**53 - 1).map(lambda n: f"{Decimal(2 * n + 1) / 2**54:.19f}"),
)


@given(st.lists(FRACTIONS, min_size=8, max_size=8))
@example(["0.1", "1", "0", "0.0", "1.0", "1e0", "1.000000", "0.00000000000000000000000000000000000001"])
@example(
    ["0.9999999999999999445", "0.99999999999999994", "0.50000000000000005551", "1e-40", "9e-41", "0e5", "0e-9", "1E-0"]
)
@settings(max_examples=400, deadline=None)
def test_every_number_is_the_double_that_python_reads(texts: list[str]):
    event = an_event("T", [",".join(texts[n : n + 2]) for n in range(0, 8, 2)])
    row = np.zeros((1, LAYOUT.n_inputs))
    track_ids, dead = DECODER.decode_all(Records.of([FakeRecord(0, event)]), row)
    assert list(track_ids) == [b"T"] and not dead
    wanted = schema.parse(None, event, LAYOUT)[1]
    assert row[0].tolist() == list(wanted)


def test_numbers_that_are_hard_are_the_kernel_s_but_for_few():
    """What the kernel leaves to Python costs a hundred times as much."""
    random = Random(11)
    some = [
        FakeRecord(n, an_event(f"T-{n}", [f"{random.random()},{random.random()}" for _ in SHAPE])) for n in range(999)
    ]
    rows, odd = np.zeros((len(some), LAYOUT.n_inputs)), np.ones(len(some), np.bool_)
    doubtful = np.zeros((len(some) * 8, 4), np.int64)
    values, keys, ids = Records.of(some).values, Records.of(some).keys, np.zeros((2, len(some)), np.int64)
    columns = values.columns, keys.columns, DECODER._forms, DECODER._columns
    found = read_events(*columns, 256, rows, (ids[0], ids[1]), odd, doubtful)
    assert not odd.any() and found < len(some) * 8 / 200
