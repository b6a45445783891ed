"""The soak works: three quarters of a minute of it, with every kind of deed, and its report. On demand only (slow)."""

import json
from pathlib import Path

import pytest

from tests.fault.soak.run import soak
from tests.fault.soak.stage import Plan

SECONDS = 50.0


@pytest.mark.kafka
@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_short_soak_swaps_switches_restarts_and_is_judged(tmp_path: Path):
    said: list[str] = []
    plan = Plan(SECONDS, seed=3, rate=200, swap_s=4, switch_s=11, restart_s=19, redecide_s=15, sample_s=1)
    figures, failures = soak(plan, tmp_path / "soak", said.append)
    print("\n".join(said))
    assert not failures, failures
    report = json.loads((tmp_path / "soak" / "report.json").read_text())
    done = {what: one["count"] for what, one in report["done"].items()}
    assert done["swap"] >= 5 and done["switch"] >= 2 and done["restart"] >= 1 and done["re-decide"] >= 1, done
    assert len(report["exit_codes"]) == done["restart"] + 2 and set(report["exit_codes"]) == {0}
    assert figures["judged_worker"] == "elder" and len(figures["lives"]) == done["restart"] + 2
    assert "decided" in report["checker"] and report["events"] > 0.5 * SECONDS * plan.rate
    for name in ("samples.csv", "report.md", "soak.png"):
        assert (tmp_path / "soak" / name).stat().st_size > 500, name
