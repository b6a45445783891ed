"""What `tagstream local up` started, written down so that `status` and `down` find it from any folder.

The state lives in the user's cache folder beside the data. Nothing in it is trusted blindly: a process is ours when
its number and its start time match, or when it is a server that works inside our data folder. So a pid that was
given to somebody else is left alone, and a server whose start was never written down is still found.
"""

import contextlib
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ops.errors import OpsError
from ops.local.jars import cache_dir, kafka_jars
from ops.local.kafka import Node
from ops.local.process import KILL_TIMEOUT_S, LocalProcess, same_process, wait_until
from ops.local.services import Services, make_services, plan_services

SERVER_NAMES = ("java", "redis-server")


@dataclass(frozen=True)
class UpResult:
    """Where the services answer, and what `up` had to do for it."""

    services: Services
    was_up: bool  # everything ran already
    restarted: tuple[str, ...]  # what had ended since (a reboot, say) and runs again with its data


def local_dir() -> Path:
    """The folder of `tagstream local`: state, lock and data."""
    return cache_dir() / "local"


def data_dir() -> Path:
    """The data of the servers that `up` started; `down` deletes them."""
    return local_dir() / "data"


def state_path() -> Path:
    """The file that says what is up."""
    return local_dir() / "state.json"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let one `up` or `down` of this user work at a time; the others wait for it."""
    try:
        local_dir().mkdir(parents=True, exist_ok=True)
        lock = (local_dir() / "lock").open("w")
    except OSError as error:
        raise OpsError(f"{local_dir()} cannot be written ({error.strerror}); set TAGSTREAM_CACHE_DIR.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def save(services: Services) -> None:
    """Write down what there is, aside and renamed into place."""
    state = {
        "cluster_id": services.brokers[0].cluster_id,
        "nodes": [vars(broker.node) for broker in services.brokers],
        "redis_port": services.redis.port if services.redis else None,
        "processes": {
            process.name: {"pid": process.pid, "create_time": process.create_time}
            for process in services.processes
            if process.pid is not None and process.create_time is not None
        },
    }
    aside = state_path().with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps(state, indent=1))
    aside.replace(state_path())


def load() -> Services | None:
    """Handles on what `up` started, running or not; None when nothing is up."""
    try:
        text = state_path().read_text()
    except FileNotFoundError:
        return None
    try:
        state: dict[str, Any] = json.loads(text)
        nodes = [Node(**node) for node in state["nodes"]]
        services = make_services(data_dir(), nodes, state["cluster_id"], state["redis_port"], die_with_parent=False)
        recorded = state["processes"]
        for process in services.processes:
            if process.name in recorded:
                process.attach(int(recorded[process.name]["pid"]), float(recorded[process.name]["create_time"]))
    except (ValueError, KeyError, TypeError) as error:
        raise OpsError(
            f"{state_path()} is not what `tagstream local up` wrote; `tagstream local down` clears it away."
        ) from error
    return services


def up(brokers: int | None = None) -> UpResult:
    """Start what is not running, leave it detached, return when all of it answers.

    Without a number of `brokers` it is that of the Kafka that is up, else one.
    """
    kafka_jars()  # the one long step comes before the lock, so that `down` need not wait for it
    with _alone():
        services = load()
        if services is not None:
            return _up_again(services, brokers)
        _end_servers_in(data_dir())
        shutil.rmtree(data_dir(), ignore_errors=True)
        services = plan_services(data_dir=data_dir(), die_with_parent=False, brokers=brokers or 1)
        save(services)
        try:
            _start(services)
        except BaseException:
            services.stop()
            _clear_away()
            raise
        return UpResult(services, was_up=False, restarted=())


def _up_again(services: Services, brokers: int | None) -> UpResult:
    """What is up stays as it is; what has ended since is started again on its port with its data."""
    if brokers is not None and len(services.brokers) != brokers:
        raise OpsError(f"a Kafka of {len(services.brokers)} broker(s) is up already: `tagstream local down` ends it.")
    ended = tuple(process.title for process in services.processes if not process.is_running())
    try:
        _start(services)
    except OpsError as error:
        raise OpsError(f"{error} `tagstream local down` clears it away.") from error
    return UpResult(services, was_up=not ended, restarted=ended)


def _start(services: Services) -> None:
    writing = threading.Lock()

    def write_down() -> None:
        with writing:
            save(services)

    services.start(on_started=write_down)
    services.wait_ready()


def down() -> list[str]:
    """End everything that `up` started, delete its data; returns the titles of what was still running."""
    with _alone():
        ended: list[str] = []
        with contextlib.suppress(OpsError):  # an unreadable state: the data folder still tells which are ours
            for process in _running(load()):
                process.kill()
                ended.append(process.title)
        ended += _end_servers_in(data_dir())
        _clear_away()
        return ended


def _running(services: Services | None) -> list[LocalProcess]:
    return [process for process in services.processes if process.is_running()] if services else []


def _clear_away() -> None:
    shutil.rmtree(data_dir(), ignore_errors=True)
    state_path().unlink(missing_ok=True)


def _end_servers_in(folder: Path) -> list[str]:
    """Kill this user's servers whose working folder is inside `folder`; returns their names."""
    found: list[tuple[int, float]] = []
    names: list[str] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() in SERVER_NAMES and Path(process.cwd()).is_relative_to(folder):
                process_id = (process.pid, process.create_time())
                names.append(process.name())
                process.kill()
                found.append(process_id)
    wait_until(lambda: not any(same_process(*process_id) for process_id in found), KILL_TIMEOUT_S)
    return names
