"""Redis goes away, loses everything, comes back: decisions never pause and no override silently reverts."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.redis import RedisServer
from ops.local.services import Services
from tests.fixtures_services import OwnServices
from tests.harness import TUNED, Artefacts, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

AWAY_S = 3.0
PAUSE_MAX_S = 1.0  # between two decisions under 1,000 events a second on a busy machine


@pytest.fixture
def redis(own_services: OwnServices) -> RedisServer:
    """A Redis of this test's own."""
    server = own_services(kafka=False).redis
    assert server is not None
    return server


@pytest.fixture
def stream(services: Services, redis: RedisServer, artefacts: Artefacts, tmp_path: Path) -> Iterator[Stream]:
    """A stream on it."""
    made = Stream(services.kafka_bootstrap, redis.url, tmp_path, artefacts)
    yield made
    made.close()


def obeyed(stream: Stream, tag: str, value: str) -> str:
    """Wait until every running worker decides under a table with this value; its version."""
    model = stream.artefacts.first

    def same() -> str:
        used = {str(worker.health().get("thresholds")) for worker in stream.workers.values() if worker.is_running()}
        version = used.pop() if len(used) == 1 else ""
        return version if version and stream.tables().get(version, {}).get(tag) == value else ""

    return eventually(same, 10, f"{tag} {value} is obeyed", lambda: stream.redis.hget(stream.keys.live(model), tag))


def test_redis_is_emptied_and_nothing_reverts(stream: Stream, redis: RedisServer):
    model, (ours, later) = stream.artefacts.first, stream.layout.tags[:2]
    live = stream.keys.live(model)
    workers = stream.start("a", "b")
    load = stream.load(rate=1_000)
    stream.redis.hset(live, ours, "0.25")
    before = obeyed(stream, ours, "0.250000")
    load.wait(1_000)
    stopped_ms = time.time() * 1000
    redis.terminate()
    redis.clear_data()
    eventually(lambda: all(w.health().get("redis") == "down" for w in workers), 10, "the workers see it is away")
    eventually(lambda: time.time() * 1000 > stopped_ms + AWAY_S * 1000, AWAY_S + 5, "the outage is over")
    assert {w.health()["thresholds"] for w in workers} == {before}, "another table while Redis was away"
    started_ms = time.time() * 1000
    redis.start()
    redis.wait_ready()
    eventually(lambda: all(w.health().get("redis") == "up" for w in workers), 10, "the workers see it again")
    restored = eventually(lambda: stream.redis.hgetall(live), 5, "the live hash is restored")
    assert restored[ours] == "0.250000" and len(restored) == len(stream.layout.tags), f"restored: {restored[ours]}"
    assert stream.redis.get(stream.keys.model) == model
    history = [entry for _, entry in stream.redis.xrange(stream.keys.history(model))]
    assert [e["action"] for e in history] == ["restore"] and history[0]["after"] == before, f"history: {history}"
    assert {w.health()["thresholds"] for w in workers} == {before}, "the override reverted"
    stream.redis.hset(live, later, "off")
    after = obeyed(stream, later, "off")
    load.wait(load.acked + 500)
    load.stop()
    report = stream.verify()
    away = report.longest_pause_s(stopped_ms, started_ms)
    print(f"Redis away {(started_ms - stopped_ms) / 1000:.1f} s and emptied: longest pause of decisions {away:.2f} s")
    assert away < PAUSE_MAX_S, f"no decision for {away:.2f} s while Redis was away"
    for partition in range(4):
        turns = [table for _, table in report.turns(partition)][-2:]
        assert turns == [before, after], f"partition {partition} was decided under {report.turns(partition)}"


def test_a_start_without_redis(stream: Stream, redis: RedisServer, tmp_path: Path):
    tag = stream.layout.tags[0]
    (first,) = stream.start("a")
    stream.redis.hset(stream.keys.live(stream.artefacts.first), tag, "0.125")
    last_good = obeyed(stream, tag, "0.125000")
    first.terminate()
    redis.terminate()
    load = stream.load(1_000, rate=1_000)
    again, peer = stream.start("a", "b")  # the peer has no file of its own: it takes the newest there is
    for worker in (again, peer):
        health = worker.health()
        assert (health["thresholds"], health["thresholds_source"]) == (last_good, "disk"), f"{worker.name}: {health}"
        assert worker.metrics()["tagstream_redis_up"] == 0
    load.finish()
    stream.settle()
    for worker in (again, peer):
        worker.terminate()
        assert worker.exit_code == 0, f"{worker.name} ended with {worker.exit_code}"
    stream.worker_settings["state_dir"] = tmp_path / "empty"
    (fresh,) = stream.start("fresh")
    health = fresh.health()
    tuned = {**stream.known_tables[last_good], tag: f"{TUNED:.6f}"}
    stream.known_tables[str(health["thresholds"])] = tuned  # verify() holds the version to be its hash
    assert health["thresholds_source"] == "tuned", f"a fresh worker: {health}"
    assert "deciding with the tuned table" in fresh.log()
    stream.load(500)
    report = stream.verify(tables=stream.known_tables)
    assert {table for _, table in report.versions()} == {last_good, health["thresholds"]}
    assert report.duplicates == 0
