"""The flatness test sees a leak and lets pass what is none: noise, a step at a rebalance, a restart, a warm-up."""

import numpy as np
import pytest

from ops.bench.flatness import counts_grew, memory_trend, theil_sen
from ops.bench.memory import bound_mib
from tests.fault.soak.samples import Sample, lives, longest_life
from tests.fault.soak.verdict import judge

MINUTES_S = 20 * 60.0
AT_S = np.arange(0, MINUTES_S, 5.0)
NOISE = np.random.default_rng(5).normal(0, 1.5, len(AT_S))
WARM_UP_S = 240.0


def series(leak_mib_per_h: float = 0.0) -> np.ndarray:
    """A worker's memory: warms up by 80 MiB, then `leak_mib_per_h`, and noise."""
    return 640 + 80 * (1 - np.exp(-AT_S / 40)) + leak_mib_per_h * AT_S / 3600 + NOISE


def sample(at_s: float, worker: str, pid: int, rss_mib: float, **more: int) -> Sample:
    """One row with nothing else remarkable."""
    counts = {
        "fds": 30, "threads": 9, "tasks": 25, "kafka_connections": 5, "redis_connections": 2, "other_connections": 1,
    }  # fmt: skip
    rest = {"lag": 10, "redis_mib": 2.0, "redis_clients": 6, "tables": 3, "history": 4}
    return Sample(
        at_s=at_s, worker=worker, pid=pid, rss_mib=rss_mib, uss_mib=rss_mib - 90, **{**counts, **rest, **more}
    )


def test_a_line_is_its_own_slope():
    assert theil_sen([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)
    assert theil_sen([4], [5]) == 0 and theil_sen([1, 1], [5, 9]) == 0


def test_noise_and_a_warm_up_are_flat():
    trend = memory_trend(AT_S, series(), WARM_UP_S)
    assert trend.flat and abs(trend.slope_per_h) < 2, trend


@pytest.mark.parametrize("leak_mib_per_h", [60, 200, 3000])
def test_a_leak_is_seen(leak_mib_per_h):
    trend = memory_trend(AT_S, series(leak_mib_per_h), WARM_UP_S)
    assert not trend.flat and trend.slope_per_h == pytest.approx(leak_mib_per_h, rel=0.1), trend


def test_in_hours_a_slow_leak_is_seen_too():
    at_s = np.arange(0, 8 * 3600, 30.0)
    noise = np.random.default_rng(6).normal(0, 2, len(at_s))
    assert not memory_trend(at_s, 640 + 12 * at_s / 3600 + noise, 300).flat
    assert memory_trend(at_s, 640 + 3 * at_s / 3600 + noise, 300).flat


def test_a_step_and_a_spike_are_no_leak():
    step = series() + np.where(AT_S > 700, 6.0, 0.0)
    spike = series() + np.where((AT_S > 900) & (AT_S < 920), 300.0, 0.0)
    assert memory_trend(AT_S, step, WARM_UP_S).flat
    assert memory_trend(AT_S, spike, WARM_UP_S).flat


def test_too_few_samples_prove_nothing():
    assert not memory_trend([0, 5, 10], [1, 1, 1], 0).flat
    assert not memory_trend([0, 5, 10], [1, 1, 1], 100).flat


def test_counts_that_end_higher_have_grown():
    steady = [30 + (n % 3) for n in range(100)]
    assert not counts_grew(steady, slack=2)
    assert counts_grew([value + n // 10 for n, value in enumerate(steady)], slack=2)
    assert not counts_grew([90] * 10 + steady, slack=2)  # many at first is a warm-up
    assert not counts_grew([1, 2], slack=0)


def guest_and_elder(**more: int) -> list[Sample]:
    """Twenty minutes: one worker throughout, the other restarted each five minutes, its memory beginning anew."""
    memory = series()
    rows = []
    for index, at_s in enumerate(AT_S):
        life, age = divmod(index, 60)
        rows += [
            sample(at_s, "elder", 1, memory[index], **{name: by * index // 100 for name, by in more.items()}),
            sample(at_s, "guest", 100 + life, 640 + age * 1.0 if life else 700.0),
        ]
    return rows


def test_a_restart_is_not_mistaken_for_a_leak():
    rows = guest_and_elder()
    assert len(lives(rows)) == 5 and {row.pid for row in longest_life(rows)} == {1}
    figures, failures = judge(rows, MINUTES_S)
    assert not failures, failures
    assert figures["judged_worker"] == "elder"


def test_leaking_descriptors_tasks_and_connections_are_named():
    for name in ("fds", "tasks", "threads", "kafka_connections", "redis_connections"):
        _, failures = judge(guest_and_elder(**{name: 10}), MINUTES_S)
        assert len(failures) == 1 and name in failures[0], failures


def test_the_stated_bound_grows_with_the_partitions_fetches_alone():
    assert bound_mib(16, 512) - bound_mib(4, 512) == 2 * 12 * 4  # MiB: fetched and on its way, 4 each


def test_nothing_sampled_is_a_failure():
    assert judge([], MINUTES_S)[1]
