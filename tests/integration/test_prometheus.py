"""A real Prometheus scrapes two real workers: every query has an answer, and a stalled consumer is told."""

import math
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ops.grafana.make_dashboards import BOARDS
from ops.grafana.panels import EVERY
from tests.harness import BODIES, BODIES_SEED, Stream, eventually
from tests.prometheus import JOB, Prometheus, promtool, rules
from tests.references import add_reference, random_rows

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

SCRAPES_S = 30.0  # until what takes several scrapes is there
FIRES_S = 30.0
EVENTS_PER_S = 300.0
SERIES = re.compile(r"\b(?:up|[a-z_]*:?(?:tagstream|process)_[a-z0-9_:]+)\b")  # in an expression


def panel_queries() -> list[str]:
    """Every query of every dashboard, as Grafana would send it."""
    queries = [
        query.expr for board in BOARDS for _, panels in board.rows for panel in panels for query in panel.queries
    ]
    return [expr.replace("$job", JOB).replace(EVERY, "10s") for expr in queries]


def without_answer(prometheus: Prometheus) -> dict[str, list[float]]:
    """Queries that give nothing, or no number."""
    answers = {expr: prometheus.values(expr) for expr in panel_queries()}
    return {expr: values for expr, values in answers.items() if not values or not all(map(math.isfinite, values))}


def test_two_workers_are_seen_and_one_that_stalls_is_told(stream: Stream):
    of_the_load = np.tile(random_rows(BODIES, stream.layout.n_inputs, BODIES_SEED), (10, 1))
    add_reference(stream.models_dir / stream.artefacts.first, of_the_load)
    workers = [stream.worker("a"), stream.worker("b")]
    prometheus = Prometheus(stream.folder / "prometheus", [worker.port for worker in workers])
    with ThreadPoolExecutor() as side_by_side:
        watching = side_by_side.submit(lambda: (prometheus.start(), prometheus.wait_ready()))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.wait_ready()
        watching.result()
    try:
        stream.wait_assigned("a", "b")
        stream.load(rate=EVENTS_PER_S, withdraw_every=50)

        eventually(
            lambda: not without_answer(prometheus),
            SCRAPES_S,
            "every panel has its numbers",
            lambda: without_answer(prometheus),
        )
        known = set(prometheus.ask("label/__name__/values"))
        for rule in rules():
            names = set(SERIES.findall(rule["expr"]))
            assert names and names <= known, f"{rule}: no worker exports {names - known}"
        eventually(lambda: not prometheus.firing(), SCRAPES_S, "no alert fires while all is well", prometheus.firing)
        with urllib.request.urlopen(f"http://127.0.0.1:{workers[0].port}/metrics") as page:
            code, complaints = promtool("check", "metrics", given=page.read().decode())
        assert (code, complaints) == (0, ""), f"promtool on /metrics: {complaints}"

        workers[1].pause()
        stalled = ("TagstreamConsumerStalled", f"127.0.0.1:{workers[1].port}")
        eventually(lambda: stalled in prometheus.firing(), FIRES_S, f"{stalled} fires", prometheus.firing)
        names = {name for name, _ in prometheus.firing()}
        assert "TagstreamNoWorker" not in names, "the other one works on"
    finally:
        prometheus.kill()
