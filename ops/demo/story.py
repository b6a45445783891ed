"""The demo, in the order in which a newcomer sees it.

Everything in it is real: Apache Kafka, redis-server, a model trained on the spot, worker processes, a kill -9. It
ends with 0 only if what it shows is what it promises.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from model import artifact, config, synthetic, training
from model.dataset import Dataset, load_splits
from model.registry import Registry
from model.served import title
from ops.cli.output import progress_bar
from ops.demo.malformed import malformed_events
from ops.demo.observer import Observed, Observer, group_lag
from ops.demo.summary import Figures, f1_pair, latencies_ms, print_summary, print_tracks, rate_before
from ops.errors import OpsError
from ops.kafka_io import event_json, produce_events
from ops.local.services import Services, services_from_environment_or_start
from ops.local.worker import WorkerProcess
from ops.thresholds_admin import ThresholdsAdmin, Written
from streamer.adapters.kafka_topics import create_topics
from streamer.core.layout import Layout
from streamer.settings import Settings, load_settings

TRACKS = 20_000
STREAMED = 5_000
RATE_PER_S = 800.0  # so that the stream still flows while thresholds are swapped and a worker is killed
PARTITIONS = 6
SWAP_AT, MALFORMED_AT, KILL_AT = 0.25, 0.45, 0.65  # shares of the stream
SWAP_BY = 0.1
FINISH_TIMEOUT_S = 60.0
OBEY_TIMEOUT_S = 5.0


class Demo:
    """One run: `prepare`, then `stream`, then `conclude`."""

    def __init__(self, console: Console, folder: Path, data: Path | None) -> None:
        self._console = console
        self._folder = folder
        self._data = data
        self._started_s = time.monotonic()
        self.workers: list[WorkerProcess] = []

    def tell(self, text: str) -> None:
        """A step of the story, with the time since the beginning."""
        self._console.print(f"[{time.monotonic() - self._started_s:5.1f} s] {text}", markup=False, soft_wrap=True)

    # Before the stream

    def start_services(self) -> Services:
        """Kafka and Redis; those of the environment are used under names of this run's own."""
        self.tell("starting Apache Kafka and redis-server ...")
        services = services_from_environment_or_start(data_dir=self._folder / "services", die_with_parent=True)
        self.tell(f"Kafka at {services.kafka_bootstrap}, Redis at {services.redis_url.rpartition('@')[2]}")
        return services

    def settings(self, services: Services) -> Settings:
        """The run's settings: a foreign Kafka or Redis gets topics, group and keys that cannot meet anyone's."""
        names: dict[str, object] = {}
        if not services.brokers or services.redis is None:
            mark = f"demo-{secrets.token_hex(3)}"
            topics = ("probabilities", "tags", "scores", "deadletter")
            names = {f"topic_{topic}": f"{mark}.tracks.{topic}" for topic in topics}
            names |= {"group": mark, "redis_prefix": f"{mark}:"}
        return load_settings(
            kafka_bootstrap=services.kafka_bootstrap,
            redis_url=services.redis_url,
            models_dir=self._folder / "models",
            state_dir=self._folder / "state",
            **names,
        )

    def load_data(self) -> tuple[Dataset, Dataset]:
        """Tracks to train on, and tracks of other artists to stream."""
        source = self._data
        if source is None:
            source = self._folder / "data"
            self.tell(f"synthesizing {TRACKS:,} tracks ...")
            synthetic.synthesize(TRACKS, 0, source)
        splits = load_splits(source)
        held_out = splits.get("val") or splits.get("test")
        if held_out is None or held_out.labels is None:
            raise OpsError(f"{source} has no labelled val/ beside train/: the demo streams tracks it did not train on.")
        rows = np.random.default_rng(0).permutation(len(held_out))[:STREAMED]
        streamed = held_out.take(np.sort(rows))
        self.tell(f"{len(splits['train']):,} tracks to train on, {len(streamed):,} others to stream")
        return splits["train"], streamed

    def train(self, dataset: Dataset, models_dir: Path) -> str:
        """A small model with cross-fitted thresholds; returns its version."""
        self.tell("training: reservoir, transformer and head; thresholds from tracks each fold has not seen ...")
        with progress_bar() as bar:
            task = bar.add_task("training", total=None)
            trained = training.train(
                dataset,
                None,
                # Of two folds each learns from half the tracks: too few to show that a network pays (jamendo-hot).
                replace(config.load("demo"), folds=3),
                progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            )
        version = artifact.save(trained, models_dir)
        self.tell(f"model {version}, trained in {trained.seconds:.0f} s, serves: {title(trained.metrics['served'])}")
        return version

    def start_workers(self, settings: Settings) -> None:
        """Two worker processes of one group; returns when both own partitions."""
        fields = ("topic_probabilities", "topic_tags", "topic_scores", "topic_deadletter", "group", "redis_prefix")
        shared = {name: getattr(settings, name) for name in (*fields, "kafka_bootstrap", "models_dir", "state_dir")}
        shared["redis_url"] = settings.redis_url.get_secret_value()
        for name in ("worker-a", "worker-b"):
            worker = WorkerProcess(name, shared, folder=self._folder / name)
            worker.start()
            self.workers.append(worker)
        for worker in self.workers:
            worker.wait_ready()
            self.tell(f"{worker.name} is ready: pid {worker.pid}, http://127.0.0.1:{worker.port}/metrics")

    # The stream

    async def stream(self, settings: Settings, layout: Layout, tracks: Dataset, admin: ThresholdsAdmin) -> Figures:
        """Produce, swap, send rubbish, kill; returns what was seen once all of it has come out."""
        observer = Observer(settings)
        await observer.start()
        try:
            return await self._stream(settings, layout, tracks, admin, observer)
        finally:
            await observer.stop()
            self.seen = observer.seen

    async def _stream(
        self, settings: Settings, layout: Layout, tracks: Dataset, admin: ThresholdsAdmin, observer: Observer
    ) -> Figures:
        sent_at_s: dict[str, float] = {}
        bad = list(malformed_events(event_json(layout, "good", tracks.probabilities[0]), layout))
        marks = {name: asyncio.Event() for name in ("swap", "kill")}
        self.tell(f"streaming {len(tracks):,} events at {RATE_PER_S:,.0f}/s ...")
        events = self._events(layout, tracks, bad, sent_at_s, marks)
        producing = asyncio.create_task(produce_events(settings, events, RATE_PER_S))
        await self._reached(marks["swap"], producing)
        obeyed = await asyncio.to_thread(self._swap, admin)
        await self._reached(marks["kill"], producing)
        killed_at_s = time.time()
        victim = self.workers[1]
        await asyncio.to_thread(victim.kill)
        self.tell(
            f"kill -9 {victim.name}; Kafka gives its partitions to {self.workers[0].name} after the session timeout"
        )
        await producing
        total = len(tracks) + len(bad)
        self.tell(f"all {total:,} events are in Kafka; waiting for the last decisions ...")
        complete = await observer.wait_for(len(tracks), len(bad), FINISH_TIMEOUT_S)
        self.tell("nothing is missing" if complete else "SOMETHING IS MISSING")
        for letter in sorted(observer.seen.dead, key=lambda letter: letter["key"]):
            self.tell(f"dead letter {letter['key']}: {letter['error.code']}: {letter['error.message']}")
        lag = await self._lag_zero(settings)
        return self._figures(observer.seen, tracks, total, lag, obeyed, sent_at_s, killed_at_s)

    async def _reached(self, mark: asyncio.Event, producing: "asyncio.Task[int]") -> None:
        """Wait for that point of the stream; a producer that failed before it is raised at once."""
        waiting = asyncio.create_task(mark.wait())
        await asyncio.wait({waiting, producing}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not mark.is_set():
            producing.result()

    def _events(
        self,
        layout: Layout,
        tracks: Dataset,
        bad: list[tuple[bytes, bytes]],
        sent_at_s: dict[str, float],
        marks: dict[str, asyncio.Event],
    ) -> Iterator[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
        at = {name: int(len(tracks) * share) for name, share in (("swap", SWAP_AT), ("kill", KILL_AT))}
        for index, track in enumerate(tracks.track_ids):
            for name, position in at.items():
                if index == position:
                    marks[name].set()
            if index == int(len(tracks) * MALFORMED_AT):
                self.tell(f"{len(bad)} malformed events go in between")
                yield from ((key, value, []) for key, value in bad)
            sent_at_s[track] = time.time()
            yield track.encode(), event_json(layout, track, tracks.probabilities[index]), []

    def _swap(self, admin: ThresholdsAdmin) -> dict[str, float | None]:
        """Raise one tag's threshold in Redis and see when each worker obeys."""
        live = admin.live()
        numbers = {tag: float(value) for tag, value in live.tuned.items() if value != "off"}
        tag = sorted(numbers, key=lambda name: numbers[name])[len(numbers) // 2]
        before = numbers[tag]
        after = min(1.0, before + SWAP_BY)
        written: Written = admin.change(live, {tag: f"{after:.6f}"}, "the demo shows a swap")
        obeyed = admin.wait_obeyed(written, OBEY_TIMEOUT_S)
        said = ", ".join(f"{name} after {'never' if ms is None else f'{ms:.0f} ms'}" for name, ms in obeyed.items())
        self.tell(f"threshold of '{tag}' {before:.3f} -> {after:.3f} in Redis; obeyed by {said}")
        return obeyed

    async def _lag_zero(self, settings: Settings) -> int:
        """The group's lag, given a few commit intervals to become 0."""
        for _ in range(20):
            lag = await group_lag(settings)
            if lag == 0:
                break
            await asyncio.sleep(settings.commit_interval_s)
        return lag

    def _figures(
        self,
        seen: Observed,
        tracks: Dataset,
        total: int,
        lag: int,
        obeyed: dict[str, float | None],
        sent_at_s: dict[str, float],
        killed_at_s: float,
    ) -> Figures:
        ours, half_rule = f1_pair(seen, tracks)
        # the session timeout is left out: what was produced in it waits for the failover, which is told apart
        before_kill = latencies_ms(seen, sent_at_s, before_s=killed_at_s - 1.0)
        everything = latencies_ms(seen, sent_at_s)
        return Figures(
            events=total,
            decided=len(seen.decisions),
            dead_lettered=len(seen.dead),
            lag_records=lag,
            duplicates=seen.duplicates,
            conflicts=len(seen.conflicts()),
            tracks_per_s=rate_before(seen, killed_at_s),
            p50_ms=float(np.percentile(before_kill, 50)),
            p99_ms=float(np.percentile(before_kill, 99)),
            p99_with_failover_ms=float(np.percentile(everything, 99)),
            weighted_f1=ours,
            weighted_f1_half_rule=half_rule,
            obeyed_ms=obeyed,
        )

    # All of it

    def run(self) -> tuple[Figures, Services, Settings]:
        """The whole story; the caller stops services and workers."""
        services = self.start_services()
        settings = self.settings(services)
        train, tracks = self.load_data()
        version = self.train(train, settings.models_dir)
        asyncio.run(_make_topics(settings))
        admin = ThresholdsAdmin(settings)
        admin.promote(version, "the demo's first model")
        self.start_workers(settings)
        vocabulary = Registry(settings.models_dir).load(version, verify=False).vocabulary
        layout = Layout.build(vocabulary.fingerprint, vocabulary.classes)
        figures = asyncio.run(self.stream(settings, layout, tracks, admin))
        print_summary(self._console, figures)
        print_tracks(self._console, self.seen, tracks)
        return figures, services, settings


async def _make_topics(settings: Settings) -> None:
    await create_topics(settings, partitions=PARTITIONS)
