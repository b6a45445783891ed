"""docs/architecture.md is a map: what it names is there. (The layers themselves are held by `make lint`.)"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([A-Za-z0-9_./-]+\.py)`", PAGE)))
FLOW = [  # of one event, as the page must show it
    "streamer/adapters/faust_transport.py", "streamer/agents.py", "streamer/pipeline.py",
    "streamer/adapters/json_events.py", "streamer/core/batch.py", "streamer/adapters/torch_scorer.py",
    "streamer/core/decide.py", "streamer/adapters/json_decisions.py", "streamer/core/outputs.py",
    "streamer/adapters/kafka_sink.py", "streamer/core/watermark.py",
]  # fmt: skip


def found(name: str) -> list[Path]:
    """The files that a path, or the end of one, names."""
    folders = ("streamer", "model", "ops", "tests")
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py") if f"/{path}".endswith(f"/{name}")]


@pytest.mark.parametrize("name", NAMED)
def test_a_file_that_is_named_exists(name: str):
    assert found(name), f"docs/architecture.md names {name}, which does not exist"


@pytest.mark.parametrize("path", FLOW)
def test_every_stage_of_the_flow_is_on_the_map(path: str):
    assert (ROOT / path).is_file()
    assert any(ROOT / path in found(name) for name in NAMED), f"docs/architecture.md does not name {path}"
