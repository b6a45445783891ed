"""Prometheus metrics of one worker; counted once per micro-batch, never per track.

Names and labels are part of what operators rely on: additive only.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.core.events import Code
from streamer.ports import BatchReport, Clock

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
RECENT_TRACKS = 4096  # whose latency is kept for the heartbeat
RECENT_S = 10.0
BATCH_BUCKETS_TRACKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


class LiveState(Protocol):
    """What is read at scrape time instead of counted."""

    def metric_families(self) -> Iterable[Metric]: ...


class _LatencyHistogram(Collector):
    """A histogram fed a whole micro-batch at a time: prometheus_client's own takes one number a call."""

    def __init__(self) -> None:
        self._edges = np.array(LATENCY_BUCKETS_S)
        self._counts = np.zeros(len(LATENCY_BUCKETS_S) + 1, np.int64)
        self._sum_s = 0.0

    def observe(self, latencies_s: np.ndarray) -> None:
        buckets = np.searchsorted(self._edges, latencies_s, side="left")
        self._counts += np.bincount(buckets, minlength=len(self._counts))
        self._sum_s += float(latencies_s.sum())

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "tagstream_latency_seconds", "From the event's timestamp to its decision acknowledged by Kafka"
        )
        cumulative = np.cumsum(self._counts).tolist()
        edges = [*(str(edge) for edge in LATENCY_BUCKETS_S), "+Inf"]
        family.add_metric([], list(zip(edges, cumulative, strict=True)), self._sum_s)
        yield family


class _RecentLatency:
    """The latencies of the last few seconds, as they are: the histogram's buckets are too coarse for one look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latencies_s = np.zeros(RECENT_TRACKS)
        self._at_s = np.full(RECENT_TRACKS, -np.inf)
        self._next = 0

    def observe(self, latencies_s: np.ndarray) -> None:
        newest = latencies_s[-RECENT_TRACKS:]
        places = (self._next + np.arange(len(newest))) % RECENT_TRACKS
        self._latencies_s[places] = newest
        self._at_s[places] = self._clock.monotonic_s()
        self._next = (self._next + len(newest)) % RECENT_TRACKS

    def quantiles_s(self, *shares: float) -> list[float]:
        """Empty where nothing was decided lately."""
        recent = self._latencies_s[self._at_s >= self._clock.monotonic_s() - RECENT_S]
        return np.quantile(recent, shares).tolist() if len(recent) else []


class _LiveCollector(Collector):
    def __init__(self, state: LiveState) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._state.metric_families()


class PrometheusMetrics:
    """`streamer.ports.Metrics`, exposed at /metrics."""

    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self.acknowledged_tracks = 0
        self.dead_lettered = 0
        self.on_latencies: Callable[[np.ndarray], None] | None = None  # told those of each micro-batch, in seconds
        self._clock = clock
        options: dict[str, Any] = {"registry": self.registry}
        self._in = Counter("tagstream_tracks_in", "Inputs taken in: decided, withdrawn and dead-lettered", **options)
        self._decided = Counter("tagstream_tracks_decided", "Tracks decided, acknowledged by Kafka", **options)
        self._withdrawn = Counter("tagstream_tracks_withdrawn", "Tracks withdrawn (tombstones written)", **options)
        self._dead = Counter("tagstream_dead_letters", "Inputs that can never be decided", ["code"], **options)
        for code in Code:  # a rate has no value at a series' first appearance, and an alert would miss it
            self._dead.labels(code)
        self._misrouted = Counter(
            "tagstream_misrouted_keys_sampled", "Sampled keys that murmur2 puts into another partition", **options
        )
        self._batch = Histogram(
            "tagstream_batch_tracks", "Inputs per micro-batch", buckets=BATCH_BUCKETS_TRACKS, **options
        )
        self._stage = Histogram(
            "tagstream_stage_seconds",
            "Time a micro-batch spent per stage",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            **options,
        )
        self._last = Gauge("tagstream_last_acknowledged_timestamp_seconds", "When Kafka last acknowledged", **options)
        tasks = Gauge("tagstream_asyncio_tasks", "Unfinished tasks of the event loop; must not grow", **options)
        tasks.set_function(_unfinished_tasks)
        ProcessCollector(registry=self.registry)
        self._latency = _LatencyHistogram()
        self._recent = _RecentLatency(clock)
        self.registry.register(self._latency)

    def watch(self, state: LiveState) -> None:
        """Add what is read at scrape time."""
        self.registry.register(_LiveCollector(state))

    def batch_acknowledged(self, report: BatchReport) -> None:
        dead = sum(report.dead.values())
        size = report.decided + report.withdrawn + dead
        self._in.inc(size)
        self._decided.inc(report.decided)
        self._withdrawn.inc(report.withdrawn)
        self._misrouted.inc(report.misrouted)
        for code, count in report.dead.items():
            self._dead.labels(code).inc(count)
        self._batch.observe(size)
        for stage, seconds in report.stage_s.items():
            self._stage.labels(stage).observe(seconds)
        now_ms = self._clock.wall_ms()
        self._last.set(now_ms / 1000)
        stamps = np.concatenate(report.event_timestamps_ms or [np.empty(0, np.int64)])
        latencies_s = np.maximum(0.0, (now_ms - stamps[stamps >= 0]) / 1000)
        self._latency.observe(latencies_s)
        self._recent.observe(latencies_s)
        if self.on_latencies is not None:
            self.on_latencies(latencies_s)
        self.acknowledged_tracks += size
        self.dead_lettered += dead

    def recent_latency_s(self, *shares: float) -> list[float]:
        """Quantiles of the latency of the last seconds; empty where nothing was decided then."""
        return self._recent.quantiles_s(*shares)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


def _unfinished_tasks() -> float:
    """Of the loop that serves /metrics; 0 where none runs."""
    try:
        return float(len(asyncio.all_tasks()))
    except RuntimeError:
        return 0.0


def gauge(name: str, text: str, value: float, labels: dict[str, str] | None = None) -> GaugeMetricFamily:
    """One gauge sample."""
    labels = labels or {}
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """One counter sample."""
    return CounterMetricFamily(name, text, value=value)


def gauges_by(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    """One gauge with a sample per label value."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family
