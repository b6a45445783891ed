"""The one composition root: every dependency of a worker is made and handed in here.

Reads as the list of parts a worker is made of; tests build a `Pipeline` or a `ServingControl` from fakes instead.
"""

import asyncio

from aiokafka.partitioner import murmur2

from streamer.adapters.arrow_events import ArrowEventDecoder
from streamer.adapters.clock import SystemClock
from streamer.adapters.drift_gauges import DriftGauges, SamplingLoader
from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.adapters.json_events import JsonEventDecoder
from streamer.adapters.kafka_records import UNREADABLE_CONTENT_TYPE, UnreadableBatchDecoder
from streamer.adapters.kafka_sink import KafkaSink
from streamer.adapters.metrics import PrometheusMetrics
from streamer.adapters.redis_runs import RedisRuns
from streamer.adapters.redis_store import RedisStore
from streamer.adapters.scores_topic import ScoresTopic
from streamer.adapters.state_store import StateStore
from streamer.adapters.tag_counts import TagCounts
from streamer.adapters.torch_scorer import RegistryLoader
from streamer.adapters.warm_up import compile_kernels
from streamer.core.breaker import Breaker
from streamer.core.events import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE
from streamer.core.lease import Lease
from streamer.core.pace import Pace
from streamer.lifecycle import Lifecycle
from streamer.pipeline import Pipeline, PipelineSettings
from streamer.redecide import Redecider
from streamer.serving import ServingControl
from streamer.settings import Settings


def compose(settings: Settings, *, fail_fast: bool = False) -> tuple[Lifecycle, PrometheusMetrics, Lease]:
    """Make a worker's parts; nothing connects yet. Call inside the event loop."""
    clock = SystemClock()
    metrics = PrometheusMetrics(clock)
    store = RedisStore(settings)
    lease = Lease(settings.session_timeout_s)
    breaker = Breaker(
        settings.breaker_share, settings.breaker_inputs, settings.breaker_window_s, settings.breaker_resume_s
    )
    sink = KafkaSink(settings, lease)
    loader = SamplingLoader(RegistryLoader(settings.models_dir, settings.device, settings.batch_max), clock)
    last_good = StateStore(settings.state_dir, settings.worker, f"{settings.topic_probabilities} {settings.group}")
    serving = ServingControl(store, loader, last_good, clock)
    metrics.registry.register(DriftGauges(serving))

    pace = Pace(clock.monotonic_s())
    metrics.on_latencies = lambda latencies_s: pace.observe(latencies_s, clock.monotonic_s())
    redecider = Redecider(
        RedisRuns(settings), ScoresTopic(settings), serving, sink, pace, clock, JsonDecisionEncoder,
        settings.topic_tags, settings.topic_scores, settings.worker,
    )  # fmt: skip

    async def build_pipeline() -> Pipeline:
        layout = serving.current().model.layout
        await asyncio.to_thread(compile_kernels, layout)
        partitions = await sink.partition_count(settings.topic_probabilities)
        encoder = TagCounts(JsonDecisionEncoder(layout), layout)
        metrics.registry.register(encoder)
        return Pipeline(
            pipeline_settings(settings),
            layout,
            {JSON_CONTENT_TYPE: JsonEventDecoder(layout), UNREADABLE_CONTENT_TYPE: UnreadableBatchDecoder()},
            {ARROW_CONTENT_TYPE: ArrowEventDecoder(layout)},
            encoder,
            serving,
            sink,
            metrics,
            clock,
            lambda key: (murmur2(key) & 0x7FFFFFFF) % partitions,
            breaker,
        )

    lifecycle = Lifecycle(settings, store, serving, sink, metrics, redecider, build_pipeline, fail_fast)
    return lifecycle, metrics, lease


def pipeline_settings(settings: Settings) -> PipelineSettings:
    """The part of the settings that the hot path runs on."""
    return PipelineSettings(
        topic_probabilities=settings.topic_probabilities,
        topic_tags=settings.topic_tags,
        topic_scores=settings.topic_scores,
        topic_deadletter=settings.topic_deadletter,
        worker=settings.worker,
        batch_max=settings.batch_max,
        linger_s=settings.linger_s,
    )
