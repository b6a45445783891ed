"""What a data set looks like in numbers: how often tags come, how they go together, how right its upstream is.

The same figures describe a real data set and say whether a simulated one resembles it. Knows arrays of a loaded data
set; draws nothing and trains nothing. A figure that a data set cannot give (no labels, too few tracks) is None.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.dataset import Dataset
from model.thresholds import shift_to_prevalence
from model.vocabulary import CLASSES

LOGIT_CLIP = 1e-6
RELIABILITY_BINS = 15  # equal widths of probability
COMPONENTS = 10  # of the upstream's logits: a network's last layers leave few
FEW_POSITIVES = 10  # below this nothing is said of how confident the upstream is about a tag
CONFIDENCE_TRACKS = 20_000  # over which that is measured: a bisection over all of a large set takes a minute
HALF = 0.5  # the rule to beat
Figures = dict[str, Any]


def describe(dataset: Dataset) -> Figures:
    """Every figure of one split: `tracks`, `labels`, `upstream`, `classes`, `strongest_pairs`, `tags`."""
    labels, logits = dataset.labels, to_logits(dataset.probabilities)
    phi = None if labels is None else correlation(labels)
    return {
        "tracks": len(dataset),
        "artists": None if dataset.artists is None else len(np.unique(dataset.artists)),
        "labels": None if labels is None or phi is None else _of_labels(labels, phi, dataset.artists),
        "upstream": _of_upstream(dataset, logits),
        "classes": {
            name: _of_class(dataset, name, phi, logits) for name in CLASSES if dataset.vocabulary.classes[name]["tags"]
        },
        "strongest_pairs": [] if phi is None else strongest_pairs(dataset, phi),
        "tags": _of_tags(dataset),
    }


def to_logits(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits, clipped so that 0 and 1 stay finite."""
    clipped = np.clip(probabilities, LOGIT_CLIP, 1 - LOGIT_CLIP)
    return np.log(clipped) - np.log1p(-clipped)


def gini(values: NDArray) -> float:
    """0 where all are equal, near 1 where one has nearly all; 0 for nothing at all."""
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    total, count = ranked.sum(), len(ranked)
    return float(2 * (np.arange(1, count + 1) @ ranked) / (count * total) - (count + 1) / count) if total > 0 else 0.0


def correlation(labels: NDArray) -> NDArray[np.float64]:
    """Phi of every pair of columns `[T, T]`; NaN where a column is constant."""
    rows = max(len(labels), 1)
    values = labels.astype(np.float32)
    mean = values.mean(axis=0, dtype=np.float64)
    covariance = (values.T @ values).astype(np.float64) / rows - np.outer(mean, mean)
    spread = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    spread[spread < 1e-9] = np.nan
    return np.clip(covariance / np.outer(spread, spread), -1.0, 1.0)


def explained_by_others(phi: NDArray[np.float64], tracks: int) -> NDArray[np.float64] | None:
    """Adjusted R2 `[T]` of each tag in a linear regression on all others; None where there are too few tracks."""
    kept = ~np.isnan(np.diag(phi))
    count = int(kept.sum())
    if count < 2 or tracks <= count + 1:
        return None
    inverse = np.linalg.pinv(phi[np.ix_(kept, kept)], hermitian=True)
    left = 1 / np.maximum(np.diag(inverse), 1.0)  # the share that the others do not explain
    # Adjusted: with few tracks 247 regressors explain a part of anything.
    return 1 - left * (tracks - 1) / (tracks - count)


def components(logits: NDArray) -> NDArray[np.float64]:
    """The share of the variance `[F]` of each principal component, largest first; empty where nothing varies."""
    if len(logits) < 2:
        return np.zeros(0)
    spread = np.linalg.eigvalsh(np.cov(logits.T.astype(np.float64)).reshape(logits.shape[1], -1))[::-1]
    total = spread.sum()
    return np.maximum(spread, 0.0) / total if total > 0 else np.zeros(0)


def reliability(labels: NDArray, probabilities: NDArray) -> list[dict[str, float]]:
    """For each bin of probability that is not empty: cells, mean probability, share labelled."""
    said = probabilities.ravel()
    slot = np.minimum((said * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    cells = np.bincount(slot, minlength=RELIABILITY_BINS)
    sums = np.bincount(slot, weights=said, minlength=RELIABILITY_BINS)
    seen = np.bincount(slot, weights=labels.ravel(), minlength=RELIABILITY_BINS)
    return [
        {"cells": int(cells[b]), "said": float(sums[b] / cells[b]), "seen": float(seen[b] / cells[b])}
        for b in np.flatnonzero(cells)
    ]


def strongest_pairs(dataset: Dataset, phi: NDArray, count: int = 10) -> list[dict[str, Any]]:
    """The tags that most often come together, by phi."""
    rows, columns = np.triu_indices(len(phi), 1)
    values = np.nan_to_num(phi[rows, columns], nan=-1.0)
    best = np.argsort(-values, kind="stable")[:count]
    tags = dataset.vocabulary.tags
    return [{"tags": [tags[rows[i]], tags[columns[i]]], "phi": float(values[i])} for i in best if values[i] > 0]


def confidence(logits: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """By how much each tag's logits `[N, T]` are too high `[T]`; NaN for a tag of few positives."""
    every = max(len(labels) // CONFIDENCE_TRACKS, 1)
    logits, labels = logits[::every], labels[::every]
    return np.where(labels.sum(axis=0) >= FEW_POSITIVES, -shift_to_prevalence(logits, labels), np.nan)


def noise_share(logits: NDArray, labels: NDArray) -> float | None:
    """The mean over tags of the share of a logit's standard deviation that no linear sum of all labels explains."""
    rows, tags = labels.shape
    if rows <= tags + 1:
        return None
    truth = labels - labels.mean(axis=0, dtype=np.float32)
    heard = logits - logits.mean(axis=0, dtype=np.float64).astype(np.float32)
    between = (truth.T @ heard).astype(np.float64)  # [T, T]
    explained = (between * (np.linalg.pinv((truth.T @ truth).astype(np.float64), hermitian=True) @ between)).sum(axis=0)
    total = np.einsum("nt,nt->t", heard, heard, dtype=np.float64)
    varies = total > 0
    left = 1 - explained[varies] / total[varies]
    return float(np.sqrt(np.clip(left, 0.0, 1.0)).mean()) if varies.any() else None


def _of_labels(labels: NDArray, phi: NDArray, artists: NDArray | None) -> Figures:
    frequency = labels.mean(axis=0)
    explained = explained_by_others(phi, len(labels))
    return {
        "tags_per_track": float(labels.sum(axis=1).mean()),
        "density": float(frequency.mean()),
        "most_frequent": float(frequency.max()),
        "rarest": float(frequency.min()),
        "tags_without_a_positive": int((frequency == 0).sum()),
        "explained_by_other_tags": None if explained is None else float(explained.mean()),
        "tracks_per_artist": None if artists is None else len(labels) / len(np.unique(artists)),
        "same_tags_as_artists_last": None if artists is None else _repeated(labels, artists),
    }


def _repeated(labels: NDArray, artists: NDArray) -> float | None:
    """Of the tracks that follow one of the same artist, the share with the very same tags."""
    follows = artists[1:] == artists[:-1]
    same = (labels[1:] == labels[:-1]).all(axis=1)
    return float(same[follows].mean()) if follows.any() else None


def _of_upstream(dataset: Dataset, logits: NDArray) -> Figures:
    labels = dataset.labels
    if labels is None:
        return {}
    tags = labels.shape[1]
    rule = metrics.summary(labels, dataset.probabilities[:, :tags], HALF)
    hot = confidence(logits[:, :tags], labels)
    hot = hot[~np.isnan(hot)]
    return {
        **{f"{name}_of_0.5_rule": rule[name] for name in ("weighted_f1", "micro_f1", "macro_f1", "accuracy")},
        "bce": rule["bce"],
        "ece": rule["ece"],
        "over_confidence": float(hot.mean()) if len(hot) else None,
        "over_confidence_spread": float(hot.std()) if len(hot) else None,
        "noise_share": noise_share(logits[:, :tags], labels),
    }


def _of_class(dataset: Dataset, name: str, phi: NDArray | None, logits: NDArray) -> Figures:
    mine = np.flatnonzero(np.array(dataset.vocabulary.tag_class) == CLASSES.index(name))
    shares = components(logits[:, dataset.vocabulary.columns_of(name)])
    figures: Figures = {
        "tags": len(mine),
        "categories": len(dataset.vocabulary.classes[name]["categories"]),
        "first_component": float(shares[0]) if len(shares) else None,
        "ten_components": float(shares[:COMPONENTS].sum()) if len(shares) else None,
    }
    if dataset.labels is None or phi is None:
        return figures
    labels = dataset.labels[:, mine]
    pairs = phi[np.ix_(mine, mine)][np.triu_indices(len(mine), 1)]
    pairs = pairs[~np.isnan(pairs)]
    return {
        **figures,
        "tags_per_track": float(labels.sum(axis=1).mean()),
        "gini": gini(labels.mean(axis=0)),
        "mean_phi": float(pairs.mean()) if len(pairs) else None,
        "reliability": reliability(labels, dataset.probabilities[:, mine]),
    }


def _of_tags(dataset: Dataset) -> list[Figures]:
    said = dataset.probabilities[:, : dataset.vocabulary.n_tags].mean(axis=0, dtype=np.float64)
    found: list[Figures] = [
        {"tag": tag, "class": CLASSES[index], "mean_probability": float(said[column])}
        for column, (tag, index) in enumerate(zip(dataset.vocabulary.tags, dataset.vocabulary.tag_class, strict=True))
    ]
    if dataset.labels is not None:
        for row, positives in zip(found, dataset.labels.sum(axis=0), strict=True):
            row |= {"positives": int(positives), "frequency": float(positives / len(dataset))}
    return found
