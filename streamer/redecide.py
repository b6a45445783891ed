"""Re-decide: a run that an operator asked for, done by each worker for the partitions it owns.

The request, the progress of every partition and a cancel are entries of one Redis stream (`core.redecide_runs`), so
that any worker can take up any partition where another left it. One partition is walked at a time
(`redecide_walk`), and only after the worker has caught up with what its input partition held when it was assigned:
until then, a predecessor that was killed may have decided more than it committed, and those tracks come again.

Knows nothing of Kafka clients or Redis. `run` is a side task for as long as the worker lives.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streamer.core.errors import TagstreamError
from streamer.core.layout import Layout
from streamer.core.pace import Pace
from streamer.core.redecide_runs import Progress, Run, State
from streamer.core.stall import Standing
from streamer.pipeline import Pipeline
from streamer.ports import Clock, DecisionEncoder, ServingSource, Sink
from streamer.redecide_walk import Around, Cancelled, CannotPublish, Interrupted, RunStore, ScoresTopic, Walk
from streamer.serving import StoreUnavailable

log = logging.getLogger(__name__)

IDLE_S = 0.5  # between two looks at whether there is something to do
OBEY_S = 5.0  # how long to wait for the thresholds that the request names


class Owner(Protocol):
    """What is asked of the consumer."""

    flow_active: bool

    def standings(self) -> dict[int, Standing]: ...

    async def look(self) -> Any:
        """With `answered`, and `ends` by partition."""


class Scores(ScoresTopic, Protocol):
    """The topic, connected only while there is a run."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Redecider:
    """One worker's part in every run."""

    def __init__(
        self,
        store: RunStore,
        scores: Scores,
        serving: ServingSource,
        sink: Sink,
        pace: Pace,
        clock: Clock,
        encoder: Callable[[Layout], DecisionEncoder],
        topic_tags: str,
        topic_scores: str,
        worker: str,
    ) -> None:
        self.examined = 0  # of all runs, for /metrics
        self.changed = 0
        self.doing = ""  # for the heartbeat; empty while there is nothing to do
        self._store, self._scores, self._serving, self._sink = store, scores, serving, sink
        self._pace, self._clock, self._encoder = pace, clock, encoder
        self._topics = topic_tags, topic_scores
        self._worker = worker
        self._epoch = -1
        self._caught_up_at: Mapping[int, int] | None = None  # by partition: from this commit on
        self._obeying: tuple[str, float] | None = None  # a run, and until when its thresholds are waited for

    async def run(self, pipeline: Pipeline, owner: Owner, is_stopping: Callable[[], bool]) -> None:
        """Take part in whatever run there is.

        Raises:
            CannotPublish: the worker must end.
        """
        try:
            while not is_stopping():
                try:
                    run = await self._store.newest()
                    busy = (
                        run is not None and not run.is_over and await self._take_part(run, pipeline, owner, is_stopping)
                    )
                except StoreUnavailable:
                    busy = False
                if not busy:
                    self.doing = ""
                    await self._scores.close()
                    await asyncio.sleep(IDLE_S)
        finally:
            await self._scores.close()

    async def _take_part(self, run: Run, pipeline: Pipeline, owner: Owner, is_stopping: Callable[[], bool]) -> bool:
        """Walk one partition, if there is one to walk now."""
        if not self._obeys(run):
            return False
        mine = await self._ready(pipeline, owner)
        now = self._serving.current()
        todo = [p for p in mine if not _is_done(run.progress.get(p), now.model.version, now.table.version)]
        if not todo:
            return False

        def is_mine(partition: int) -> bool:
            return owner.flow_active and not is_stopping() and partition in owner.standings()

        around = Around(
            pipeline, self._serving, self._sink, self._scores, self._store, self._encoder(now.model.layout),
            self._pace, self._clock, *self._topics, self._worker,
        )  # fmt: skip
        walk = Walk(around, run, todo[0], is_mine)
        self.doing = f"{run.name} partition {todo[0]}"
        before = walk.progress.counts.examined, walk.progress.counts.changed
        try:
            await self._scores.open()
            await walk.run()
            log.info("re-decide %s: partition %d is done (%s)", run.name, todo[0], _told(walk.progress))
        except Interrupted:
            log.info("re-decide %s: partition %d is left as it stands", run.name, todo[0])
            await walk.tell_whole()
        except Cancelled:
            await self._end(walk, State.CANCELLED, "")
        except CannotPublish:
            raise
        except TagstreamError as error:
            await self._end(walk, State.FAILED, str(error))
        except Exception as error:  # a fault of this side task must not take the stream with it
            log.exception("re-decide %s: partition %d", run.name, todo[0])
            await self._end(walk, State.FAILED, f"{type(error).__name__}: {error}")
        counts = walk.progress.counts
        self.examined += max(0, counts.examined - before[0])
        self.changed += max(0, counts.changed - before[1])
        return True

    async def _end(self, walk: Walk, state: State, error: str) -> None:
        progress = walk.progress
        progress.state, progress.error = state, error
        log.log(
            logging.ERROR if error else logging.INFO,
            "re-decide: partition %d %s%s (%s)",
            progress.partition, state.value, f": {error}" if error else "", _told(progress),
        )  # fmt: skip
        await walk.tell_end()

    def _obeys(self, run: Run) -> bool:
        """Whether this worker decides by what the request names; what else it decides by is good after a while."""
        now = self._serving.current()
        if (now.model.version, now.table.version) == (run.model, run.thresholds):
            return True
        if self._obeying is None or self._obeying[0] != run.name:
            self._obeying = run.name, self._clock.monotonic_s() + OBEY_S
        return self._clock.monotonic_s() >= self._obeying[1]

    async def _ready(self, pipeline: Pipeline, owner: Owner) -> list[int]:
        """The partitions that are this worker's, and in which it has caught up with its predecessor."""
        if not owner.flow_active:
            return []
        if self._epoch != pipeline.epoch or self._caught_up_at is None:
            self._epoch, self._caught_up_at = pipeline.epoch, None
            look = await owner.look()
            if not look.answered or self._epoch != pipeline.epoch:
                return []
            self._caught_up_at = dict(look.ends)
        ends = self._caught_up_at
        return sorted(
            partition
            for partition, standing in owner.standings().items()
            if partition in ends and standing.done is not None and standing.done >= ends[partition]
        )


def _is_done(progress: Progress | None, model: str, thresholds: str) -> bool:
    """Whether a partition has come to its end in this run, under what is decided by now."""
    if progress is None or progress.state is State.RUNNING:
        return False
    return progress.state is not State.DONE or (progress.model, progress.thresholds) == (model, thresholds)


def _told(progress: Progress) -> str:
    counts = progress.counts
    return f"{counts.examined:,} examined, {counts.changed:,} changed"
