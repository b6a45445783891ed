"""A pipeline on fakes, for its unit and property tests."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache

from streamer.adapters.warm_up import compile_kernels
from streamer.core.batch import RecordBatch
from streamer.core.breaker import Breaker
from streamer.core.events import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE
from streamer.pipeline import Pipeline, PipelineSettings
from streamer.ports import DecisionEncoder, ServingSource
from tests.fakes import (
    LAYOUT,
    FakeBulkDecoder,
    FakeClock,
    FakeDecoder,
    FakeEncoder,
    FakeMetrics,
    FakeRecord,
    FakeScorer,
    FakeServingSource,
    FakeSink,
)

ARROW = [("content-type", ARROW_CONTENT_TYPE.encode())]
INPUT, TAGS, SCORES, DEAD = "tracks.probabilities", "tracks.tags", "tracks.scores", "tracks.deadletter"


class Bench:
    """One pipeline and everything around it; offsets are counted per partition."""

    def __init__(
        self,
        batch_max: int,
        linger_s: float,
        partition_of: Callable[[bytes], int | None],
        least_inputs: int,
        serving: ServingSource | None = None,
        encoder: DecisionEncoder | None = None,
    ) -> None:
        self.scorer = FakeScorer()
        self.serving = FakeServingSource(self.scorer)
        self.sink = FakeSink()
        self.metrics = FakeMetrics()
        self.next_offset: dict[int, int] = {}
        self.clock = FakeClock()
        self.breaker = Breaker(share=0.5, least_inputs=least_inputs, window_s=60, resume_s=300)
        self._tracks = 0
        settings = PipelineSettings(INPUT, TAGS, SCORES, DEAD, "w-1", batch_max, linger_s)
        self.pipeline = Pipeline(
            settings,
            LAYOUT,
            {JSON_CONTENT_TYPE: FakeDecoder()},
            {ARROW_CONTENT_TYPE: FakeBulkDecoder()},
            encoder or FakeEncoder(),
            serving or self.serving,
            self.sink,
            self.metrics,
            self.clock,
            partition_of,
            self.breaker,
        )

    def tracks(self, count: int) -> list[bytes]:
        """So many valid values, each of a track of its own."""
        self._tracks += count
        return [f"T-{n} 0.5".encode() for n in range(self._tracks - count, self._tracks)]

    async def feed(self, partition: int, *values: bytes | None) -> None:
        """Feed values of this moment's epoch at the partition's next offsets."""
        start = self.next_offset.get(partition, 0)
        self.next_offset[partition] = start + len(values)
        await self.feed_records(partition, [FakeRecord(start + n, value) for n, value in enumerate(values)])

    async def feed_records(self, partition: int, records: Sequence[FakeRecord], epoch: int | None = None) -> None:
        """Feed records as they are."""
        await self.pipeline.feed(RecordBatch(self.pipeline.epoch if epoch is None else epoch, partition, records))

    def committable(self) -> dict[int, int]:
        return self.pipeline.committable()

    def keys(self, topic: str, partition: int) -> list[str]:
        """The keys that a partition of a topic got, in order."""
        return [(record.key or b"").decode() for record in self.sink.records(topic, partition)]


@cache
def warm_up() -> None:
    """As a worker does before it begins."""
    compile_kernels(LAYOUT)


@asynccontextmanager
async def bench(
    batch_max: int = 4,
    linger_s: float = 0.005,
    partition_of: Callable[[bytes], int | None] = lambda key: None,
    least_inputs: int = 1000,
    serving: ServingSource | None = None,
    encoder: DecisionEncoder | None = None,
) -> AsyncIterator[Bench]:
    """A running pipeline, closed at the end with its scorer let go; its kernels are loaded before any time is taken."""
    warm_up()
    made = Bench(batch_max, linger_s, partition_of, least_inputs, serving, encoder)
    try:
        yield made
    finally:
        made.scorer.gate.set()
        if made.pipeline.failed.done() and not made.pipeline.failed.cancelled():
            made.pipeline.failed.exception()  # seen
        await made.pipeline.close()
