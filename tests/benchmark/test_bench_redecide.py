"""`tagstream bench redecide` works: what changes beside a load is published, and nothing else. No times."""

import pytest

from ops.bench.redecide import run_redecide


@pytest.mark.kafka
@pytest.mark.redis
def test_a_re_decide_beside_a_load_is_measured(services, monkeypatch):
    for variable, address in services.environment().items():
        monkeypatch.setenv(variable, address)
    told = []
    report = run_redecide(6_000, 1, 300, 1, lambda title, done, total: told.append((title, done, total)))
    assert report["examined"] >= 6_000 and 20 <= report["changed"] <= 400
    assert all(one["events"] > 0 and 0 < one["p50_ms"] <= one["p99_ms"] for one in report["latency"].values())
    assert report["memory_mib"]["during"] > 0 and report["memory_grown_mib"] <= report["memory_grown_allowed_mib"]
    assert ("retaining scores", 6_000, 6_000) in told
