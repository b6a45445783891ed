"""Records as people see them: readable, complete, and harmless to a terminal whatever is in them."""

from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from model.artifact import fixed_network, new_artifact
from ops.cli.tail import tags_by_model
from ops.kafka_view import PREVIEW_BYTES, Kind, describe, preview, printable, render, tags_of, topic_of
from streamer.settings import Settings
from tests.model_data import SMALL

DECISION = {
    "track_id": "T-000123",
    "tags": {"genres": ["indie-rock"], "instruments": ["bass-guitar"], "moods": []},
    "scores": {"indie-rock": 0.83, "bass-guitar": 0.41},
    "model": "20261122T094500Z-1a2b3c4d",
    "thresholds": "9f03c2d1e4aa",
    "source": {"topic": "tracks.probabilities", "partition": 3, "offset": 18234, "row": 0},
}
HOSTILE = "\x1b[2J\r\x07\u202e\x9b"


def a_record(value, key=b"T-000123", headers=()):
    return SimpleNamespace(
        topic="t", partition=3, offset=7, timestamp=1_795_000_000_123, key=key, value=value, headers=headers
    )


def shown(kind, value, **more):
    return render(describe(a_record(value, **more), kind))


def test_decision_shows_tags_by_class_with_scores_and_where_they_come_from():
    text = shown(Kind.TAGS, orjson.dumps(DECISION))
    for part in ("T-000123", "indie-rock 0.83", "bass-guitar 0.41", "20261122T094500Z-1a2b3c4d", "9f03c2d1e4aa"):
        assert part in text
    assert "tracks.probabilities/3/18234/0" in text and "moods" not in text
    assert tags_of(describe(a_record(orjson.dumps(DECISION)), Kind.TAGS)) == {"indie-rock", "bass-guitar"}


def test_decision_without_tags_says_so():
    empty = DECISION | {"tags": {"genres": []}, "scores": {}}
    assert "(no tags)" in shown(Kind.TAGS, orjson.dumps(empty))


def test_tombstone_is_a_withdrawal():
    assert "withdrawn" in shown(Kind.TAGS, None)


def test_scores_show_count_best_and_headers():
    scores = np.array([0.1, 0.9, 0.2], dtype="<f2").tobytes()
    text = shown(Kind.SCORES, scores, headers=[("model", b"m-1"), ("thresholds", b"t-1"), ("source", b"a/0/1/0")])
    assert "3 scores: #1 0.90  #2 0.20  #0 0.10" in text and "m-1" in text and "a/0/1/0" in text


def test_scores_show_tag_names_where_the_model_is_known():
    record = a_record(np.array([0.1, 0.9], dtype="<f2").tobytes(), headers=[("model", b"m-1")])
    known = {"m-1": ("jazz", "in\x1bdie")}
    text = render(describe(record, Kind.SCORES, lambda version: known.get(version, ())))
    assert "2 scores: in\\x1bdie 0.90, jazz 0.10" in text
    assert "#1 0.90" in render(describe(record, Kind.SCORES, lambda _: ("another", "vocabulary", "this")))


def test_dead_letter_shows_code_field_message_and_preview_even_of_null():
    headers = [
        ("error.code", b"wrong-length"),
        ("error.message", b"expected 90, got 3"),
        ("error.field", b"genres.tags"),
        ("source", b"a/0/1/0"),
    ]
    text = shown(Kind.DEADLETTER, b'{"track_id":"x"}', headers=headers)
    assert "wrong-length at genres.tags: expected 90, got 3" in text and '{"track_id":"x"}' in text
    assert "wrong-length" in shown(Kind.DEADLETTER, None, key=None, headers=headers)


def test_a_key_as_long_as_a_message_leaves_a_line_readable():
    headers = [("error.code", b"bad-track-id"), ("error.message", b"m" * 5_000), ("source", b"s" * 5_000)]
    text = shown(Kind.DEADLETTER, b"{}", key=b"k" * 5_000, headers=headers)
    assert len(text) < 1_000 and "kkk... (5,000 characters)  bad-track-id: mmm" in text


def test_preview_is_clipped_and_says_how_much_there_is():
    text = preview(b"a" * 300_000)
    assert len(text) < PREVIEW_BYTES + 40 and "300,000 bytes" in text


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    "value",
    [
        HOSTILE.encode(),
        b"\xff\xfe\x1b",
        orjson.dumps({"track_id": HOSTILE, "tags": {"genres": [HOSTILE]}, "scores": {HOSTILE: 0.5}}),
        orjson.dumps({"tags": [1], "scores": 3, "source": HOSTILE, "track_id": 7}),
        orjson.dumps({"tags": {"genres": 3, "moods": [None, {}]}, "scores": {"x": "y"}, "model": HOSTILE}),
        b"[" * 100_000,
        b"",
        b"123",
    ],
)
def test_nothing_hostile_reaches_the_terminal_and_nothing_malformed_breaks_it(kind, value):
    text = shown(kind, value, key=HOSTILE.encode(), headers=[("error.code", HOSTILE.encode()), (HOSTILE, b"\xff")])
    assert all(char.isprintable() or char == "\n" for char in text)
    orjson.dumps(describe(a_record(value), kind))


def test_printable_keeps_what_can_be_read():
    assert printable("Café Tacvba – 音") == "Café Tacvba – 音"
    assert printable("a\nb") == "a\\nb"


def test_topics_by_short_name_full_name_or_anything():
    settings = Settings(topic_tags="my.tags")
    assert topic_of(settings, "tags") == topic_of(settings, "my.tags") == ("my.tags", Kind.TAGS)
    assert topic_of(settings, "deadletter") == ("tracks.deadletter", Kind.DEADLETTER)
    assert topic_of(settings, "other.topic") == ("other.topic", Kind.OTHER)


def test_tags_are_those_of_the_model_in_the_models_folder(tmp_path):
    version = new_artifact(fixed_network(SMALL), SMALL, dict.fromkeys(SMALL.tags, 0.4), tmp_path)
    tags = tags_by_model(Settings(models_dir=tmp_path))
    assert tags(version) == SMALL.tags
    assert tags("20261122T094500Z-1a2b3c4d") == tags("../" + version) == tags("") == ()


@pytest.mark.parametrize("timestamp_ms", [-1, 253_402_300_799_999, 253_402_300_800_000, 2**62, 2**63 - 1])
def test_any_time_that_a_producer_writes_can_be_shown(timestamp_ms):
    record = a_record(b"x")
    record.timestamp = timestamp_ms
    assert "T-000123" in render(describe(record, Kind.DEADLETTER))
