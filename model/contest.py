"""Whether a challenger is worse than the champion, beyond the noise.

Both are measured on the same tracks; whole artists are drawn with replacement, the same ones for both, and the
interval is that of the difference (a paired bootstrap). Manifests carry the weighted F1 of each resample, so two
models that were measured on the same data can be compared without it. Knows figures; knows nothing of aliases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.artifact import Artifact
from model.dataset import Dataset
from model.intervals import LEVEL, f1_intervals

# In the order in which they are asked: the figures of a split that chose nothing are the better ones.
SPLITS = {"valid": "on the same reported split", "out_of_fold": "out of fold on the same training data"}
FEWEST_RESAMPLES = 100


@dataclass(frozen=True)
class Contest:
    """Weighted F1 of both, and the interval of the difference, challenger minus champion."""

    where: str
    tracks: int
    champion: float
    challenger: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Whether the challenger is worse beyond the noise."""
        return self.high < 0

    def sentence(self) -> str:
        """The figures in words."""
        return (
            f"weighted F1 {self.challenger:.4f} against the champion's {self.champion:.4f} {self.where}, "
            f"a difference of {self.challenger - self.champion:+.4f} ({LEVEL:.0%} interval {self.low:+.4f} to "
            f"{self.high:+.4f})"
        )


def by_manifests(champion: Mapping[str, Any], challenger: Mapping[str, Any]) -> Contest | None:
    """What two manifests say about the same data; None where they have no figures of the same data."""
    for split, where in SPLITS.items():
        one, other = _figures(champion, split), _figures(challenger, split)
        if one and other and one["fingerprint"] == other["fingerprint"]:
            resamples = [np.array(figures["resamples"], np.float64) for figures in (one, other)]
            if len(resamples[0]) == len(resamples[1]) >= FEWEST_RESAMPLES:
                return _contest(where, one["tracks"], (one["weighted_f1"], other["weighted_f1"]), resamples)
    return None


def _figures(manifest: Mapping[str, Any], split: str) -> dict[str, Any] | None:
    """The figures of a split, where they are whole; manifests of strangers and of older versions have less."""
    metrics = manifest.get("metrics")
    figures = metrics.get(split) if isinstance(metrics, dict) else None
    if not isinstance(figures, dict) or not isinstance(figures.get("fingerprint"), str):
        return None
    numbers = figures.get("resamples")
    if not isinstance(numbers, list) or not all(type(number) in (int, float) for number in numbers):
        return None
    whole = type(figures.get("tracks")) is int and type(figures.get("weighted_f1")) in (int, float)
    return figures if whole else None


def by_data(champion: Artifact, challenger: Artifact, dataset: Dataset, name: str) -> Contest:
    """Both measured on `dataset`, each under its own tuned thresholds.

    Raises:
        ModelError: where the data has no labels.
    """
    labels = dataset.need_labels()
    found = []
    for artifact in (champion, challenger):
        scores = artifact.score(dataset.probabilities)  # [N, T]
        decisions = scores.astype(np.float64) >= artifact.threshold_row()
        found.append(f1_intervals(labels, decisions, dataset.artists))
    figures = found[0].weighted, found[1].weighted
    return _contest(f"on {name}", len(dataset), figures, [intervals.resamples for intervals in found])


def _contest(where: str, tracks: int, figures: tuple[float, float], resamples: list[NDArray[np.float64]]) -> Contest:
    difference = resamples[1] - resamples[0]  # [R]
    low, high = np.quantile(difference, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    exact = figures[1] - figures[0]
    return Contest(where, tracks, *figures, low=float(min(low, exact)), high=float(max(high, exact)))
