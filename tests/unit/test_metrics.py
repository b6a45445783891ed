"""What Prometheus is told: sums that add up, buckets that are cumulative, names that operators rely on."""

import math

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from streamer.adapters.metrics import RECENT_S, RECENT_TRACKS, PrometheusMetrics, counter, gauge, gauges_by
from streamer.adapters.serving_metrics import trained_at_s
from streamer.core.events import Code
from streamer.ports import BatchReport
from tests.fakes import FakeClock


def samples(metrics: PrometheusMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def told(*reports: BatchReport) -> tuple[PrometheusMetrics, dict]:
    clock = FakeClock()
    metrics = PrometheusMetrics(clock)
    for report in reports:
        metrics.batch_acknowledged(report)
    return metrics, samples(metrics)


def test_in_is_decided_withdrawn_and_dead():
    metrics, seen = told(
        BatchReport(decided=5, withdrawn=2, dead={"not-json": 3, "too-large": 1}, misrouted=2),
        BatchReport(decided=1, dead={"not-json": 1}),
    )
    assert seen["tagstream_tracks_in_total", ()] == 13
    assert seen["tagstream_tracks_decided_total", ()] == 6
    assert seen["tagstream_tracks_withdrawn_total", ()] == 2
    assert seen["tagstream_dead_letters_total", (("code", "not-json"),)] == 4
    assert seen["tagstream_dead_letters_total", (("code", "too-large"),)] == 1
    assert seen["tagstream_misrouted_keys_sampled_total", ()] == 2
    assert seen["tagstream_batch_tracks_count", ()] == 2 and seen["tagstream_batch_tracks_sum", ()] == 13
    assert (metrics.acknowledged_tracks, metrics.dead_lettered) == (13, 5)


def test_latency_is_from_the_events_timestamp_and_its_buckets_are_cumulative():
    now_ms = int(FakeClock().wall_ms())
    stamps = [now_ms - ms for ms in (3, 5, 40, 2_000, 3_600_000)] + [now_ms + 50, -1]
    _, seen = told(BatchReport(decided=7, event_timestamps_ms=[np.array(stamps, np.int64)]))

    def bucket(edge: str) -> float:
        return seen["tagstream_latency_seconds_bucket", (("le", edge),)]

    assert [bucket(edge) for edge in ("0.005", "0.05", "1.0", "2.5", "600.0", "+Inf")] == [3, 4, 4, 5, 5, 6]
    assert seen["tagstream_latency_seconds_count", ()] == 6, "an event without a timestamp has no latency"
    assert math.isclose(seen["tagstream_latency_seconds_sum", ()], 3602.048), "a clock ahead of ours counts as 0"


def test_the_heartbeats_latency_is_of_the_last_seconds():
    clock = FakeClock()
    metrics = PrometheusMetrics(clock)
    assert metrics.recent_latency_s(0.5) == []
    now_ms = int(clock.wall_ms())
    metrics.batch_acknowledged(BatchReport(decided=1, event_timestamps_ms=[np.array([now_ms - 60_000], np.int64)]))
    clock.now_s += RECENT_S + 1
    now_ms = int(clock.wall_ms())
    stamps = [now_ms - ms for ms in range(1, 102)] * (RECENT_TRACKS // 50)
    metrics.batch_acknowledged(BatchReport(decided=len(stamps), event_timestamps_ms=[np.array(stamps, np.int64)]))
    p50, p99 = metrics.recent_latency_s(0.5, 0.99)
    assert math.isclose(p50, 0.051, abs_tol=0.002) and math.isclose(p99, 0.100, abs_tol=0.002)
    clock.now_s += RECENT_S + 1
    assert metrics.recent_latency_s(0.5) == []


def test_stages_and_the_last_acknowledgement():
    _, seen = told(BatchReport(decided=1, stage_s={"decode": 0.002, "score": 0.3}))
    assert seen["tagstream_stage_seconds_sum", (("stage", "score"),)] == 0.3
    assert seen["tagstream_stage_seconds_bucket", (("le", "0.0025"), ("stage", "decode"))] == 1
    assert seen["tagstream_last_acknowledged_timestamp_seconds", ()] == FakeClock().wall_ms() / 1000


def test_two_workers_in_one_process_do_not_share_a_registry():
    one, _ = told(BatchReport(decided=1))
    other, seen = told()
    assert one.registry is not other.registry and seen["tagstream_tracks_in_total", ()] == 0


def test_what_is_read_at_scrape_time():
    class State:
        lag = 7

        def metric_families(self):
            yield gauge("tagstream_info", "x", 1.0, {"model": 'a"b\\c'})
            yield counter("tagstream_swaps", "x", 3)
            yield gauges_by("tagstream_lag_records", "x", "partition", [("0", self.lag), ("3", 0)])

    state, metrics = State(), PrometheusMetrics(FakeClock())
    metrics.watch(state)
    assert samples(metrics)["tagstream_info", (("model", 'a"b\\c'),)] == 1
    assert samples(metrics)["tagstream_swaps_total", ()] == 3
    state.lag = 9
    assert samples(metrics)["tagstream_lag_records", (("partition", "0"),)] == 9


def test_every_code_of_dead_letters_is_there_before_the_first():
    _, seen = told()
    assert {labels[0][1] for name, labels in seen if name == "tagstream_dead_letters_total"} == set(Code)


def test_a_models_age_is_in_its_version():
    assert trained_at_s("20261122T094500Z-1a2b3c4d") == 1795340700
    assert trained_at_s("a-hand-made-one") is None
