"""What could be served, and which of it is: the upstream as it is, or with thresholds of its own, or a network.

Each candidate is judged out of fold on the training data. They stand in order of simplicity, and a later one has to
beat what stands before it beyond the noise. Knows scores and labels; trains nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model import metrics, thresholds
from model.config import TrainingConfig
from model.dataset import Dataset
from model.folds import artist_folds
from model.initialise import new_network
from model.intervals import f1_intervals
from model.network import NetworkConfig, Rescorer
from model.objective import Objective
from model.served import RULE, UPSTREAM
from model.vocabulary import Vocabulary

CHOICE_FOLDS = 4  # of the choice between candidates
HALF = 0.5  # the rule to beat
NOISE = 1.0  # standard errors of the difference (of a bootstrap over artists) that a gain has to exceed


@dataclass(frozen=True)
class Candidate:
    """Something that could be served: its out-of-fold scores, and how good they were with fitted thresholds."""

    name: str
    scores: NDArray[np.float16]  # [N, T]
    expected: NDArray  # [N, T], calibrated probabilities
    smoothing: float
    weighted_f1: float
    decisions: NDArray[np.bool_]  # [N, T], each by thresholds that other artists' tracks made

    @property
    def is_upstream(self) -> bool:
        """Whether no network is needed."""
        return self.name in (RULE, UPSTREAM)

    def tune(self, dataset: Dataset, objective: Objective) -> NDArray[np.float64]:
        """The thresholds `[T]` to serve it with, from all labelled tracks."""
        labels = dataset.need_labels()
        if self.name == RULE:
            return np.full(labels.shape[1], HALF)
        return thresholds.tune(self.scores, labels, [self.smoothing], self.expected, objective)[0]


def candidate(
    name: str, scores: NDArray, expected: NDArray, dataset: Dataset, config: TrainingConfig, seed: int
) -> Candidate:
    """Choose the smoothing: thresholds fitted on all folds but one, counted on that one."""
    labels = dataset.need_labels()
    folds = choice_folds(dataset, seed)
    decisions = np.zeros((len(config.smoothings), *labels.shape), dtype=bool)
    for fold in range(folds.max() + 1):
        rest, here = folds != fold, folds == fold
        tuned = thresholds.tune(scores[rest], labels[rest], config.smoothings, expected[rest])
        decisions[:, here] = scores[here].astype(np.float64) >= tuned[:, None, :]
    f1 = [metrics.weighted_f1(labels, decided) for decided in decisions]
    best = int(np.argmax(f1))
    return Candidate(name, scores, expected, config.smoothings[best], f1[best], decisions[best])


def choice_folds(dataset: Dataset, seed: int) -> NDArray[np.int64]:
    """The fold of each track `[N]`; others than those of the fits, so that thresholds meet scores of every fit."""
    return artist_folds(dataset.artists, len(dataset), CHOICE_FOLDS, seed + 1)


def upstream_candidates(dataset: Dataset, config: TrainingConfig, seed: int) -> list[Candidate]:
    """The upstream at 0.5 where F1 is what is asked for, and the upstream with thresholds of its own."""
    labels = dataset.need_labels()
    network = upstream_network(dataset.vocabulary, config, seed)
    logits = network.features.logits(torch.from_numpy(dataset.probabilities))[:, : network.n_tags]
    scores = to_scores(logits)
    # One number a tag calibrates what smoothing expects of it.
    shift = thresholds.shift_to_prevalence(logits.numpy(), labels)
    expected = torch.sigmoid(logits + torch.from_numpy(shift).float()).numpy()
    tuned = candidate(UPSTREAM, scores, expected, dataset, config, seed)
    if config.objective != Objective() or not labels.any():
        return [tuned]
    decisions = scores.astype(np.float64) >= HALF
    return [Candidate(RULE, scores, expected, 0.0, metrics.weighted_f1(labels, decisions), decisions), tuned]


def upstream_network(vocabulary: Vocabulary, config: TrainingConfig, seed: int) -> Rescorer:
    settings = NetworkConfig(
        architecture="upstream", clip_low=config.network.clip_low, clip_high=config.network.clip_high
    )
    return new_network(vocabulary, settings, seed).eval()


def choose(candidates: list[Candidate], dataset: Dataset) -> Candidate:
    """The best; of those that noise does not tell apart the first, which is the simplest."""
    labels = dataset.need_labels()
    chosen = candidates[0]
    resamples = f1_intervals(labels, chosen.decisions, dataset.artists).resamples
    for other in candidates[1:]:
        theirs = f1_intervals(labels, other.decisions, dataset.artists).resamples
        if other.weighted_f1 - chosen.weighted_f1 > NOISE * float((theirs - resamples).std()):
            chosen, resamples = other, theirs
    return chosen


def to_scores(logits: torch.Tensor) -> NDArray[np.float16]:
    """Scores as they are compared and published: sigmoid, rounded to float16."""
    return torch.sigmoid(logits).cpu().numpy().astype(np.float16)
