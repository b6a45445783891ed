"""The composed system as a person at its machine has it: compose, the engine, and two ports on loopback."""

import json
import os
import shlex
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
PROJECT = "tagstream-compose-test"
BEAT_S = 1.0
POLL_S = 0.5
STATUS_NAMES = ("Uid", "CapEff", "NoNewPrivs")

T = TypeVar("T")


class Failed(Exception):
    """What was asked of the composed system does not hold."""


def eventually(what: Callable[[], T], timeout_s: float, saying: str) -> T:
    """What `what` gives as soon as it is true."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := what()):
        if time.monotonic() > deadline_s:
            raise Failed(f"not within {timeout_s:g} s: {saying}")
        time.sleep(POLL_S)
    return found


class Stack:
    """One project; `variables` are those that docker-compose.yml reads."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.command = [*shlex.split(os.environ["COMPOSE"]), "--project-name", PROJECT, "--project-directory", "."]
        self._engine = os.environ["ENGINE"]
        self.environment = {**os.environ, **variables, "COMPOSE_PROGRESS": "plain"}

    def compose(self, *arguments: object, timeout_s: float = 300) -> str:
        """What a compose command prints; its own words when it fails."""
        return self._run([*self.command, *map(str, arguments)], timeout_s)

    def engine(self, *arguments: object, timeout_s: float = 60) -> str:
        """What the engine's own client prints."""
        return self._run([self._engine, *map(str, arguments)], timeout_s)

    def _run(self, command: Sequence[str], timeout_s: float) -> str:
        done = self._ended(command, timeout_s)
        if done.returncode:
            said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
            raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
        return done.stdout

    def _ended(self, command: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, check=False, capture_output=True, text=True,
            timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def job(self, service: str, *words: object, options: Sequence[str] = (), timeout_s: float = 300) -> str:
        """What a container that is made for one command prints; the engine is asked how it ended.

        (Podman's answer to `compose run --rm` is 0 whatever the command said.)
        """
        name = f"{PROJECT}-{service}-{uuid.uuid4().hex[:8]}"
        command = [*self.command, "run", "-T", "--name", name, *options, service, *map(str, words)]
        done = self._ended(command, timeout_s)
        code = self.look(name)["State"]["ExitCode"]
        self.engine("rm", "--force", name)
        if code or done.returncode:
            raise Failed(f"{service} {' '.join(map(str, words))} ended with {code}: {done.stderr[-1500:]}")
        return done.stdout

    def tagstream(self, *words: object) -> dict[str, Any]:
        """A command of tagstream in the network, with ops' rights; its --json."""
        return json.loads(self.job("cli", *words, "--json"))

    def containers(self, service: str | None = None) -> list[str]:
        """Ids of the containers, of all services or of one."""
        return self.compose("ps", "--all", "--quiet", *([service] if service else [])).split()

    def look(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        (found,) = json.loads(self.engine("inspect", container))
        return found

    def process(self, container: str) -> dict[str, str]:
        """What the kernel says of a running container's first process."""
        pid = self.look(container)["State"]["Pid"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        known = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return {"pid": str(pid), **{name: known[name] for name in STATUS_NAMES}}

    def logs(self) -> str:
        """The last lines of every service."""
        return self.compose("logs", "--tail", "25")


class HealthBeat:
    """Runs the health checks where no systemd does it for podman; with Docker there is nothing to do."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "HealthBeat":
        if os.environ["ENGINE"] == "podman":
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(60)

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(Failed, subprocess.TimeoutExpired):
                for container in self._stack.engine("ps", "--quiet").split():
                    with suppress(Failed, subprocess.TimeoutExpired):
                        self._stack.engine("healthcheck", "run", container)
