"""How long something took that may have been broken off and gone on with: all stretches together."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.durable import write_aside


class Clock:
    """Seconds by the clock and of all threads; those of earlier stretches are read from `path`, where one is given."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.before_s, cpu_before_s = _spent(path)
        self._began, self._cpu_began = time.perf_counter() - self.before_s, time.process_time() - cpu_before_s

    def read(self) -> tuple[float, float]:
        """Seconds by the clock, and of all threads."""
        return time.perf_counter() - self._began, time.process_time() - self._cpu_began

    def keep(self) -> None:
        """Write down what has been spent so far."""
        if self._path:
            write_aside(self._path, json.dumps(self.read()).encode())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever ends what is done meanwhile, its time counts."""
        try:
            yield
        finally:
            self.keep()


def _spent(path: Path | None) -> tuple[float, float]:
    if path is None:
        return 0.0, 0.0
    try:
        seconds, cpu_seconds = map(float, json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return 0.0, 0.0
    return seconds, cpu_seconds
