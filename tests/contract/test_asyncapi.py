"""docs/schema/asyncapi.json before the judge: AsyncAPI's own parser, a Node package, fetched once into the cache."""

import json
import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from ops.asyncapi import document
from streamer.core.batch import Run, Span
from streamer.core.events import Code, Rejected
from streamer.core.outputs import Stamp, deadletter_headers, span_outputs
from streamer.core.packed import Packed
from streamer.core.records import Records
from tests.fakes import FakeRecord
from tests.fixtures_services import start_or_skip
from tests.node_packages import installed

HERE = Path(__file__).with_name("asyncapi")
VALIDATE_S = 60

Judge = Callable[[dict[str, Any]], tuple[int, str]]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """AsyncAPI's parser: its exit code and what it says of a document."""
    packages = start_or_skip(partial(installed, HERE))
    place = tmp_path_factory.mktemp("asyncapi") / "asyncapi.json"

    def run(subject: dict[str, Any]) -> tuple[int, str]:
        place.write_text(json.dumps(subject))
        done = subprocess.run(
            ["node", str(HERE / "validate.js"), str(place)], check=False, capture_output=True, text=True,
            env={**os.environ, "NODE_PATH": str(packages / "node_modules")}, timeout=VALIDATE_S,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run


def test_asyncapi_s_parser_accepts_it_and_would_refuse_a_wrong_one(judge: Judge) -> None:
    code, said = judge(document())
    assert code == 0 and "error" not in said, said
    wrong = document()
    wrong["channels"]["tags"]["messages"]["decision"]["$ref"] = "#/components/messages/decided"
    wrong["operations"]["send-tags"]["action"] = "publish"
    code, said = judge(wrong)
    assert code == 1 and "send-tags.action" in said and "decided" in said, said


def schema(name: str) -> dict[str, Any]:
    """One of the document's schemas, with what it refers to."""
    return {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}


def test_what_is_published_has_these_headers() -> None:
    stamp = Stamp("tracks.probabilities", "20261122T094500Z-1a2b3c4d", "9f03c2d1e4aa", "3f9c0a17b2de")
    span = Span(3)
    span.runs.append(Run.of(Records.of([FakeRecord(18234, b"{}", b"T-1")]), np.zeros(1, np.int64), Packed.of([b"T-1"])))
    tags, scores = span_outputs(span, stamp, Packed.of([b"{}"]), Packed.rows(np.zeros((1, 2), np.float16)))
    why = Rejected(Code.NOT_JSON, "not JSON", "")
    dead = deadletter_headers([], why, "tracks.probabilities/3/1/0", "a", "2026-11-22T09:45:00.123Z")
    for name, headers in (
        ("DecisionHeaders", tags[0].headers), ("ScoresHeaders", scores[0].headers), ("DeadLetterHeaders", dead)
    ):  # fmt: skip
        written = {header: value.decode() for header, value in headers}
        jsonschema.validate(written, schema(name))
        known = document()["components"]["schemas"][name]["properties"]
        assert written.keys() <= known.keys()
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(dict(list(written.items())[1:]), schema(name))
