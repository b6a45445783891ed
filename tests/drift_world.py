"""A small catalogue for tests of drift: artists whose tracks are alike, an upstream, and models that re-score it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.curves import EDGES, histograms
from ops.drift import Inputs, Known
from streamer.core.drift import Reference

TAGS, CATEGORIES = 60, 12
CLASSES = {f"tag{n:02d}": "genres" for n in range(TAGS)}
TRACKS_OF_AN_ARTIST = 15
TRAINED_ON = 9000


@dataclass(frozen=True)
class Rescorer:
    """Mixes each tag's own logit with some of all, as a trained network does; another seed is another model."""

    mix: NDArray[np.float64]  # [F, T]
    bias: NDArray[np.float64]  # [T]

    @classmethod
    def seeded(cls, seed: int) -> "Rescorer":
        rng = np.random.default_rng(seed)
        mix = rng.normal(0, 0.02, (TAGS + CATEGORIES, TAGS))
        mix[np.arange(TAGS), np.arange(TAGS)] += 0.9
        return cls(mix, rng.normal(-0.3, 0.4, TAGS))

    def score(self, probabilities: NDArray[np.float64]) -> NDArray[np.float16]:
        logits = np.log(probabilities / (1 - probabilities))
        return (1 / (1 + np.exp(-(logits @ self.mix + self.bias)))).astype(np.float16)


def upstream(tracks: int, seed: int, moved: dict[int, float] | None = None) -> NDArray[np.float64]:
    """Probabilities `[N, F]` of new artists' tracks; `moved` adds to the logits of some columns."""
    rng = np.random.default_rng(seed)
    level = np.linspace(-4.5, -0.5, TAGS + CATEGORIES)  # rare tags and frequent ones
    artists = rng.normal(0, 1.0, (-(-tracks // TRACKS_OF_AN_ARTIST), len(level)))
    logits = level + np.repeat(artists, TRACKS_OF_AN_ARTIST, axis=0)[:tracks] + rng.normal(0, 1.0, (tracks, len(level)))
    for column, by in (moved or {}).items():
        logits[:, column] += by
    return np.clip(1 / (1 + np.exp(-logits)), 1e-5, 1 - 1e-4)


def trained(model: Rescorer, *, with_inputs: bool = True) -> Known:
    """What its trainer would keep of a model, and thresholds that one track in a hundred to one in five reaches."""
    known = upstream(TRAINED_ON, seed=1)
    scores = model.score(known)
    tuned = np.quantile(scores.astype(np.float64), np.linspace(0.99, 0.8, TAGS), axis=0).diagonal().round(6)
    inputs = histograms(known) if with_inputs else None
    return Known(Reference(EDGES, TRAINED_ON, histograms(scores), inputs, (scores >= tuned).mean(axis=0)), tuned)


def sampled(probabilities: NDArray[np.float64]) -> Inputs:
    """A sample of some events."""
    return Inputs(histograms(probabilities), len(probabilities))
