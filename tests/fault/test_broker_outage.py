"""The broker goes away under load and comes back on the same port with the same data: the worker mends itself."""

import time

import pytest

from ops.local.services import Services
from tests.fixtures_services import OwnServices
from tests.harness import Stream, eventually

STALL_S = 4.0

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


@pytest.mark.parametrize(("how", "away_s"), [("terminate", 10.0), pytest.param("kill", 1.0, marks=pytest.mark.slow)])
def test_a_broker_that_comes_back(how, away_s, own_services: OwnServices, services: Services, artefacts, tmp_path):
    kafka = own_services(redis=False)
    stream = Stream(kafka.kafka_bootstrap, services.redis_url, tmp_path, artefacts)
    try:
        _outage(stream, kafka, how, away_s)
    finally:
        stream.close()


def _outage(stream: Stream, kafka: Services, how: str, away_s: float) -> None:
    (worker,) = stream.start("a")
    pid = worker.pid
    load = stream.load(rate=1_000)
    load.wait(1_500)
    broker = kafka.brokers[0]
    began = time.monotonic()
    getattr(broker, how)()
    eventually(lambda: time.monotonic() >= began + away_s, away_s + 5, "the outage is over")
    broker.start()
    broker.wait_ready()
    back_ms = time.time() * 1000
    before = load.acked
    load.wait(before + 1_500)
    load.stop()
    report = stream.verify()
    recovered = min(d.at_ms for d in report.decisions if d.at_ms > back_ms) - back_ms
    print(
        f"broker {how}, {time.monotonic() - began:.0f} s in all: decisions came {recovered / 1000:.1f} s after it was "
        f"back; {report.duplicates} duplicates"
    )
    assert worker.is_running() and worker.pid == pid, f"the worker ended with {worker.exit_code}: {worker.log_tail()}"
    assert report.inputs > 3_000
    worker.terminate(30)
    assert worker.exit_code == 0, f"after the outage SIGTERM ended with {worker.exit_code}"


def test_sigterm_while_the_broker_is_away(own_services: OwnServices, services: Services, artefacts, tmp_path):
    """Nothing is in flight, so there is nothing to wait for: it must not take the forced end of half a minute."""
    kafka = own_services(redis=False)
    stream = Stream(kafka.kafka_bootstrap, services.redis_url, tmp_path, artefacts, stall_s=STALL_S)
    try:
        (worker,) = stream.start("a")
        assert worker.health()["kafka"] == "up"
        kafka.brokers[0].kill()
        killed = time.monotonic()
        eventually(lambda: worker.health().get("kafka") == "down", 15, "health says so", worker.health)
        away = "Kafka has not answered for"
        eventually(lambda: away in str(worker.health().get("stalled")), 30, "it is not ready", worker.health)
        assert worker.health()["ready"] is False
        eventually(lambda: time.monotonic() > killed + 2 * STALL_S, 3 * STALL_S, "the stall's time is over, twice")
        assert worker.is_running(), f"an outage must not end it: {worker.log_tail()}"
        began = time.monotonic()
        worker.terminate(28)
        took_s = time.monotonic() - began
        print(f"SIGTERM with the broker away took {took_s:.1f} s")
        assert worker.exit_code == 0, f"it ended with {worker.exit_code}: {worker.log_tail()}"
        assert took_s < 25, f"it took {took_s:.1f} s: two commits of 5 s each may be waited for, no more"
        assert "Traceback" not in worker.log()
    finally:
        stream.close()
