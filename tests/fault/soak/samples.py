"""What a soak looks at, each few seconds: every worker from the operating system's side, Redis, the lag.

One row per worker and moment. A row carries the process id: a restarted worker is another process, whose memory
must not be compared with its predecessor's.
"""

import contextlib
import csv
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil
import redis

from ops.local.services import Services
from ops.local.worker import WorkerProcess
from tests.harness import Stream

MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One worker at one moment; what belongs to the whole stream is repeated in each row of that moment."""

    at_s: float
    worker: str
    pid: int
    rss_mib: float
    uss_mib: float
    fds: int
    threads: int
    tasks: int
    kafka_connections: int
    redis_connections: int
    other_connections: int
    lag: int
    redis_mib: float
    redis_clients: int
    tables: int  # entries of `:tables`, which grow with each new table by design
    history: int  # entries of `:history`, likewise up to its cap


class Observer:
    """Samples in a thread of its own until it is stopped; a worker that is just restarting is left out."""

    def __init__(self, stream: Stream, services: Services, models: Sequence[str], interval_s: float) -> None:
        self.samples: list[Sample] = []
        self.error: BaseException | None = None
        self._stream, self._models, self._interval_s = stream, models, interval_s
        self._kafka_ports = {broker.port for broker in services.brokers}
        self._redis_port = services.redis.port if services.redis else 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._started_s = time.monotonic()

    def start(self) -> None:
        """Begin; the time of the samples counts from here."""
        self._started_s = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def now_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_s

    def latest(self) -> dict[str, Sample]:
        """The last sample of each worker."""
        return {sample.worker: sample for sample in self.samples}

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._look()
            except Exception as error:  # told by the soak's own thread, which ends the run
                self.error = error
                return

    def _look(self) -> None:
        at_s, lag, store = self.now_s(), self._stream.lag(), self._stream.redis
        memory, clients = store.info("memory"), store.info("clients")
        keys = self._stream.keys
        tables = sum(store.hlen(keys.tables(model)) for model in self._models)
        history = sum(_length(store, keys.history(model)) for model in self._models)
        for name, worker in list(self._stream.workers.items()):
            with contextlib.suppress(psutil.Error, OSError, KeyError):  # it is being restarted
                whole = (memory["used_memory"] / MIB, clients["connected_clients"], tables, history)
                self.samples.append(Sample(round(at_s, 1), name, worker.pid or 0, *self._process(worker), lag, *whole))

    def _process(self, worker: WorkerProcess) -> tuple[float, float, int, int, int, int, int, int]:
        process = psutil.Process(worker.pid)
        tasks = int(worker.metrics()["tagstream_asyncio_tasks"])
        memory = process.memory_full_info()
        remote = [link.raddr.port for link in process.net_connections("tcp") if link.raddr]
        kafka = sum(port in self._kafka_ports for port in remote)
        redis_links = remote.count(self._redis_port)
        return (
            memory.rss / MIB, memory.uss / MIB, process.num_fds(), process.num_threads(), tasks,
            kafka, redis_links, len(remote) - kafka - redis_links,
        )  # fmt: skip


def _length(store: redis.Redis, key: str) -> int:
    return int(store.xlen(key))  # type: ignore[arg-type]


def lives(samples: Sequence[Sample]) -> dict[tuple[str, int], list[Sample]]:
    """The samples by worker and process: each a life of its own."""
    found: dict[tuple[str, int], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.worker, sample.pid), []).append(sample)
    return found


def longest_life(samples: Sequence[Sample]) -> list[Sample]:
    """The life that was sampled over the longest time."""
    return max(lives(samples).values(), key=lambda life: life[-1].at_s - life[0].at_s, default=[])


def write_csv(samples: Sequence[Sample], path: Path) -> None:
    """All rows, for whoever wants to look closer."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows({name: _short(value) for name, value in asdict(sample).items()} for sample in samples)


def _short(value: object) -> object:
    return round(value, 2) if isinstance(value, float) else value
