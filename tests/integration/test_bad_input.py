"""Every way an input can be wrong, in one stream through one real worker: what becomes of it, and of its neighbours.

All cases are produced at once; each is then judged by itself. The header `case` travels along and tells which is
which.
"""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any, NamedTuple

import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord

from ops.kafka_io import Event, produce_events, read_topic
from tests.harness import Stream, a_vocabulary, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

WORDS = a_vocabulary()
CLASSES: dict[str, dict[str, list[str]]] = {
    name: {kind: list(names) for kind, names in lists.items()} for name, lists in WORDS.classes.items()
}
N_TAGS, N_CATEGORIES = len(CLASSES["genres"]["tags"]), len(CLASSES["genres"]["categories"])
NOISE = b"\xff\x00 not text"  # in a header of the upstream's own


class Bad(NamedTuple):
    """One input that can never be decided, and what its dead letter must say."""

    value: Any  # bytes, None, or what JSON is made of
    code: str
    field: str
    words: str  # a pattern of the message
    key: bytes | None = b"T-1"
    content_type: bytes | None = None


def event(track_id: str = "T-1", form: str = "arrays", **changes: Any) -> dict[str, Any]:
    """A valid event, but for the changes."""

    def numbers(names: list[str], named: bool) -> Any:
        return {name: 0.5 for name in reversed(names)} if named else [0.5] * len(names)

    body: dict[str, Any] = {"track_id": track_id}
    if form != "names":
        body["vocabulary"] = WORDS.fingerprint
    for name, lists in CLASSES.items():
        body[name] = {
            kind: numbers(names, form == "names" or (form == "mixed" and kind == "tags"))
            for kind, names in lists.items()
        }
    return {name: value for name, value in {**body, **changes}.items() if value is not ...}


def with_tag(value: Any, form: str = "arrays", index: int = 7) -> dict[str, Any]:
    """An event with this value where one genre's probability should be."""
    body = event(form=form)
    tags = body["genres"]["tags"]
    tags[CLASSES["genres"]["tags"][index] if isinstance(tags, dict) else index] = value
    return body


def lengthened(by: int) -> dict[str, Any]:
    return {"tags": [0.5] * (N_TAGS + by), "categories": [0.5] * N_CATEGORIES}


def misnamed() -> dict[str, Any]:
    body = event(form="names")
    body["genres"]["tags"]["genres-tt0"] = 0.5
    return body


def unnamed() -> dict[str, Any]:
    body = event(form="names")
    del body["moods"]["categories"]["moods-c5"]
    return body


BAD = {
    "not JSON": Bad(b"hello", "not-json", "", "not JSON"),
    "half of an event": Bad(json.dumps(event()).encode()[:-40], "not-json", "", "character"),
    "not UTF-8": Bad(b'{"track_id": "\xff"}', "not-json", "", "UTF-8.*byte 14"),
    "two events": Bad(json.dumps(event()).encode() * 2, "not-json", "", "not JSON"),
    "a list": Bad([event()], "wrong-shape", "", "object"),
    "a number": Bad(17, "wrong-shape", "", "object"),
    "a class that is a list": Bad(event(moods=[0.5]), "wrong-shape", "moods", "object"),
    "tags that are a text": Bad(event(moods={"tags": "0.5"}), "wrong-shape", "moods.tags", "an array or an object"),
    "an id that is a number": Bad(event(track_id=17), "bad-track-id", "track_id", "is 17: a string"),
    "no id": Bad(event(track_id=...), "missing-field", "track_id", "track_id"),
    "no class": Bad(event(instruments=...), "missing-field", "instruments", "instruments"),
    "no categories": Bad(event(moods={"tags": [0.5] * len(CLASSES["moods"]["tags"])}), "missing-field",
                         "moods.categories", "categories"),
    "too short": Bad(event(genres=lengthened(-1)), "wrong-length", "genres.tags",
                     f"has {N_TAGS - 1} numbers, .* has {N_TAGS}$"),
    "too long": Bad(event(genres=lengthened(3)), "wrong-length", "genres.tags",
                    f"has {N_TAGS + 3} numbers, .* has {N_TAGS}$"),
    "empty": Bad(event(genres=lengthened(-N_TAGS)), "wrong-length", "genres.tags", f"has 0 numbers, .* has {N_TAGS}$"),
    "no fingerprint": Bad(event(vocabulary=...), "fingerprint-required", "vocabulary", "genres.tags is an array"),
    "a wrong fingerprint": Bad(event(vocabulary="0123456789ab"), "fingerprint-mismatch", "vocabulary",
                               f"0123456789ab.*{WORDS.fingerprint}|{WORDS.fingerprint}.*0123456789ab"),
    "an unknown name": Bad(misnamed(), "unknown-name", "genres.tags.genres-tt0", "genres-tt0"),
    "a name that is missing": Bad(unnamed(), "missing-name", "moods.categories.moods-c5", "moods-c5"),
    "NaN": Bad(with_tag(float("nan")), "not-a-probability", "genres.tags[7]", "NaN"),
    "infinity": Bad(with_tag(float("inf")), "not-a-probability", "genres.tags[7]", "Infinity"),
    "1e999": Bad(json.dumps(event()).replace("0.5", "1e999", 1).encode(), "not-a-probability", "genres.tags[0]", "."),
    "1.2": Bad(with_tag(1.2), "not-a-probability", "genres.tags[7]", r"1\.2"),
    "a little more than 1": Bad(with_tag(1.0000000001), "not-a-probability", "genres.tags[7]", r"1\.0000000001"),
    "minus": Bad(with_tag(-0.01), "not-a-probability", "genres.tags[7]", r"-0\.01"),
    "1.2 by name": Bad(with_tag(1.2, "names"), "not-a-probability", "genres.tags.genres-t21", r"1\.2"),
    "a text": Bad(with_tag("0.5"), "not-a-probability", "genres.tags[7]", "0\\.5"),
    "null": Bad(with_tag(None), "not-a-probability", "genres.tags[7]", "null"),
    "a boolean": Bad(with_tag(True), "not-a-probability", "genres.tags[7]", "true"),
    "a nested array": Bad(with_tag([0.5]), "not-a-probability", "genres.tags[7]", "array"),
    "an array of one array": Bad(event(genres={"tags": [[0.5] * N_TAGS], "categories": [0.5] * N_CATEGORIES}),
                                 "wrong-length", "genres.tags", f"has 1 number, .* has {N_TAGS}$"),
    "an empty id": Bad(event(""), "bad-track-id", "track_id", "1 to 256 characters", None),
    "300 characters": Bad(event("x" * 300), "bad-track-id", "track_id", "300", b"x" * 300),
    "not the key": Bad(event("T-2"), "key-mismatch", "track_id", "T-2", b"T-1"),
    "a key that is not UTF-8": Bad(event(), "key-mismatch", "track_id", ".", b"\xff\xfe"),
    "300 KiB of garbage": Bad(bytes(range(256)) * 1200, "too-large", "", "307,200.*262,144"),
    "a valid event of 300 KiB": Bad(event(note="x" * 307_200), "too-large", "", "262,144"),
    "100,000 brackets": Bad(b"[" * 100_000, "not-json", "", "nested too deeply"),
    "100,000 brackets that close": Bad(b"[" * 50_000 + b"]" * 50_000, "not-json", "", "nested too deeply"),
    "100,000 brackets in a field": Bad(
        json.dumps(event(note="?")).encode().replace(b'"?"', b"[" * 50_000 + b"]" * 50_000), "not-json", "",
        "nested too deeply"),
    "100,000 objects": Bad(b'{"a":' * 40_000, "not-json", "", "nested too deeply"),
    "content-type": Bad(event(), "unsupported-content-type", "content-type", "text/csv.*application/json",
                        b"T-1", b"text/csv"),
    "nothing": Bad(b"", "empty-value", "", "empty"),
    "neither key nor value": Bad(None, "empty-value", "", "no key", None),
    "withdrawal of nobody": Bad(None, "bad-track-id", "key", "0 characters", b""),
    "withdrawal with a long key": Bad(None, "bad-track-id", "key", "300 characters", b"x" * 300),
}  # fmt: skip

GOOD = {
    "arrays": event("G-arrays"),
    "names": event("G-names", "names"),
    "mixed": event("G-mixed", "mixed"),
    "more fields": event("G-more", upstream={"version": [1, 2]}, note="x"),
    "the longest id": event("ü" * 256),
    "a charset": event("G-charset"),
    "no key": event("G-keyless"),
}
AMONG = [b"broken"] * 4 + [event("G-among")] + [{**with_tag(2), "track_id": "G-among"}] * 3 + [b"", b"{}"]


def as_bytes(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()


def all_events() -> Iterator[Event]:
    for name, case in BAD.items():
        headers = [("trace", NOISE), ("case", name.encode()), ("attempt", b"2")]
        if case.content_type is not None:
            headers.insert(1, ("content-type", case.content_type))
        yield case.key, as_bytes(case.value), headers
    for name, good in GOOD.items():
        headers = [("content-type", b"application/json; charset=utf-8")] if name == "a charset" else []
        yield None if name == "no key" else good["track_id"].encode(), as_bytes(good), headers
    for value in AMONG:  # one key, so one partition, and without headers: the way of most events
        yield b"G-among", as_bytes(value), ()
    for value in (event("W-1"), None, event("W-2"), None, event("W-2")):
        track_id = b"W-1" if value is None or value["track_id"] == "W-1" else b"W-2"
        yield track_id, as_bytes(value), ()
    yield b"W-never-seen", None, ()


COUNT = len(BAD) + len(GOOD) + len(AMONG) + 6


class Seen(NamedTuple):
    """What came of it."""

    inputs: dict[str, ConsumerRecord]  # by case
    dead: dict[str, list[ConsumerRecord]]  # by case; `` is without
    tags: dict[bytes, list[ConsumerRecord]]  # by key
    scores: dict[bytes, list[ConsumerRecord]]
    metrics: dict[str, float]
    lag: int
    log: str


async def records(stream: Stream, topic: str) -> list[ConsumerRecord]:
    async with aclosing(read_topic(stream.settings, topic, from_start=True, follow=False)) as found:
        return [record async for record in found]


def by_key(found: list[ConsumerRecord]) -> dict[bytes, list[ConsumerRecord]]:
    groups = defaultdict(list)
    for record in found:
        groups[record.key].append(record)
    return groups


def case_of(record: ConsumerRecord) -> str:
    return dict(record.headers).get("case", b"").decode()


@pytest.fixture(scope="module")
def seen(services, artefacts, tmp_path_factory) -> Iterator[Seen]:
    """Everything produced, one worker, everything read."""
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path_factory.mktemp("bad-input"), artefacts)
    try:
        assert asyncio.run(produce_events(stream.settings, all_events())) == COUNT
        (worker,) = stream.start("only")
        stream.settle()
        settings = stream.settings
        eventually(
            lambda: worker.metrics().get("tagstream_tracks_in_total") == COUNT, 10, "all counted", worker.metrics
        )
        dead = defaultdict(list)
        for record in asyncio.run(records(stream, settings.topic_deadletter)):
            dead[case_of(record)].append(record)
        yield Seen(
            {case_of(record): record for record in asyncio.run(records(stream, settings.topic_probabilities))},
            dead,
            by_key(asyncio.run(records(stream, settings.topic_tags))),
            by_key(asyncio.run(records(stream, settings.topic_scores))),
            worker.metrics(),
            stream.lag(),
            worker.log(),
        )
    finally:
        stream.close()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_event_is_a_dead_letter_that_says_why(seen: Seen, name: str):
    case, source = BAD[name], seen.inputs[name]
    (record,) = seen.dead[name]
    headers = dict(record.headers)
    assert headers["error.code"].decode() == case.code
    assert headers["error.field"].decode() == case.field
    message = headers["error.message"].decode()
    assert re.search(case.words, message), message
    assert len(message) <= 500
    assert record.key == case.key and record.value == as_bytes(case.value), "original bytes and key"
    assert list(record.headers[:2]) == list(source.headers[:2]), "original headers first, in their order"
    assert headers["trace"] == NOISE
    assert headers["source"].decode() == f"{source.topic}/{source.partition}/{source.offset}/0"
    assert headers["worker"] == b"only"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", headers["failed_at"].decode())
    assert headers["attempt"] == b"3", "counted on from what the event came with"
    assert [header for header, _ in record.headers].count("attempt") == 1
    assert record.timestamp >= source.timestamp, "kept from now on, however old the event"


def test_no_bad_event_left_anything_else(seen: Seen):
    expected = {good["track_id"].encode() for good in GOOD.values()} | {b"G-among", b"W-1", b"W-2", b"W-never-seen"}
    assert set(seen.tags) == set(seen.scores) == expected
    assert set(seen.dead) == {*BAD, ""} and len(seen.dead[""]) == len(AMONG) - 1


@pytest.mark.parametrize("name", GOOD)
def test_every_form_is_decided(seen: Seen, name: str):
    key = GOOD[name]["track_id"].encode()
    (decision,), (scores,) = seen.tags[key], seen.scores[key]
    body = json.loads(decision.value)
    assert body["track_id"] == GOOD[name]["track_id"] and body["vocabulary"] == WORDS.fingerprint
    assert len(scores.value) == 2 * len(WORDS.tags)
    assert decision.partition == scores.partition == body["source"]["partition"]


def test_all_forms_mean_the_same(seen: Seen):
    """The same probabilities, however written: the same scores, but for the float16 step that batches may differ by."""
    keys = [good["track_id"].encode() for good in GOOD.values()]
    rows = np.array([np.frombuffer(seen.scores[key][0].value, "<f2") for key in keys]).astype(np.float64)
    assert np.abs(rows - rows[0]).max() <= np.spacing(np.float16(rows.max()))


def test_a_good_event_among_nine_bad_ones_is_decided(seen: Seen):
    assert len(seen.tags[b"G-among"]) == len(seen.scores[b"G-among"]) == 1
    codes = [dict(record.headers)["error.code"].decode() for record in seen.dead[""]]
    assert sorted(codes) == sorted(["not-json"] * 4 + ["not-a-probability"] * 3 + ["empty-value", "missing-field"])
    assert {dict(record.headers)["attempt"] for record in seen.dead[""]} == {b"1"}


def test_withdrawals_leave_tombstones_on_both_compacted_topics(seen: Seen):
    for topic in (seen.tags, seen.scores):
        assert [record.value is None for record in topic[b"W-1"]] == [False, True, True]
        assert [record.value is None for record in topic[b"W-2"]] == [False, False]
        assert [record.value is None for record in topic[b"W-never-seen"]] == [True]


def test_everything_is_accounted_for(seen: Seen):
    total = {name: value for name, value in seen.metrics.items() if name.endswith("_total") or "{" in name}
    decided, withdrawn = total["tagstream_tracks_decided_total"], total["tagstream_tracks_withdrawn_total"]
    dead = sum(value for name, value in total.items() if name.startswith("tagstream_dead_letters_total{"))
    assert (decided, withdrawn, dead) == (len(GOOD) + 1 + 3, 3, len(BAD) + 9)
    assert total["tagstream_tracks_in_total"] == decided + withdrawn + dead == COUNT
    assert seen.lag == 0 and "Traceback" not in seen.log
    dead_codes = {
        name.partition('code="')[2].rstrip('"}')
        for name, value in total.items()
        if "dead_letters_total{" in name and value  # a code is listed before its first letter
    }
    assert dead_codes == {case.code for case in BAD.values()}
