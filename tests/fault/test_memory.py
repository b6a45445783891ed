"""`bench memory` works and its outputs are right: short runs on real parts, on demand only (slow)."""

import json
from pathlib import Path

import pytest

from ops.bench.memory import MemoryRun, run_backlog, run_overload
from ops.bench.memory_report import COLUMNS, draw, table_rows, verdict

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(400)]


def nobody(_title: str, _done: int, _total: int) -> None:
    """Nobody watches the progress."""


def held(run: MemoryRun, folder: Path) -> None:
    """What both kinds of run must show."""
    assert not run.failures, run.failures
    assert run.figures["outputs"] == run.figures["events"] > 0
    assert run.figures["joins"] == 1 and run.figures["heartbeat_complaints"] == 0
    assert run.figures["above_idle_mib"] <= run.figures["bound_above_idle_mib"]
    assert run.samples[-1].lag == 0
    draw([run], folder / "memory.png")
    assert (folder / "memory.png").stat().st_size > 5_000
    assert len(table_rows([run])[0]) == len(COLUMNS) and "flat" in verdict(run)
    json.dumps(run.as_report())


def test_half_a_minute_of_overload_piles_up_and_drains(tmp_path: Path):
    run = run_overload(0.5, carries_per_s=50, partitions=4, on_progress=nobody)
    held(run, tmp_path)
    assert run.figures["load_per_s"] > 450


def test_a_small_backlog_drains(tmp_path: Path):
    held(run_backlog(1.0, partitions=4, on_progress=nobody), tmp_path)
