"""What a person at the console works with: a small trained model, a stream, two real workers, the console."""

import asyncio
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from model import artifact, training
from model.dataset import Dataset
from ops.kafka_io import event_json, produce_events, read_topic
from ops.local.process import LocalProcess, free_ports
from ops.local.services import Services
from ops.local.worker import WorkerProcess
from ops.thresholds_admin import ThresholdsAdmin
from streamer.adapters.kafka_topics import create_topics
from streamer.core.layout import Layout
from streamer.settings import load_settings
from tests.harness import eventually
from tests.model_data import SMALL, make_dataset, quick

TRACKS = 300
PARTITIONS = 4
HOSTILE = "<script>alert('T-1')</script>"
SETTLE_S = 30.0

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` beside Playwright, whose own loop goes on in the test's thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class ConsoleProcess(LocalProcess):
    """A real `tagstream console` on a port of its own."""

    title = name = "console"

    def __init__(self, folder: Path, settings: Mapping[str, object], *arguments: str) -> None:
        super().__init__(folder=folder, die_with_parent=True)
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = {**settings, "console_port": self.port}
        self._arguments = arguments

    def command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("tagstream")), "console", *self._arguments]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **{f"TAGSTREAM_{name.upper()}": str(value) for name, value in self._settings.items()}}

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/login", timeout=1):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


class Stage:
    """One stream with two workers; everything ends with `close`."""

    def __init__(self, services: Services, folder: Path) -> None:
        mark = f"console-{uuid.uuid4().hex[:6]}"
        topics = ("probabilities", "tags", "scores", "deadletter")
        self.folder = folder
        self.fields: dict[str, object] = {
            "kafka_bootstrap": services.kafka_bootstrap, "redis_url": services.redis_url, "redis_prefix": f"{mark}:",
            "group": mark, "models_dir": folder / "models", "state_dir": folder / "state", "device": "cpu",
            **{f"topic_{name}": f"{mark}.{name}" for name in topics},
        }  # fmt: skip
        self.settings = load_settings(**self.fields)
        self.admin = ThresholdsAdmin(self.settings, who="stage")
        self.layout = Layout.build(SMALL.fingerprint, SMALL.classes)
        self.data: Dataset = make_dataset(TRACKS)
        self.workers: list[WorkerProcess] = []
        self.consoles: list[ConsoleProcess] = []
        self._folder = folder

    def start(self) -> None:
        """Workers and the console come up beside each other, on a model that is trained on the spot."""
        trained = training.train(self.data, None, quick("linear"))
        self.model = artifact.save(trained, self.folder / "models")
        run(create_topics(self.settings, PARTITIONS))
        self.admin.promote(self.model, "the first model")
        for name in ("worker-a", "worker-b"):
            self.workers.append(WorkerProcess(name, self.fields, folder=self.folder / name))
        self.console = self.a_console()
        for process in (*self.workers, self.console):
            process.start()
        self.produce(bad=True)
        for process in (*self.workers, self.console):
            process.wait_ready()
        self.settle()

    def a_console(self, *arguments: str, **more: object) -> ConsoleProcess:
        """A console on this stream, not started yet."""
        # its cache of retained scores is its own; the jars stay where they are
        cache = {"cache_dir": self.folder / "cache"}
        number = len(self.consoles)
        made = ConsoleProcess(self.folder / f"console-{number}", {**self.fields, **cache, **more}, *arguments)
        self.consoles.append(made)
        return made

    def produce(self, *, bad: bool = False) -> None:
        """An event of every track; with `bad` also some that can never be decided."""
        events = [
            (track.encode(), event_json(self.layout, track, row), ())
            for track, row in zip([*self.data.track_ids, HOSTILE], self._rows(), strict=True)
        ]
        if bad:
            events += [(f"BAD-{n}".encode(), b"not json <b>at all</b>", ()) for n in range(3)]
        run(produce_events(self.settings, events))

    def _rows(self) -> np.ndarray:
        rows = self.data.probabilities
        return np.vstack([rows, rows[:1]])

    def settle(self, version: str | None = None) -> dict[str, dict[str, Any]]:
        """The newest decision of every track, as soon as all are there (all under that thresholds version)."""

        def complete() -> dict[str, dict[str, Any]]:
            found = self.decisions()
            of_version = [one for one in found.values() if version in (None, one["thresholds"])]
            return found if len(of_version) == len(self.data) + 1 else {}

        return eventually(complete, SETTLE_S, f"every track is decided under {version}")

    def decisions(self) -> dict[str, dict[str, Any]]:
        """The newest of every track by now."""

        async def read() -> dict[str, dict[str, Any]]:
            found = {}
            async for record in read_topic(self.settings, self.settings.topic_tags, from_start=True, follow=False):
                value = orjson.loads(record.value or b"{}")
                found[value["track_id"]] = value
            return found

        return run(read())

    def close(self) -> None:
        """End every process; what they complained about is printed, for a failed test."""
        for process in (*self.consoles, *self.workers):
            process.kill()
            lines = process.log_path.read_text(errors="replace").splitlines() if process.log_path.exists() else []
            print(f"{process.name}:", *[line for line in lines if '"level": "info"' not in line][-15:], sep="\n  ")


def having(decisions: Mapping[str, Mapping[str, Any]], tag: str) -> set[str]:
    """The tracks that were given a tag."""
    return {track for track, one in decisions.items() if any(tag in names for names in one["tags"].values())}
