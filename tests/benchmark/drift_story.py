"""Drift on a simulated catalogue with trained models: a quiet time first, then three changes; and its picture.

    python -m tests.benchmark.drift_story docs/thresholds/drift.png

Two models are trained on the same tracks. Then real workers decide tracks of artists that neither has seen: five
windows as they come, in which every tag that is told to have moved is a false alarm; then with two thresholds changed,
with one of upstream's classes surer of itself, and with the other model. What the command says of each is printed.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model import artifact, config, synthetic, training
from model.dataset import load_splits
from model.registry import Registry
from ops.kafka_io import Event, event_json, produce_events
from ops.local.services import start_services
from ops.local.worker import WorkerProcess
from ops.thresholds_admin import ThresholdsAdmin
from streamer.adapters.kafka_topics import create_topics
from streamer.core.layout import Layout
from streamer.settings import load_settings

TRAINED_ON = 14_000
WINDOW_TRACKS = 1_700
QUIET, PHASES = 5, 3
TRACKS = 4 * WINDOW_TRACKS * (QUIET + PHASES)  # a quarter of them are of artists that nobody is trained on
WINDOW_S = 6.0
PARTITIONS = 4
SURER = 0.8  # added to the logits of the moods


class Story:
    """A stream with two workers, and what is asked about it."""

    def __init__(self, folder: Path, kafka: str, redis: str, layout: Layout) -> None:
        self._options: dict[str, object] = {
            "kafka_bootstrap": kafka, "redis_url": redis, "device": "cpu",
            "models_dir": folder / "models", "state_dir": folder / "state",
        }  # fmt: skip
        self.settings = load_settings(**self._options)
        self.environment = {f"TAGSTREAM_{name.upper()}": str(value) for name, value in self._options.items()}
        self.environment["TAGSTREAM_CACHE_DIR"] = str(folder / "cache")
        self.layout = layout
        self.workers = [WorkerProcess(name, self._options, folder=folder / name) for name in ("a", "b")]
        self._sent = 0

    def start(self) -> None:
        """Both workers ready."""
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            worker.wait_ready(120)

    def window(self, rows: NDArray[np.float64]) -> None:
        """These events, spread evenly over a window."""
        began_s, first = time.monotonic(), self._sent

        def events() -> Iterator[Event]:
            for number, row in enumerate(rows):
                track = f"T-{first + number:06d}"
                yield track.encode(), event_json(self.layout, track, row), ()

        asyncio.run(produce_events(self.settings, events(), len(rows) / (WINDOW_S - 0.5)))
        self._sent += len(rows)
        time.sleep(max(0.0, WINDOW_S - (time.monotonic() - began_s)))

    def ask(self, *words: object) -> str:
        """What a command prints."""
        command = [str(Path(sys.executable).with_name("tagstream")), *map(str, words)]
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def train(folder: Path) -> tuple[list[str], NDArray[np.float32], Layout, list[str]]:
    """Two models' versions, the rows that neither has seen, the layout, and the tags, most frequent first."""
    synthetic.synthesize(TRACKS, 1, folder / "data")
    parts = load_splits(folder / "data")
    mine = parts["train"].take(np.arange(TRAINED_ON))
    versions = []
    for name in ("demo", "linear"):
        versions.append(artifact.save(training.train(mine, config=config.load(name)), folder / "models"))
    Registry(folder / "models").set_alias("champion", versions[0], "story", "first")
    layout = Layout.build(mine.vocabulary.fingerprint, mine.vocabulary.classes)
    frequent = np.argsort(-mine.need_labels().sum(axis=0))
    return versions, parts["val"].probabilities, layout, [mine.vocabulary.tags[n] for n in frequent]


def told(report: dict) -> str:
    """One line of the story."""
    causes = [cause for one in report["tags"] for cause in one["causes"]]
    counts = ", ".join(f"{name} {causes.count(name)}" for name in ("thresholds", "inputs", "model"))
    return f"of {len(report['tags'])} tags moved by {counts}; of the probabilities {len(report['inputs'])}"


def main(picture: Path) -> None:
    """Tell the story; write the picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        versions, unseen, layout, frequent = train(folder)
        with start_services(data_dir=folder / "services", die_with_parent=True) as services:
            story = Story(folder, services.kafka_bootstrap, services.redis_url, layout)
            asyncio.run(create_topics(story.settings, PARTITIONS, 1))
            admin = ThresholdsAdmin(story.settings, "story")
            admin.promote(versions[0], "first")
            try:
                story.start()
                tell(story, admin, versions, unseen, frequent, picture)
            finally:
                for worker in story.workers:
                    worker.kill()


def tell(
    story: Story, admin: ThresholdsAdmin, versions: Sequence[str], unseen: NDArray[np.float32],
    frequent: Sequence[str], picture: Path,
) -> None:  # fmt: skip
    """All windows, and the command after each of the last ones."""
    layout = story.layout
    pieces = iter(np.array_split(unseen[: WINDOW_TRACKS * (QUIET + PHASES)].astype(np.float64), QUIET + PHASES))
    began_s = time.time()

    def report(windows: int) -> dict:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began_s))
        words = "--since", since, "--windows", windows, "--base", versions[0]
        return json.loads(story.ask("thresholds", "drift", *words, "--json"))

    for number in range(QUIET):
        story.window(next(pieces))
        print(f"nothing changed, window {number + 1}: {told(report(number + 1))}", flush=True)

    # to a half: the thresholds of two frequent tags
    edits = [f"{tag}={float(admin.live().tuned[tag]) / 2:.6f}" for tag in (frequent[4], frequent[7])]
    story.ask("thresholds", "set", *edits, "--why", "the story")
    story.window(next(pieces))
    print(f"{' '.join(edits)}: {told(report(QUIET + 1))}", flush=True)

    rows = next(pieces)
    moods = next(one for one in layout.lists if one.field == "moods.tags")
    logits = np.log(rows[:, moods.start : moods.stop].clip(1e-6, 1 - 1e-6))
    logits -= np.log1p(-np.exp(logits))
    rows[:, moods.start : moods.stop] = 1 / (1 + np.exp(-(logits + SURER)))
    story.window(rows)
    print(f"and upstream surer of moods: {told(report(QUIET + 2))}", flush=True)

    admin.promote(versions[1], "the story")
    story.window(next(pieces))
    print(f"and another model, with upstream as before: {told(report(QUIET + 3))}", flush=True)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began_s))
    words = "--since", since, "--windows", QUIET + PHASES, "--base", versions[0], "--picture", picture
    print(story.ask("thresholds", "drift", *words))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
