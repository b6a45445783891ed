"""Writes docs/schema/: the JSON Schemas of event and decision, AsyncAPI, and test vectors for every id of the contract.

    python -m ops.schema_docs              after a change of the models
    python -m ops.schema_docs --release    with a release: what was promised under this version, kept for ever

Other teams' producers and consumers are built against these files, so they are generated from the code that obeys
them, and a contract test fails when the two differ, or when something that was released is taken away.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from model.vocabulary import Vocabulary
from ops import asyncapi
from streamer.adapters.schema import Decision, ProbabilityEvent
from streamer.core.ids import decision_id, source_text
from streamer.core.thresholds import ThresholdTable

FOLDER = Path(__file__).parents[1] / "docs" / "schema"
RELEASED = "released"
PROMISED = ("asyncapi.json", "vectors.json")  # what a later version is compared with
DIALECT = "https://json-schema.org/draft/2020-12/schema"

VOCABULARY: dict[str, dict[str, list[str]]] = {
    "genres": {"tags": ["indie-rock", "électro"], "categories": ["rock"]},
    "instruments": {"tags": ["bass-guitar"], "categories": []},
    "moods": {"tags": [], "categories": []},
}
TABLES: list[dict[str, float | str]] = [
    {"indie-rock": 0.5, "électro": 0.25, "bass-guitar": "off"},
    {"indie-rock": "0.5", "électro": "2.5e-1", "bass-guitar": "0.3333333"},
    {"indie-rock": 0, "électro": 1, "bass-guitar": 0.000001},
]
DECISION = {
    "topic": "tracks.probabilities",
    "partition": 3,
    "offset": 18234,
    "row": 0,
    "model": "20261122T094500Z-1a2b3c4d",
    "thresholds": "9f03c2d1e4aa",
}
RUNS = ("", "20261123T080000Z-5e6f7a8b")


def documents() -> dict[str, str]:
    """File name -> content of everything in docs/schema."""
    return {
        "probability-event.schema.json": _schema("probability-event", ProbabilityEvent),
        "decision.schema.json": _schema("decision", Decision),
        "asyncapi.json": _text(asyncapi.document()),
        "vectors.json": _text(
            {
                "vocabulary": [_vocabulary_vector()],
                "thresholds": [_thresholds_vector(table) for table in TABLES],
                "decision-id": [_decision_id_vector(run) for run in RUNS],
                "source": [_source_vector()],
            }
        ),
    }


def _schema(name: str, model: type[BaseModel]) -> str:
    return _text({"$schema": DIALECT, "$id": f"{name}.schema.json", **model.model_json_schema()})


def _vocabulary_vector() -> dict[str, Any]:
    vocabulary = Vocabulary.build(VOCABULARY)
    canonical = vocabulary.to_json()
    return {
        "rule": "the first 12 hex digits of the sha256 of the canonical JSON, as UTF-8",
        "input": VOCABULARY,
        "canonical": canonical,
        "sha256": hashlib.sha256(canonical.encode()).hexdigest(),
        "fingerprint": vocabulary.fingerprint,
    }


def _thresholds_vector(table: dict[str, float | str]) -> dict[str, Any]:
    built = ThresholdTable.build(list(table), table, {})
    return {
        "rule": "the first 12 hex digits of the sha256 of the canonical JSON, as UTF-8",
        "input": table,
        "canonical": built.canonical,
        "sha256": hashlib.sha256(built.canonical.encode()).hexdigest(),
        "version": built.version,
    }


def _decision_id_vector(run: str) -> dict[str, Any]:
    hashed = "|".join([*map(str, DECISION.values()), run])
    return {
        "rule": "the first 16 hex digits of the sha256 of the text, as UTF-8",
        "input": {**DECISION, "redecided": run},
        "text": hashed,
        "sha256": hashlib.sha256(hashed.encode()).hexdigest(),
        "decision-id": decision_id(**DECISION, redecide_run=run),  # type: ignore[arg-type]
    }


def _source_vector() -> dict[str, Any]:
    given = {name: DECISION[name] for name in ("topic", "partition", "offset", "row")}
    return {"rule": "topic/partition/offset/row", "input": given, "source": source_text(**given)}  # type: ignore[arg-type]


def _text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def released(folder: Path = FOLDER) -> Path:
    """The folder of the last release; its name is the version."""
    versions = [path for path in (folder / RELEASED).iterdir() if path.is_dir()]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))))


def write(folder: Path, names: Iterable[str]) -> None:
    """These documents into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(documents()[name], encoding="utf-8")
        print(f"wrote {folder / name}")


def main(*words: str) -> None:
    write(FOLDER, documents())
    if "--release" in words:
        write(FOLDER / RELEASED / version("tagstream"), PROMISED)


if __name__ == "__main__":
    main(*sys.argv[1:])
