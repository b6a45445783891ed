"""One `tagstream worker` as a process of its own, for the demo, the benchmarks and the tests.

Guarded like Kafka and Redis: it ends with its parent, even when that is killed.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.local.process import LocalProcess, free_ports, wait_until

HEALTH_TIMEOUT_S = 1.0


class WorkerProcess(LocalProcess):
    """A real worker; `settings` are TAGSTREAM_* names without the prefix, in lower case; `arguments` go to it."""

    title = "worker"

    def __init__(
        self,
        name: str,
        settings: Mapping[str, object],
        *,
        folder: Path,
        arguments: Sequence[str] = (),
        die_with_parent: bool = True,
    ) -> None:
        super().__init__(folder=folder, die_with_parent=die_with_parent)
        self.name = name
        self.title = f"worker {name}"
        self.port = free_ports(1)[0]
        own = {"worker": name, "metrics_port": self.port, "log_format": "json"}
        self._settings = {**settings, **own}
        self._arguments = list(arguments)

    def command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("tagstream")), "worker", *self._arguments]

    def environment(self) -> dict[str, str]:
        named = {f"TAGSTREAM_{name.upper()}": str(value) for name, value in self._settings.items()}
        return {**os.environ, **named}

    def answers(self) -> bool:
        """Whether it is ready: a model is served and partitions are assigned."""
        return bool(self.health().get("ready"))

    def health(self) -> dict[str, object]:
        """What /health says; empty while nobody listens there."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=HEALTH_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:  # 503: not ready, and why
            return json.load(error)
        except (OSError, ValueError):
            return {}

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics by name and labels, as they are written there."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def wait_exit(self, timeout_s: float) -> int | None:
        """Wait until it ends by itself: its exit code, or None when the time is up."""
        if not wait_until(lambda: not self.is_running(), timeout_s):
            return None
        self._wait_gone(timeout_s)
        return self.exit_code

    def log(self) -> str:
        """Everything it has logged."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
