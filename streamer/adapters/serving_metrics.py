"""What /metrics tells of the model and the thresholds in use, and of Redis, which names them."""

from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client.core import Metric

from streamer.adapters.metrics import counter, gauge
from streamer.serving import ServingControl

VERSION_TIME = "%Y%m%dT%H%M%SZ"  # what a model's version begins with


def serving_families(serving: ServingControl) -> Iterator[Metric]:
    """Read at scrape time."""
    status = serving.status
    yield gauge("tagstream_redis_up", "1 while Redis answers", float(status.store_up))
    yield gauge(
        "tagstream_redis_answered_timestamp_seconds",
        "When Redis last said which model and thresholds hold; 0 before the first time",
        status.answered_at_ms / 1000,
    )
    yield counter("tagstream_swaps", "Changes of model or thresholds obeyed", status.swaps)
    yield counter("tagstream_thresholds_refused", "Tables refused whole", status.refused_tables)
    yield gauge(
        "tagstream_thresholds_invalid",
        "1 while the table in Redis is refused and the last good one is used instead",
        float(bool(status.refusal)),
    )
    yield counter("tagstream_thresholds_restored", "Times Redis had lost model or thresholds", status.restored)
    yield counter("tagstream_model_failures", "Models that could not be loaded", status.model_failures)
    yield gauge(
        "tagstream_model_unusable",
        "1 while the model that Redis names cannot be used and another is, or none",
        float(bool(status.model_failure)),
    )
    yield gauge(
        "tagstream_thresholds_obeyed_timestamp_seconds",
        "Since when this worker decides under its model and thresholds; 0 before the first",
        status.obeyed_at_ms / 1000,
    )
    if not serving.ready:
        return
    now = serving.current()
    labels = {
        "model": now.model.version,
        "thresholds": now.table.version,
        "vocabulary": now.model.layout.fingerprint,
        "source": status.source,
    }
    yield gauge("tagstream_serving_info", "What is being decided under", 1.0, labels)
    trained_s = trained_at_s(now.model.version)
    if trained_s is not None:
        yield gauge("tagstream_model_created_timestamp_seconds", "When the model in use was trained", trained_s)


def trained_at_s(version: str) -> float | None:
    """The time in a model's version, which is when it was made; None where it has none."""
    try:
        return datetime.strptime(version.partition("-")[0], VERSION_TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
