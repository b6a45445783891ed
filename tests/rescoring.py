"""What thresholds and a plain linear re-scorer gain on a data set, apart from the product's own training.

A figure of the data, so that a simulated catalogue can be held against real ones: one short fit a fold, no choices.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model import metrics, thresholds
from model.catalogue_figures import to_logits
from model.dataset import Dataset
from model.folds import artist_folds

FOLDS, STEPS, BATCH, DECAY, RATE = 2, 250, 512, 0.1, 4e-3
SMOOTHING = (1.0,)
OWN_OFFSET = -0.8  # where the offset of the own logit starts


@dataclass(frozen=True)
class Gains:
    """Weighted F1 on `val`, all chosen on `train`, and the re-scorer's cross-entropy there."""

    rule: float  # 0.5 on the upstream
    thresholds: float  # one a tag on the upstream
    rescorer: float  # likewise on the re-scorer
    rescored_bce: float


def gains(train: Dataset, val: Dataset) -> Gains:
    """Trains on `train` alone, thresholds cross-fitted by artist."""
    labels, tags = train.need_labels(), train.vocabulary.n_tags
    own, val_own = train.probabilities[:, :tags], val.probabilities[:, :tags]
    logits = to_logits(own)
    expected = 1 / (1 + np.exp(-(logits + thresholds.shift_to_prevalence(logits, labels))))
    folds = artist_folds(train.artists, len(train), FOLDS, seed=0)
    out_of_fold = np.empty(labels.shape, dtype=np.float32)
    for fold in range(folds.max() + 1):
        rest, here = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        out_of_fold[here] = _rescored(train.take(rest), train.probabilities[here])
    rescored = _rescored(train, val.probabilities)
    return Gains(
        rule=metrics.weighted_f1(val.need_labels(), val_own >= 0.5),
        thresholds=_f1(val, val_own, thresholds.tune(own, labels, SMOOTHING, expected)[0]),
        rescorer=_f1(val, rescored, thresholds.tune(out_of_fold, labels, SMOOTHING)[0]),
        rescored_bce=metrics.bce(val.need_labels(), rescored),
    )


def _f1(val: Dataset, scores: NDArray, tuned: NDArray) -> float:
    return metrics.weighted_f1(val.need_labels(), scores.astype(np.float16).astype(np.float64) >= tuned)


def _rescored(train: Dataset, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores `[N, T]`: own logit and a linear sum of all, fitted to `train`."""
    logits, labels = torch.from_numpy(to_logits(train.probabilities)), torch.from_numpy(train.need_labels()).float()
    tags, mean, spread = labels.shape[1], logits.mean(dim=0), logits.std(dim=0) + 1e-6
    gain, offset = torch.ones(tags, requires_grad=True), torch.full((tags,), OWN_OFFSET, requires_grad=True)
    matrix = torch.zeros(logits.shape[1], tags, requires_grad=True)

    def output(rows: torch.Tensor) -> torch.Tensor:
        return rows[:, :tags] * gain + offset + (rows - mean) / spread @ matrix

    groups = [{"params": [matrix], "weight_decay": DECAY}, {"params": [gain, offset], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows = torch.randint(len(logits), (BATCH,), generator=generator)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(output(logits[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        return torch.sigmoid(output(torch.from_numpy(to_logits(probabilities)))).numpy()
