"""The event decoder: what it reads, and for each way an event can be wrong the code, the field and the words."""

import json
import time
from typing import Any

import numpy as np
import pytest

from streamer.adapters import schema
from streamer.adapters.json_events import JsonEventDecoder
from streamer.core.events import Code, Rejected
from streamer.core.layout import Layout

LAYOUT = Layout.build(
    "3f9c0a17b2de",
    {
        "genres": {"tags": ["rock", "indie-rock", "électro"], "categories": ["guitar music", "machines"]},
        "instruments": {"tags": ["bass", "drums"]},
    },
)
ROW = [0.1, 0.2, 0.3, 0.6, 0.7, 0.4, 0.5]  # tags of all classes, then categories


def event(**changes: Any) -> dict[str, Any]:
    return {
        "track_id": "T-1",
        "vocabulary": "3f9c0a17b2de",
        "genres": {"tags": [0.1, 0.2, 0.3], "categories": [0.4, 0.5]},
        "instruments": {"tags": [0.6, 0.7]},
        **changes,
    }


def genres(tags: Any) -> dict[str, Any]:
    return event(genres={"tags": tags, "categories": [0.4, 0.5]})


def by_name(values: dict[str, Any], **changes: Any) -> dict[str, Any]:
    full = {"tags": values, "categories": {"machines": 0.5, "guitar music": 0.4}}
    return {"track_id": "T-1", "genres": full, "instruments": {"tags": {"drums": 0.7, "bass": 0.6}}, **changes}


NAMED = {"électro": 0.3, "rock": 0.1, "indie-rock": 0.2}


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def is_fast(value: Any) -> bool:
    try:
        JsonEventDecoder(LAYOUT)._fast(None, as_bytes(value), np.empty(LAYOUT.n_inputs))
    except Exception:
        return False
    return True


def decode(value: Any, key: bytes | None = None) -> tuple[str, list[float]]:
    row = np.full(LAYOUT.n_inputs, np.nan)
    return JsonEventDecoder(LAYOUT).decode(key, as_bytes(value), row), row.tolist()


@pytest.mark.parametrize(
    "value",
    [
        event(),
        event(artist="someone", title="Song [live]", year=1999, more={"deep": [[1]]}),
        json.dumps(event(), separators=(",", ":")).encode(),
        json.dumps(event(), indent=2).encode(),
        b"\xef\xbb\xbf" + json.dumps(event()).encode(),
        json.dumps(event()).replace("T-1", "\\u0054-1").encode(),
    ],
)
def test_reads_canonical_events_the_fast_way(value):
    assert is_fast(value)
    assert decode(value, b"T-1") == ("T-1", ROW)


@pytest.mark.parametrize(
    "value",
    [
        by_name(NAMED),
        by_name(NAMED, vocabulary="3f9c0a17b2de"),
        by_name(NAMED, vocabulary=None),
        by_name([0.1, 0.2, 0.3], vocabulary="3f9c0a17b2de"),
        event(moods={}),
        event(moods={"tags": [], "categories": {}}, instruments={"tags": [0.6, 0.7], "categories": []}),
        event(genres={"tags": [0.1, 0.2, 0.3], "categories": [0.4, 0.5], "source": "x"}),
        event(big=10**30, small=[], lone="\ud800"),
        json.dumps(event()).replace('{"track_id"', '{"track_id": "T-0", "track_id"').encode(),
        json.dumps(event()).replace('{"tags": [0.1', '{"tags": [9], "tags": [0.1').encode(),
    ],
)
def test_reads_other_valid_events_the_slow_way(value):
    assert not is_fast(value)
    assert decode(value, b"T-1") == ("T-1", ROW)


def test_reads_whole_numbers_and_ids_of_any_script():
    assert decode({**genres([0, 1, 0]), "track_id": "ид-🎵"}, "ид-🎵".encode()) == (
        "ид-🎵",
        [0.0, 1.0, 0.0, *ROW[3:]],
    )
    assert decode(event(track_id="🎵" * 256))[0] == "🎵" * 256


PROBABILITY = "a probability is a finite number in [0, 1]"

REFUSED: list[tuple[Any, bytes | None, Code, str, str]] = [
    (b"", None, Code.EMPTY_VALUE, "", "the value is empty"),
    (b"x" * 300 * 1024, None, Code.TOO_LARGE, "", "307,200 bytes"),
    (b'{"a', None, Code.NOT_JSON, "", "not JSON"),
    (b"\xff\xfe", None, Code.NOT_JSON, "", "not UTF-8"),
    (b"[" * 100_000 + b"]" * 100_000, None, Code.NOT_JSON, "", "nested too deeply"),
    (b'{"a":' * 40_000 + b"1" + b"}" * 40_000, None, Code.NOT_JSON, "", "nested too deeply"),
    (b'{"a":' + b"9" * 200_000 + b"}", None, Code.NOT_JSON, "", "integer"),
    (event(ignored=float("nan")), None, Code.NOT_JSON, "", "NaN in an ignored field"),
    ([1], None, Code.WRONG_SHAPE, "", "the event is an array: an object is needed"),
    (b"null", None, Code.WRONG_SHAPE, "", "the event is null"),
    (b'"text"', None, Code.WRONG_SHAPE, "", 'the event is "text"'),
    ({}, None, Code.MISSING_FIELD, "track_id", "track_id is missing (and 2 more)"),
    (event(track_id=""), None, Code.BAD_TRACK_ID, "track_id", 'track_id is ""'),
    (event(track_id="x" * 300), None, Code.BAD_TRACK_ID, "track_id", "300 characters"),
    (event(track_id="\ud800"), b"\xed\xa0\x80", Code.BAD_TRACK_ID, "track_id", "UTF-8"),
    (event(track_id=7), b"7", Code.BAD_TRACK_ID, "track_id", "track_id is 7"),
    (event(track_id=None), None, Code.BAD_TRACK_ID, "track_id", "track_id is null"),
    (event(), b"T-2", Code.KEY_MISMATCH, "track_id", 'track_id is "T-1", the key is "T-2"'),
    (event(), b"", Code.KEY_MISMATCH, "track_id", 'the key is ""'),
    (event(), b"\xff", Code.KEY_MISMATCH, "track_id", "the key is"),
    (event(vocabulary="000000000000"), None, Code.FINGERPRINT_MISMATCH, "vocabulary", '"3f9c0a17b2de"'),
    (by_name(NAMED, vocabulary="000000000000"), None, Code.FINGERPRINT_MISMATCH, "vocabulary", '"000000000000"'),
    ({**genres([1]), "vocabulary": "0"}, None, Code.FINGERPRINT_MISMATCH, "vocabulary", '"0"'),
    (event(vocabulary=None), None, Code.FINGERPRINT_REQUIRED, "vocabulary", "vocabulary is missing: genres.tags"),
    (by_name([0.1, 0.2, 0.3]), None, Code.FINGERPRINT_REQUIRED, "vocabulary", "vocabulary is missing"),
    (event(vocabulary=5), None, Code.WRONG_SHAPE, "vocabulary", "vocabulary is 5: a string is needed"),
    (event(genres=[]), None, Code.WRONG_SHAPE, "genres", "genres is an array: an object is needed"),
    (event(moods=None), None, Code.WRONG_SHAPE, "moods", "moods is null: an object is needed"),
    (genres(0.5), None, Code.WRONG_SHAPE, "genres.tags", "genres.tags is 0.5: an array or an object is needed"),
    (genres(None), None, Code.WRONG_SHAPE, "genres.tags", "genres.tags is null"),
    (event(genres={"tags": [0, 0, 0]}), None, Code.MISSING_FIELD, "genres.categories", "is missing"),
    (genres([0.1, 0.2]), None, Code.WRONG_LENGTH, "genres.tags", "genres.tags has 2 numbers, the vocabulary has 3"),
    (event(genres={"tags": [0] * 4, "categories": [0]}), None, Code.WRONG_LENGTH, "genres.tags", "has 4 numbers"),
    (event(moods={"tags": [0.5]}), None, Code.WRONG_LENGTH, "moods.tags", "has 1 number, the vocabulary has 0"),
    (by_name({**NAMED, "indie-rok": 0}), None, Code.UNKNOWN_NAME, "genres.tags.indie-rok", 'nearest is "indie-rock"'),
    (by_name({"rock": 0, "électro": 0}), None, Code.MISSING_NAME, "genres.tags.indie-rock", 'lacks "indie-rock"'),
    (by_name({**NAMED, "rock": 2}), None, Code.NOT_A_PROBABILITY, "genres.tags.rock", f"is 2: {PROBABILITY}"),
    (genres([[0.1], 0.2]), None, Code.WRONG_LENGTH, "genres.tags", "has 2 numbers"),
    (genres([[0.1], 0.2, 0.3]), None, Code.NOT_A_PROBABILITY, "genres.tags[0]", f"is an array: {PROBABILITY}"),
    (genres([[0.1, 0.2], [], 0.3]), None, Code.NOT_A_PROBABILITY, "genres.tags[0]", "(and 1 more)"),
]
for bad, shown in [
    (float("nan"), "NaN"), (float("inf"), "Infinity"), (float("-inf"), "-Infinity"), (1.2, "1.2"), (-0.1, "-0.1"),
    ("0.5", '"0.5"'), (None, "null"), (True, "true"), ({}, "an object"), (2, "2"), (10**30, str(10**30)),
]:  # fmt: skip
    message = f"genres.tags[2] is {shown}: {PROBABILITY}"
    REFUSED.append((genres([0.1, 0.2, bad]), None, Code.NOT_A_PROBABILITY, "genres.tags[2]", message))


@pytest.mark.parametrize(("value", "key", "code", "field", "words"), REFUSED)
def test_refuses(value, key, code, field, words):
    value = as_bytes(value)
    started = time.thread_time()
    found = schema.explain(key, value, LAYOUT)
    assert time.thread_time() - started < 1
    assert found is not None
    assert (found.code, found.field) == (code, field)
    assert words in found.message
    assert len(found.message) <= 300
    found.message.encode()
    found.field.encode()
    try:
        _, row = decode(value, key)
    except Rejected as rejected:
        assert (rejected.code, rejected.field, rejected.message) == (code, field, found.message)
    else:  # the decoder leaves the range, and nothing else, to its caller
        assert code == Code.NOT_A_PROBABILITY
        assert not all(0 <= number <= 1 for number in row)


def test_a_number_beyond_float64_is_refused_with_its_field():
    value = json.dumps(event()).replace("0.3]", "1e400]").encode()
    with pytest.raises(Rejected, match=r"genres.tags\[2\] is Infinity"):
        decode(value)


@pytest.mark.parametrize(
    "value",
    [
        by_name({f"n{number}": 0 for number in range(20_000)}),
        by_name({"x" * 250_000: 0}),
        by_name({"\ud800": 0}),
        genres([2] * 80_000),
        genres([[]] * 60_000),
        event(track_id="\ud800" * 40_000),
        event(vocabulary="\ud800" * 40_000),
        {**event(), "\ud800": 1, "genres": {"\ud800": 1}},
    ],
)
def test_hostile_sizes_are_refused_quickly_and_in_short_words(value):
    started = time.thread_time()
    rejected = schema.explain(b"T-1", as_bytes(value), LAYOUT)
    assert time.thread_time() - started < 1
    assert rejected is not None
    assert len(rejected.message.encode()) <= 400
    assert len(rejected.field.encode()) <= 100


def test_a_decoder_goes_on_after_every_bad_event():
    decoder = JsonEventDecoder(LAYOUT)
    row = np.empty(LAYOUT.n_inputs)
    good = as_bytes(event())
    for value, key, *_ in REFUSED:
        try:
            decoder.decode(key, as_bytes(value), row)
        except Rejected as rejected:
            kept = rejected  # a held exception must not hold simdjson's document
            assert kept.code
        assert decoder._fast(b"T-1", good, row) == "T-1"
        assert row.tolist() == ROW


def test_a_huge_key_is_refused_at_once():
    began_s = time.thread_time()
    why = schema.explain(b"\xff" * (30 << 20), json.dumps(event()).encode(), LAYOUT)
    assert why is not None and why.code is Code.KEY_MISMATCH
    assert time.thread_time() - began_s < 1.0
