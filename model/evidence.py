"""What the report shows beside the figures of each tag: how far scores can be believed, and a few tracks.

Collected while the data is at hand, so that the report needs none. Knows arrays and a data set; draws nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.curves import EDGES
from model.dataset import Dataset

EXAMPLES = 8
HALF = 0.5  # the rule that upstream's probabilities are read by without a model


@dataclass(frozen=True)
class Reliability:
    """Cells by what was said of them, in bins between the `EDGES` of `model.curves`; empty bins left out."""

    said: NDArray[np.float64]  # [B] mean score
    seen: NDArray[np.float64]  # [B] share that has the tag
    cells: NDArray[np.int64]  # [B]


@dataclass(frozen=True)
class Example:
    """One track: the tags that upstream's 0.5 rule gives it, those that the model gives it, and its labels."""

    track_id: str
    half_rule: tuple[str, ...]
    decided: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    reliability: dict[str, Reliability]  # by what is looked at; out of fold
    examples: tuple[Example, ...]
    examples_held_out: bool  # from the reported split; else from the training tracks, out of fold


def reliability(scores: NDArray, labels: NDArray) -> Reliability:
    """The diagram of `scores` and `labels` `[N, T]`, all cells at once."""
    flat = scores.ravel().astype(np.float64)
    slot = np.clip(np.searchsorted(EDGES, flat, side="right") - 1, 0, len(EDGES) - 2)
    cells = np.bincount(slot, minlength=len(EDGES) - 1)
    said = np.bincount(slot, weights=flat, minlength=len(EDGES) - 1)
    seen = np.bincount(slot, weights=labels.ravel().astype(np.float64), minlength=len(EDGES) - 1)
    full = cells > 0
    return Reliability(said[full] / cells[full], seen[full] / cells[full], cells[full])


def examples(dataset: Dataset, scores: NDArray, thresholds: NDArray) -> tuple[Example, ...]:
    """A few tracks of a labelled data set, evenly spread over it and not picked; `scores` `[N, T]`."""
    labels, tags = dataset.need_labels(), np.array(dataset.vocabulary.tags, dtype=object)
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(EXAMPLES, len(dataset))).astype(np.int64))
    return tuple(
        Example(
            track_id=dataset.track_ids[row],
            half_rule=tuple(tags[dataset.probabilities[row, : len(tags)] >= HALF]),
            decided=tuple(tags[scores[row].astype(np.float64) >= thresholds]),
            labels=tuple(tags[labels[row].astype(bool)]),
        )
        for row in rows
    )
