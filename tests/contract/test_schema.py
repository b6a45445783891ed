"""docs/schema is what the code obeys: regenerated and compared, the vectors recomputed from the contract's words."""

import hashlib
import json

import pytest

from ops.schema_docs import FOLDER, documents, main
from streamer.adapters.schema import Decision, ProbabilityEvent


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_published_file_is_the_generated_one(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == documents()[name], "run python -m ops.schema_docs"


def test_nothing_else_is_published_and_main_writes_it_all(tmp_path):
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()} == set(documents())


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
