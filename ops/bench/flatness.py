"""Whether a series of measurements is flat: the arithmetic behind "memory does not grow". Numpy only.

A slope by Theil and Sen, the median over all pairs of samples: a step, a spike or a few odd samples do not move it
as they move a least-squares line. It must be given one process's life at a time; a restart is another life.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_POINTS = 600  # pairs grow with the square; longer series are thinned evenly
SLACK_MIB = 8.0  # what an allocator may still take after the warm-up, once
LIMIT_MIB_PER_H = 6.0  # on top of it; a table of 248 thresholds kept at each swap of 10 s would be more
SMALLEST_LIFE = 10  # samples after the warm-up; fewer say nothing


@dataclass(frozen=True)
class Trend:
    """How a series moved after its warm-up."""

    samples: int
    seconds: float
    median: float
    slope_per_h: float
    rise: float  # the slope over the seconds: what the series gained, odd samples aside
    allowed: float

    @property
    def flat(self) -> bool:
        return self.samples >= SMALLEST_LIFE and self.rise <= self.allowed

    def __str__(self) -> str:
        if self.samples < SMALLEST_LIFE:
            return f"{self.samples} samples after the warm-up say nothing, {SMALLEST_LIFE} are needed"
        return f"{self.rise:+.1f} MiB in the {self.seconds:.0f} s after the warm-up, {self.allowed:.1f} allowed"

    @property
    def share_per_h(self) -> float:
        """The slope as a share of the median."""
        return self.slope_per_h / self.median if self.median else 0.0


def theil_sen(at_s: Sequence[float], values: Sequence[float]) -> float:
    """The median slope over all pairs, per second; 0 for fewer than two moments."""
    times, heights = np.asarray(at_s, np.float64), np.asarray(values, np.float64)
    if len(times) > MAX_POINTS:
        picked = np.linspace(0, len(times) - 1, MAX_POINTS).astype(int)
        times, heights = times[picked], heights[picked]
    early, late = np.triu_indices(len(times), k=1)
    apart_s = times[late] - times[early]
    usable = apart_s > 0
    if not usable.any():
        return 0.0
    return float(np.median((heights[late] - heights[early])[usable] / apart_s[usable]))


def memory_trend(at_s: Sequence[float], mib: Sequence[float], warm_up_s: float) -> Trend:
    """The trend of resident memory: allowed are SLACK_MIB once and LIMIT_MIB_PER_H."""
    kept = [(at, value) for at, value in zip(at_s, mib, strict=True) if at - at_s[0] >= warm_up_s]
    if not kept:
        return Trend(0, 0.0, 0.0, 0.0, 0.0, SLACK_MIB)
    times, values = zip(*kept, strict=True)
    seconds = times[-1] - times[0]
    slope_per_s = theil_sen(times, values)
    return Trend(
        samples=len(kept),
        seconds=seconds,
        median=float(np.median(values)),
        slope_per_h=slope_per_s * 3600,
        rise=slope_per_s * seconds,
        allowed=SLACK_MIB + LIMIT_MIB_PER_H * seconds / 3600,
    )


def counts_grew(values: Sequence[float], slack: float) -> bool:
    """Whether something counted (descriptors, threads) ends above where it was early: last fifth against second."""
    fifth = len(values) // 5
    if fifth == 0:
        return False
    return float(np.median(values[-fifth:])) > float(np.median(values[fifth : 2 * fifth])) + slack
