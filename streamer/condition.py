"""How a worker is: its heartbeat, /health, /metrics and progress line, all told from the same facts."""

import os
import socket
import time
from collections.abc import Iterable

from prometheus_client.core import Metric

from streamer.adapters.clock import SystemClock
from streamer.adapters.kafka_sink import KafkaSink
from streamer.adapters.metrics import PrometheusMetrics, counter, gauge, gauges_by
from streamer.adapters.serving_metrics import serving_families
from streamer.core.stall import Standing
from streamer.pipeline import Pipeline
from streamer.redecide import Redecider
from streamer.serving import ServingControl
from streamer.settings import Settings
from streamer.watchdog import Consumer, Watchdog

HEARTBEAT_S = 1.0
SILENT_S = 8.0  # without an answer of Kafka's to the watchdog: two looks that timed out


class Condition:
    """The facts about one worker and what is told of them; `streamer.lifecycle` makes them change."""

    def __init__(
        self,
        settings: Settings,
        serving: ServingControl,
        sink: KafkaSink,
        metrics: PrometheusMetrics,
        redecider: Redecider,
    ) -> None:
        self.pipeline: Pipeline | None = None
        self.consumer: Consumer | None = None
        self.stopping = False
        self._settings = settings
        self._serving = serving
        self._sink = sink
        self._metrics = metrics
        self._redecider = redecider
        self._started_at_s = time.time()
        self._batch_max = settings.batch_max
        self._process = f"{socket.gethostname()} pid {os.getpid()} of {self._started_at_s * 1000:.0f}"
        self.input_partitions = 0  # known once prepared
        self._watchdog = Watchdog(
            settings.topic_probabilities,
            (settings.topic_tags, settings.topic_scores, settings.topic_deadletter),
            settings.stall_s,
            SystemClock(),
        )
        self._rate = (time.monotonic(), 0, 0.0)  # when, tracks by then, tracks/s

    def _measure_rate(self) -> None:
        then_s, tracks, _ = self._rate
        now_s, total = time.monotonic(), self._metrics.acknowledged_tracks
        if now_s - then_s >= HEARTBEAT_S / 2:
            self._rate = (now_s, total, (total - tracks) / (now_s - then_s))

    def heartbeat_fields(self) -> dict[str, str]:
        """What `tagstream:workers:<worker>` holds."""
        status = self._serving.status
        fields = {
            "started_at_ms": f"{self._started_at_s * 1000:.0f}",
            "process": self._process,
            "partitions": ",".join(str(partition) for partition in sorted(self._standings())),
            "lag_records": str(self.lag_records()),
            "lag_s": f"{max(self._lag_ages_s().values(), default=0.0):.1f}",
            "tracks_per_s": f"{self._rate[2]:.0f}",
            "tracks": str(self._metrics.acknowledged_tracks),
            "dead_letters": str(self._metrics.dead_lettered),
            "thresholds_source": status.source,
            "obeyed_at_ms": f"{status.obeyed_at_ms:.3f}",
            "refusal": status.refusal,
            "model_failure": status.model_failure,
            "paused": self._paused(),
            "pauses": str(self.pipeline.pauses if self.pipeline else 0),
            "stalled": self._watchdog.reason,
            "redecide": self._redecider.doing,
        }
        return fields | self._latency() | self._versions()

    def _latency(self) -> dict[str, str]:
        """Of the last seconds; empty texts where nothing was decided then."""
        quantiles_s = self._metrics.recent_latency_s(0.5, 0.99)
        p50, p99 = (f"{seconds * 1000:.1f}" for seconds in quantiles_s) if quantiles_s else ("", "")
        return {"latency_p50_ms": p50, "latency_p99_ms": p99}

    def _standings(self) -> dict[int, Standing]:
        return {} if self.consumer is None else self.consumer.standings()

    def _connected(self) -> bool:
        """Whether the group's coordinator is known, and Kafka has answered the watchdog lately."""
        known = self.consumer is not None and self.consumer.connected()
        return known and self._watchdog.silent_s < SILENT_S

    def _paused(self) -> str:
        """Why nothing is taken in for now; empty while all is well."""
        return self.pipeline.paused if self.pipeline is not None else ""

    def _versions(self) -> dict[str, str]:
        """The model and the thresholds in use; empty before the first."""
        if not self._serving.ready:
            return {}
        serving = self._serving.current()
        return {"model": serving.model.version, "thresholds": serving.table.version}

    def _lag_by_partition(self) -> dict[int, int]:
        """Records not committed yet, of the assigned partitions whose end is known."""
        return {
            partition: standing.lag for partition, standing in self._standings().items() if standing.lag is not None
        }

    def _lag_ages_s(self) -> dict[int, float]:
        """By assigned partition: the age of the oldest record that is not committed."""
        return {} if self.consumer is None else self.consumer.lag_ages_s(time.time() * 1000)

    def lag_records(self) -> int:
        """Records of the assigned partitions that are not committed yet."""
        return sum(self._lag_by_partition().values())

    def health(self) -> dict[str, object]:
        """`live`: nothing has failed. `ready`: a model is served and partitions are assigned."""
        pipeline = self.pipeline
        failed = pipeline is not None and pipeline.failed.done()
        partitions = sorted(self._standings())
        stalled = self._watchdog.reason
        connected = self._connected()
        status = self._serving.status
        report: dict[str, object] = {
            "live": not failed,
            "ready": not failed
            and not self.stopping
            and pipeline is not None
            and bool(partitions)
            and not self._paused()
            and not stalled,
            "stalled": stalled,
            "partitions": partitions,
            "lag_records": self.lag_records() if connected else None,
            "kafka": "up" if connected else "down",
            "redis": "up" if status.store_up else "down",
            "thresholds_source": status.source,
            "refusal": status.refusal,
            "model_failure": status.model_failure,
            "paused": self._paused(),
        }
        return report | self._versions()

    def progress_line(self) -> str:
        """One line for a terminal."""
        metrics = self._metrics
        _, tracks, _ = self._rate  # of the same moment as the rate beside it
        return (
            f"{tracks:,} tracks done, {self._rate[2]:,.0f}/s, lag {self.lag_records():,}, "
            f"{metrics.dead_lettered:,} dead letters"
        )

    def metric_families(self) -> Iterable[Metric]:
        """What /metrics reads at scrape time."""
        lag = [(str(partition), float(records)) for partition, records in self._lag_by_partition().items()]
        ages = [(str(partition), age_s) for partition, age_s in self._lag_ages_s().items()]
        yield gauges_by("tagstream_lag_records", "Records not committed yet, by partition", "partition", lag)
        yield gauges_by(
            "tagstream_lag_seconds",
            "Age of the oldest record not committed yet, by its timestamp; if it is not fetched, since it was seen",
            "partition",
            ages,
        )
        yield gauge("tagstream_assigned_partitions", "Partitions this worker owns", len(self._standings()))
        yield gauge("tagstream_input_partitions", "Partitions the input topic has", self.input_partitions)
        watchdog = self._watchdog
        yield gauge(
            "tagstream_stalled_partitions",
            "Partitions with lag and no progress for half of TAGSTREAM_STALL_S",
            watchdog.stalled_partitions,
        )
        yield gauge(
            "tagstream_seconds_without_progress", "Of the assigned partition that is the worst", watchdog.idle_s
        )
        yield gauge("tagstream_kafka_up", "1 while Kafka answers", float(self._connected()))
        yield gauge("tagstream_ready", "1 while this worker is ready", float(bool(self.health()["ready"])))
        yield gauge(
            "tagstream_paused", "1 while a surge of dead letters has paused this worker", float(bool(self._paused()))
        )
        yield counter(
            "tagstream_breaker_trips",
            "Pauses for a surge of dead letters",
            self.pipeline.pauses if self.pipeline else 0,
        )
        yield counter(
            "tagstream_publishes_withheld", "Requests held until Kafka's group answered", self._sink.gate.withheld
        )
        yield gauge(
            "tagstream_batch_capacity_tracks", "TAGSTREAM_BATCH_MAX: what a full micro-batch holds", self._batch_max
        )
        yield from serving_families(self._serving)
        yield counter("tagstream_redecide_examined", "Retained scores re-examined", self._redecider.examined)
        yield counter("tagstream_redecide_changed", "Of these the ones whose tags differed", self._redecider.changed)
