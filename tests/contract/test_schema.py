"""docs/schema is what the code obeys: regenerated and compared, the vectors recomputed from the contract's words."""

import hashlib
import json

import pytest

from ops.asyncapi import document
from ops.schema_changes import taken_away
from ops.schema_docs import FOLDER, PROMISED, RELEASED, documents, released, write
from streamer.adapters.schema import Decision, ProbabilityEvent


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_published_file_is_the_generated_one(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == documents()[name], "run python -m ops.schema_docs"


def test_nothing_else_is_published():
    assert {path.name for path in FOLDER.iterdir()} == {*documents(), RELEASED}
    for folder in (FOLDER / RELEASED).iterdir():
        assert {path.name for path in folder.iterdir()} == set(PROMISED)


def test_nothing_that_was_released_is_taken_away():
    before = json.loads((released() / "asyncapi.json").read_text(encoding="utf-8"))
    assert taken_away(before, document()) == []
    old, new = (json.loads((folder / "vectors.json").read_text(encoding="utf-8")) for folder in (released(), FOLDER))
    for name, vectors in old.items():
        assert all(vector in new[name] for vector in vectors), f"the vectors of {name} changed: ids of neighbours break"


def change(path, value):
    """A document with one place changed; a value of None takes it out."""

    def apply(subject):
        *way, last = path.split("/")
        place = subject
        for step in way:
            place = place[step]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return subject

    return apply


SCHEMAS = "components/schemas"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (f"{SCHEMAS}/Decision/properties/model", None, "tags.decision.payload.model is gone"),
        (f"{SCHEMAS}/Source/properties/row/type", "string", "tags.decision.payload.source.row: type was integer"),
        (f"{SCHEMAS}/Decision/required", ["track_id"], "tags.decision.payload.tags is no longer always there"),
        (f"{SCHEMAS}/ProbabilityEvent/required", ["track_id", "vocabulary"], "event.payload.vocabulary is asked for"),
        (f"{SCHEMAS}/ProbabilityEvent/properties/track_id/maxLength", 64, "track_id: maxLength was 256, is 64"),
        (f"{SCHEMAS}/Code/enum", ["not-json"], "the values not-arrow, wrong-shape"),
        (f"{SCHEMAS}/DecisionHeaders/properties/decision-id", None, "tags.decision.headers.decision-id is gone"),
        ("components/messages/decision/contentType", "text/plain", "tags.decision: the content type"),
        ("channels/tags/messages/gone", None, "tags: the message gone is gone"),
        ("channels/scores", None, "the channel scores is gone"),
        ("channels/tags/address", "tags", "tags: the topic was tracks.tags, is tags"),
        (f"{SCHEMAS}/ClassProbabilities/properties/tags/oneOf", [], "genres.tags: there were 2 forms, there are 0"),
    ],
)
def test_what_takes_away_is_told(path, value, told):
    found = taken_away(document(), change(path, value)(document()))
    assert any(told in one for one in found), found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{SCHEMAS}/Decision/properties/confidence", {"type": "number"}),
        (f"{SCHEMAS}/ProbabilityEvent/properties/isrc", {"type": "string"}),
        (f"{SCHEMAS}/Decision/description", "said better"),
        (f"{SCHEMAS}/Code/enum", [*document()["components"]["schemas"]["Code"]["enum"], "too-loud"]),
        ("channels/audit", {"address": "tracks.audit", "messages": {}}),
    ],
)
def test_an_addition_is_none(path, value):
    assert taken_away(document(), change(path, value)(document())) == []


def test_a_release_is_kept_beside_the_others(tmp_path):
    for version in ("0.9.0", "0.10.0"):
        write(tmp_path / RELEASED / version, PROMISED)
    assert released(tmp_path).name == "0.10.0"


def test_vectors_follow_from_the_contract_s_words():
    vectors = json.loads((FOLDER / "vectors.json").read_text(encoding="utf-8"))
    for vector in vectors["vocabulary"]:
        canonical = json.dumps(vector["input"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert canonical == vector["canonical"]
        assert hashlib.sha256(canonical.encode()).hexdigest()[:12] == vector["fingerprint"]
    for vector in vectors["thresholds"]:
        table = {tag: value if value == "off" else f"{float(value):.6f}" for tag, value in vector["input"].items()}
        canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert canonical == vector["canonical"]
        assert hashlib.sha256(canonical.encode()).hexdigest()[:12] == vector["version"]
    for vector in vectors["decision-id"]:
        parts = ("topic", "partition", "offset", "row", "model", "thresholds", "redecided")
        text = "|".join(str(vector["input"][part]) for part in parts)
        assert text == vector["text"]
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == vector["decision-id"]
    assert vectors["decision-id"][0]["text"].endswith("|")


def test_the_contract_s_examples_are_valid():
    half = {"tags": [0.02, 1], "categories": [0.11]}
    event = {"track_id": "T-000123", "vocabulary": "3f9c0a17b2de", "genres": half, "instruments": half, "moods": half}
    assert ProbabilityEvent.model_validate(event).genres.tags == [0.02, 1.0]
    decision = Decision.model_validate(
        {
            "track_id": "T-000123",
            "tags": {"genres": ["indie-rock"], "instruments": ["bass-guitar"], "moods": []},
            "scores": {"indie-rock": 0.83, "bass-guitar": 0.41},
            "model": "20261122T094500Z-1a2b3c4d",
            "thresholds": "9f03c2d1e4aa",
            "vocabulary": "3f9c0a17b2de",
            "decided_at": "2026-11-22T09:45:00.123Z",
            "source": {"topic": "tracks.probabilities", "partition": 3, "offset": 18234, "row": 0},
        }
    )
    assert decision.redecided is None
