"""One server process of ours: started, killed, ended and started again on the same port with the same data.

Two ways of living: *guarded* processes end with their parent (demo, tests; see guard.py), *detached* ones
outlive it (`tagstream local up`) and hold none of its pipes.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from ops.errors import OpsError

POLL_INTERVAL_S = 0.05
READY_TIMEOUT_S = 60.0
TERMINATE_TIMEOUT_S = 20.0
KILL_TIMEOUT_S = 10.0
# The kernel derives a process's start from the clock, which may be set in between.
CREATE_TIME_TOLERANCE_S = 2.0
# Java's last line is often the innermost frame or a notice: these begin or mark the lines that tell.
TELLING_MARKS = ("Caused by:", " ERROR ", " FATAL ", "OutOfMemoryError", "Exception in thread")
LOG_LINE_CHARACTERS = 300

# Below the range from which systems take outgoing ports (Linux 32768, others 49152): a client that keeps
# connecting to a stopped broker's port inside that range can end up connected to itself, and the broker never
# gets its port back.
FIRST_PORT, LAST_PORT = 20_000, 31_999

_GUARD = Path(__file__).with_name("guard.py")


def free_ports(count: int) -> list[int]:
    """Distinct ports on 127.0.0.1 that nobody listens on, held until all are found."""
    # Not the module's generator: a seeded test run would try the same ports as its neighbour.
    candidates = random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT + 1), 200)
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        for port in candidates:
            if len(ports) == count:
                break
            sock = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                ports.append(port)
    if len(ports) < count:
        raise OpsError(f"no {count} free ports between {FIRST_PORT} and {LAST_PORT} on 127.0.0.1.")
    return ports


def same_process(pid: int, create_time: float) -> bool:
    """Whether `pid` is still the process that started at `create_time`, not a newer one with its number."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - create_time) <= CREATE_TIME_TOLERANCE_S
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll `condition` until it holds (True) or the time is up (False)."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True


class LocalProcess:
    """A server process and its folder; subclasses say what to run, how to prepare, and what ready means."""

    title: str = "process"  # for people
    name: str = "process"  # for state files and folders

    def __init__(self, *, folder: Path, die_with_parent: bool) -> None:
        self.folder = folder.absolute()
        self.die_with_parent = die_with_parent
        self.log_path = self.folder / "server.log"
        self.pid: int | None = None
        self.create_time: float | None = None
        self.exit_code: int | None = None  # of the last run, once it is gone; negative for a signal's number
        self._log_start = 0  # where the log of the last start begins
        self._popen: subprocess.Popen[bytes] | None = None  # the guard, or the detached server itself

    def command(self) -> list[str]:
        """The server's command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str] | None:
        """The server's environment; None means ours."""
        return None

    def prepare(self) -> None:
        """Make what the server needs before its first start; called before every start."""

    def answers(self) -> bool:
        """Whether the server answers a real request now."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server (again): same port, same data. Does not wait until it is ready."""
        if self.is_running():
            raise OpsError(f"{self.title} is already running (pid {self.pid}).")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            if self.die_with_parent:
                self._start_guarded(log.fileno())
            else:
                self._popen = subprocess.Popen(
                    self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    cwd=self.folder, env=self.environment(), start_new_session=True,
                )  # fmt: skip
                self.pid = self._popen.pid
        assert self.pid is not None
        try:
            self.create_time = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            self.create_time = time.time()  # it ended at once: wait_ready says so

    def _start_guarded(self, log_fd: int) -> None:
        # In a session of its own, so that Ctrl-C reaches the parent alone, which then ends things in order.
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_GUARD), *self.command()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log_fd,
            cwd=self.folder, env=self.environment(), start_new_session=True,
        )  # fmt: skip
        assert self._popen.stdout is not None
        with self._popen.stdout as pid_pipe:
            line = pid_pipe.readline()
        if not line:
            raise OpsError(f"{self.title} could not be started: {self.log_tail()}")
        self.pid = int(line)

    def attach(self, pid: int, create_time: float) -> None:
        """Take over a detached server that another process started."""
        self.pid, self.create_time, self._popen = pid, create_time, None

    def is_running(self) -> bool:
        """Whether the server itself (not only its guard) is alive."""
        if self.pid is None or self.create_time is None:
            return False
        if self._popen is not None and self._popen.poll() is not None and self.die_with_parent is False:
            return False
        return same_process(self.pid, self.create_time)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the server answers a real request; raise when it ended or the time is up."""
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if not self.is_running():
                raise OpsError(f"{self.title} ended while starting: {self.log_tail()}")
            if time.monotonic() >= deadline:
                raise OpsError(f"{self.title} did not answer within {timeout_s:.0f} s; its log is {self.log_path}.")
            time.sleep(POLL_INTERVAL_S)

    def kill(self) -> None:
        """SIGKILL to the server itself, as a machine failure would; returns when it is gone."""
        self._signal(signal.SIGKILL)
        if not self._wait_gone(KILL_TIMEOUT_S):
            raise OpsError(f"{self.title} (pid {self.pid}) is still there after SIGKILL.")

    def terminate(self, timeout_s: float = TERMINATE_TIMEOUT_S) -> None:
        """SIGTERM and wait; SIGKILL after `timeout_s`. Returns when it is gone."""
        self._signal(signal.SIGTERM)
        if not self._wait_gone(timeout_s):
            self.kill()

    def pause(self) -> None:
        """SIGSTOP: the server hangs but its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None and self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _wait_gone(self, timeout_s: float) -> bool:
        """Wait for the server and then for its guard; the guard's pipe is closed with it."""
        if not wait_until(lambda: not self.is_running(), timeout_s):
            return False
        if self._popen is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.exit_code = self._popen.wait(KILL_TIMEOUT_S)
            if self._popen.stdin is not None:
                self._popen.stdin.close()
            self._popen = None
        return True

    def log_tail(self) -> str:
        """The line of its log since the last start that best says what went wrong, and where to read the rest."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        telling = [line for line in lines if any(mark in line for mark in TELLING_MARKS)] or lines
        last = telling[-1].strip()[:LOG_LINE_CHARACTERS] if telling else "it wrote nothing"
        return f"{last} (log: {self.log_path})"
