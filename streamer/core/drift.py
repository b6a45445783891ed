"""How far a distribution has moved from its reference: the population stability index (PSI) of histograms.

PSI = sum over groups of (a - e) ln(a / e), where e is a group's share in the reference and a its share now: what credit
scoring watches its scores with, and its usual cuts: below 0.1 as ever, from 0.25 on another population (Siddiqi, Credit
Risk Scorecards, 2006; du Pisanie et al., arXiv:2303.01227). Knows counts; knows neither model nor stream.

Notable choices:
- A histogram's bins are joined until each group holds at least a tenth of the reference: ten groups are usual, and
  an almost empty one would make the index of noise. So one index never has more than ten groups.
- Half a track is added to each group: an empty one has no logarithm.
- Chance alone makes it (1/n + 1/m) times a chi-squared with groups - 1 degrees of freedom (Yurdakul and Naranjo,
  2020): who judges small samples asks `by_chance` too.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from streamer.core.float16 import ONE_BITS

MOVED, FAR = 0.1, 0.25  # the usual cuts
GROUPS = 10
HALF = 0.5


@dataclass(frozen=True)
class Reference:
    """What a model was tuned on: histograms between `edges`, and how often its tuned thresholds decide each tag."""

    edges: NDArray[np.float64]  # [B + 1] from 0 to 1
    tracks: int
    scores: NDArray[np.int64]  # [T, B]
    inputs: NDArray[np.int64] | None  # [F, B]; None where the artefact has none
    shares: NDArray[np.float64]  # [T] of these tracks, with the tuned thresholds


@dataclass(frozen=True)
class Groups:
    """Bins joined into groups, row by row: `place` `[R, B]` says into which, `count` `[R]` how many there are."""

    place: NDArray[np.intp]
    count: NDArray[np.intp]

    @classmethod
    def of(cls, reference: NDArray[np.integer]) -> "Groups":
        """From the histograms `[R, B]` that others will be compared with."""
        rows = [_joined(row.tolist()) for row in reference]
        place = np.array(rows, np.intp).reshape(reference.shape)
        return cls(place, place[:, -1] + 1 if rows else np.zeros(0, np.intp))

    def joined(self, counts: NDArray[np.number]) -> NDArray[np.float64]:
        """`[R, GROUPS]` of histograms `[R, B]`; 0 beyond a row's last group."""
        flat = self.place + GROUPS * np.arange(len(counts))[:, None]
        size = GROUPS * len(counts)
        sums = np.bincount(flat.ravel(), counts.ravel().astype(np.float64), minlength=size)
        return sums.astype(np.float64).reshape(-1, GROUPS)

    def psi(self, counts: NDArray[np.number], reference: NDArray[np.number]) -> NDArray[np.float64]:
        """`[R]` the index of `counts` against `reference`, both `[R, B]`; 0 where either is empty."""
        there = np.arange(GROUPS) < self.count[:, None]  # [R, GROUPS]
        now, then = (np.where(there, self.joined(one) + HALF, 0.0) for one in (counts, reference))
        shares = [one / np.maximum(one.sum(axis=1, keepdims=True), HALF) for one in (now, then)]
        a, e = (np.where(there, one, 1.0) for one in shares)
        known = (counts.sum(axis=1) > 0) & (reference.sum(axis=1) > 0)
        return np.where(known, ((a - e) * np.log(a / e)).sum(axis=1), 0.0)


def by_chance(groups: NDArray[np.intp], n: int, m: int, chance: float) -> NDArray[np.float64]:
    """`[R]` the index that two samples of the same, of `n` and `m` tracks, pass with this probability.

    The chi-squared quantile is Wilson and Hilferty's (1931).
    """
    freedom = np.maximum(groups - 1, 1).astype(np.float64)
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + NormalDist().inv_cdf(1 - chance) * np.sqrt(spread)) ** 3
    return quantile * (1 / max(n, 1) + 1 / max(m, 1))


def _joined(counts: list[int]) -> list[int]:
    """The group of each bin: of neighbours that hold a tenth of the whole together."""
    least = sum(counts) / GROUPS
    groups, group, held = [], 0, 0
    for count in counts:
        if held and held >= least:
            group, held = group + 1, 0
        groups.append(group)
        held += count
    if held < least / 2 and group:  # what is left over goes to its neighbour
        groups = [min(one, group - 1) for one in groups]
    return groups


def bins_by_bits(edges: NDArray[np.float64]) -> NDArray[np.uint8]:
    """`[ONE_BITS + 1]` the bin of each float16 in [0, 1], by its bits, as numpy's histogram has it."""
    values = np.arange(ONE_BITS + 1, dtype=np.uint16).view(np.float16).astype(np.float64)
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2).astype(np.uint8)
