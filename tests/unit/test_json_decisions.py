"""The decision encoder: byte for byte what json.dumps would write, and valid under the published model."""

import json
from itertools import pairwise

import numpy as np
import pytest

from streamer.adapters.json_decisions import ONE_BITS, JsonDecisionEncoder, decimals
from streamer.adapters.schema import Decision
from streamer.core.decide import decide, tag_classes
from streamer.core.ids import Origins
from streamer.core.layout import CLASSES, Layout
from streamer.core.packed import Packed

LAYOUT = Layout.build(
    "3f9c0a17b2de",
    {
        "genres": {"tags": ["indie-rock", 'a "quoted" \\ tag', "électro\n"], "categories": ["rock"]},
        "moods": {"tags": ["{braces}", "雨🎵", "\u2028"]},
    },
)
IDS = ["T-000123", 'qu"ote\\', "ид-🎵", "\x00\x1f\x7f", "x" * 256]
SHARED = {"model": "20261122T094500Z-1a2b3c4d", "thresholds": "9f03c2d1e4aa", "decided_at": "2026-11-22T09:45:00.123Z"}


def shortest(score: np.float16) -> float:
    return float(str(np.format_float_positional(score, unique=True)))


def straightforward(tags: list[list[int]], scores: np.ndarray, track_id: str, source: tuple) -> bytes:
    decision = {
        "track_id": track_id,
        "tags": {name: [LAYOUT.tags[t] for t in found] for name, found in zip(CLASSES, tags, strict=True)},
        "scores": {LAYOUT.tags[t]: shortest(scores[t]) for found in tags for t in found},
        "model": SHARED["model"],
        "thresholds": SHARED["thresholds"],
        "vocabulary": LAYOUT.fingerprint,
        "decided_at": SHARED["decided_at"],
        "source": dict(zip(("topic", "partition", "offset", "row"), source, strict=True)),
    }
    return json.dumps(decision, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 2.0])
def test_equals_json_dumps_and_is_a_decision(threshold):
    scores = np.random.default_rng(7).random((len(IDS), LAYOUT.n_tags)).astype(np.float16)
    scores[0, :3] = [0.5, -0.0, 1.0]
    decided = decide(scores, np.full(LAYOUT.n_tags, threshold), tag_classes(LAYOUT))
    sources = [("tracks.probabilities", 3, 18234 + row, row) for row in range(len(IDS))]
    ids = Packed.of([track_id.encode() for track_id in IDS])
    encoded = JsonDecisionEncoder(LAYOUT).encode(decided, scores, ids, Origins.of(sources), **SHARED)
    for row, value in enumerate(encoded):
        bounds = decided.bounds[row].tolist()
        tags = [decided.tags[a:b].tolist() for a, b in pairwise(bounds)]
        assert value == straightforward(tags, np.abs(scores[row]), IDS[row], sources[row])
        decision = Decision.model_validate_json(value)
        assert decision.track_id == IDS[row]
        assert decision.decided_at.isoformat(timespec="milliseconds") == "2026-11-22T09:45:00.123+00:00"
        for name, score in decision.scores.items():
            assert np.float16(score) == scores[row, LAYOUT.tags.index(name)]


def test_the_contract_s_example():
    layout = Layout.build(
        "3f9c0a17b2de", {"genres": {"tags": ["indie-rock"]}, "instruments": {"tags": ["bass-guitar"]}}
    )
    scores = np.array([[0.83, 0.41]], np.float16)
    decided = decide(scores, np.array([0.5, 0.4]), tag_classes(layout))
    source = ("tracks.probabilities", 3, 18234, 0)
    (value,) = JsonDecisionEncoder(layout).encode(
        decided, scores, Packed.of([b"T-000123"]), Origins.of([source]), **SHARED
    )
    assert value == (
        b'{"track_id":"T-000123","tags":{"genres":["indie-rock"],"instruments":["bass-guitar"],"moods":[]},'
        b'"scores":{"indie-rock":0.83,"bass-guitar":0.41},'
        b'"model":"20261122T094500Z-1a2b3c4d","thresholds":"9f03c2d1e4aa","vocabulary":"3f9c0a17b2de",'
        b'"decided_at":"2026-11-22T09:45:00.123Z",'
        b'"source":{"topic":"tracks.probabilities","partition":3,"offset":18234,"row":0}}'
    )


def test_every_decimal_is_json_and_reads_back_to_its_float16():
    table = decimals()
    assert len(table) == ONE_BITS + 1 == 15_361
    numbers = json.loads("[" + ",".join(table) + "]")
    assert all(type(number) is float for number in numbers)
    assert np.array(numbers).astype(np.float16).view(np.uint16).tolist() == list(range(ONE_BITS + 1))


def digits(text: str) -> int:
    return len(text.partition("e")[0].replace(".", "").strip("0")) or 1


def test_no_decimal_with_fewer_digits_reads_back():
    """Of the decimals with one digit fewer, the two around each float16 read back to another."""
    for bits, text in enumerate(decimals()):
        half = np.array(bits, np.uint16).view(np.float16)[()]
        if digits(text) == 1:
            continue
        shorter = f"{float(half):.{digits(text) - 2}e}"
        step = 10.0 ** (int(shorter.split("e")[1]) - (digits(text) - 2))
        for candidate in (float(shorter), float(shorter) - step, float(shorter) + step):
            assert np.float16(candidate) != half, (text, candidate)
