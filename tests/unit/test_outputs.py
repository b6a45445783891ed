"""What goes out: names and values of every header, tombstones in their place, timestamps, attempts."""

import hashlib

import numpy as np
import pytest

from streamer.core.batch import REJECTED, WITHDRAWN, Run, Span
from streamer.core.events import Code, Rejected
from streamer.core.outputs import Stamp, check_withdrawal, content_type, deadletter_headers, span_outputs, utc_text
from streamer.core.packed import Packed
from streamer.core.records import Records
from tests.fakes import FakeRecord

STAMP = Stamp("tracks.probabilities", "20261122T094500Z-1a2b3c4d", "9f03c2d1e4aa", "3f9c0a17b2de")
SCORES = np.array([[0.1, 0.5, 1.0], [0.2, 0.25, 0.0], [0.9, 0.8, 0.7]], np.float16)
IDS = [b"T-1", "Tü-2".encode(), b"T-3"]
DECISIONS = Packed.of([b"one", b"two", b"three"])
WHY = Rejected(Code.WRONG_LENGTH, "expected 3, got 2", "genres.tags")


def outputs(*entries, partition: int = 4):
    """Each entry a record and its row; a run of its own, or all in one."""
    runs = [
        Run.of(
            Records.of([record for record, _ in some]),
            np.array([row for _, row in some]),
            Packed.of([IDS[row] if row >= 0 else record.key for record, row in some]),
        )
        for some in [[entry] for entry in entries]
    ]
    together = Run.of(
        Records.of([record for record, _ in entries]),
        np.array([row for _, row in entries]),
        Packed.joined([run.keys for run in runs]),
    )
    made = [
        tuple(map(list, span_outputs(Span(partition, 0, some), STAMP, DECISIONS, Packed.rows(SCORES))))
        for some in (runs, [together])
    ]
    assert made[0] == made[1]
    return made[0]


def test_the_headers_are_the_contracts():
    tags, scores = outputs((FakeRecord(18234, b"..."), 1))
    hashed = "tracks.probabilities|4|18234|0|20261122T094500Z-1a2b3c4d|9f03c2d1e4aa|"
    assert dict(tags[0].headers) == {
        "content-type": b"application/json",
        "decision-id": hashlib.sha256(hashed.encode()).hexdigest()[:16].encode(),
        "model": b"20261122T094500Z-1a2b3c4d",
        "thresholds": b"9f03c2d1e4aa",
    }
    assert dict(scores[0].headers) == {
        "model": b"20261122T094500Z-1a2b3c4d",
        "vocabulary": b"3f9c0a17b2de",
        "thresholds": b"9f03c2d1e4aa",
        "source": b"tracks.probabilities/4/18234/0",
    }
    assert len(tags[0].headers) == len(scores[0].headers) == 4, "none is written twice"


def test_values_keys_and_timestamps():
    tags, scores = outputs((FakeRecord(7, b"...", timestamp=1_234), 1), (FakeRecord(8, b"...", timestamp=-1), 0))
    assert [(r.key, r.value, r.timestamp_ms) for r in tags] == [("Tü-2".encode(), b"two", None), (b"T-1", b"one", None)]
    assert [(r.key, r.timestamp_ms) for r in scores] == [("Tü-2".encode(), 1_234), (b"T-1", None)]
    assert scores[0].value == SCORES[1].astype("<f2").tobytes(), "float16 little-endian and nothing else"
    assert np.frombuffer(scores[1].value, "<f2").tolist() == SCORES[0].tolist()


def test_a_decision_and_a_withdrawal_of_one_track_keep_their_order():
    tags, scores = outputs(
        (FakeRecord(1, b"...", b"T-1"), 0),
        (FakeRecord(2, None, b"T-1", timestamp=99), WITHDRAWN),
        (FakeRecord(3, b""), 2),
    )
    assert [(r.key, r.value) for r in tags] == [(b"T-1", b"one"), (b"T-1", None), (b"T-3", b"three")]
    assert [r.value is None for r in scores] == [False, True, False]
    assert tags[1].headers == scores[1].headers == [] and scores[1].timestamp_ms == 99


def test_rejected_rows_leave_nothing_here():
    assert outputs((FakeRecord(1, b""), REJECTED)) == ([], [])


def test_dead_letters_keep_the_original_headers_and_say_why():
    original = [("trace", b"\xff\x00"), ("content-type", b"application/json"), ("trace", b"again")]
    headers = deadletter_headers(original, WHY, "tracks.probabilities/3/17/0", "host-1", "2026-11-22T09:45:00.123Z")
    assert headers[:3] == original
    assert dict(headers[3:]) == {
        "error.code": b"wrong-length",
        "error.message": b"expected 3, got 2",
        "error.field": b"genres.tags",
        "source": b"tracks.probabilities/3/17/0",
        "worker": b"host-1",
        "failed_at": b"2026-11-22T09:45:00.123Z",
        "attempt": b"1",
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [([], b"1"), ([b"1"], b"2"), ([b"9"], b"10"), ([b"1", b"4"], b"5"), ([b"x"], b"1"), ([b"-3"], b"1"),
     ([b""], b"1"), ([None], b"1"), ([b"9" * 5_000], b"1"), ("٣".encode(), b"1")],
)  # fmt: skip
def test_attempts_are_counted_once_and_from_what_can_be_read(before, after):
    before = before if isinstance(before, list) else [before]
    headers = deadletter_headers([("attempt", value) for value in before], WHY, "s", "w", "t")
    assert [value for name, value in headers if name == "attempt"] == [after]


def test_a_lone_surrogate_does_not_stop_a_dead_letter():
    why = Rejected(Code.UNKNOWN_NAME, "name '\ud800' is unknown", "genres.tags.\ud800")
    assert dict(deadletter_headers([], why, "s", "w", "t"))["error.field"] == b"genres.tags.\\ud800"


def test_messages_are_headers_and_not_documents():
    assert len(Rejected(Code.NOT_JSON, "x" * 10_000, "y" * 10_000).message) == 500


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], "application/json"),
        ([("other", b"x")], "application/json"),
        ([("content-type", b"application/json; charset=utf-8")], "application/json"),
        ([("Content-Type", b" Application/JSON ")], "application/json"),
        ([("content-type", b"text/csv"), ("content-type", b"application/json")], "text/csv"),
        ([("content-type", None)], "application/json"),
        ([("content-type", b"\xff")], "\ufffd"),
    ],
)
def test_content_type(headers, expected):
    assert content_type(headers) == expected


def test_times_are_utc_with_milliseconds():
    assert utc_text(1_795_340_700_123.9) == "2026-11-22T09:45:00.123Z"
    assert utc_text(0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize("key", [b"T-1", b"x" * 256, "ü".encode() * 256])
def test_withdrawals_that_are_fine(key):
    check_withdrawal(key)


@pytest.mark.parametrize(
    ("key", "code", "words"),
    [
        (None, Code.EMPTY_VALUE, "no key"),
        (b"", Code.BAD_TRACK_ID, "0 characters"),
        (b"x" * 257, Code.BAD_TRACK_ID, "257 characters"),
        (b"\xff", Code.BAD_TRACK_ID, "not UTF-8"),
    ],
)
def test_withdrawals_of_nothing(key, code, words):
    with pytest.raises(Rejected, match=words) as refused:
        check_withdrawal(key)
    assert refused.value.code == code
