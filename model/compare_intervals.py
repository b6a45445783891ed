"""What a comparison's runs come to: means and spreads over seeds, intervals over artists, and paired differences.

Every run meets the same resampled artists (`model.intervals`), so a difference between two systems is taken track by
track. Where a system has several seeds, each resample draws seeds too: an interval holds both kinds of chance; with
one seed it holds the artists' alone. The outcome is plain JSON values, the one source of tables and pictures.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.compare import Run
from model.dataset import Dataset
from model.intervals import LEVEL, RESAMPLES_AT_ONCE, draw, sum_by_artist
from model.systems import OURS, RULE, System
from model.vocabulary import CLASSES

FORMAT = 1
RESAMPLES = 1000
RARE_BELOW = 0.01  # of the training tracks
RESAMPLED = ("weighted_f1", "micro_f1", "macro_f1", "rare_f1", *CLASSES)
PLAIN = ("samples_f1", "bce", "accuracy", "ece")
COSTS = ("parameters", "seconds", "cpu_seconds", "tracks_per_s")

Figures = dict[str, NDArray[np.float64]]  # [1 + R] by name: the figure itself, then its resamples


def results(systems: list[System], runs: list[Run], train: Dataset, splits: dict[str, Dataset]) -> dict[str, Any]:
    """All figures of a comparison; systems without a finished run are left out."""
    frequency = train.need_labels().mean(axis=0)
    rare = (frequency > 0) & (frequency < RARE_BELOW)
    present = [system for system in systems if any(run.system == system.name for run in runs)]
    return {
        "format": FORMAT,
        "tagstream": version("tagstream"),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "resamples": RESAMPLES,
        "rare_below": RARE_BELOW,
        "rare_tags": int(rare.sum()),
        "train": _describe(train),
        "splits": {
            name: {**_describe(split), **_split_results(present, runs, name, split, rare)}
            for name, split in splits.items()
        },
    }


def _describe(dataset: Dataset) -> dict[str, Any]:
    artists = None if dataset.artists is None else len(np.unique(dataset.artists))
    return {"tracks": len(dataset), "artists": artists, "fingerprint": dataset.fingerprint()}


def _split_results(
    systems: list[System], runs: list[Run], name: str, split: Dataset, rare: NDArray[np.bool_]
) -> dict[str, Any]:
    masks = _masks(split, rare)
    mine = {system.name: [run for run in runs if run.system == system.name] for system in systems}
    resampled = {
        system: [resample(split, run.reported[name].decisions, masks) for run in its] for system, its in mine.items()
    }
    drawn = {system: _over_seeds(its, order) for order, (system, its) in enumerate(resampled.items())}
    rows = [_row(system, mine[system.name], name, resampled[system.name], drawn) for system in systems]
    parts = [
        {
            "part": system.part,
            "without": system.name,
            "whole": system.whole,
            "gain": interval(drawn[system.whole]["weighted_f1"] - drawn[system.name]["weighted_f1"]),
        }
        for system in systems
        if system.part and system.whole in drawn
    ]
    return {"systems": rows, "parts": parts}


def _masks(split: Dataset, rare: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Which tags `[T]` a weighted F1 is over; none where there are none, or none of them is labelled here."""
    tag_class, labelled = np.array(split.vocabulary.tag_class), split.need_labels().any(axis=0)
    masks = {"weighted_f1": np.ones(len(rare), dtype=bool), "rare_f1": rare}
    masks.update({name: tag_class == index for index, name in enumerate(CLASSES)})
    return {name: mask for name, mask in masks.items() if name == "weighted_f1" or (mask & labelled).any()}


def _row(system: System, runs: list[Run], split: str, resampled: list[Figures], drawn: dict[str, Figures]) -> dict:
    figures = {
        name: {**interval(values), "spread": _spread([float(seed[name][0]) for seed in resampled])}
        for name, values in drawn[system.name].items()
    }
    for name in PLAIN:
        values = [run.reported[split].figures[name] for run in runs]
        figures[name] = {"mean": float(np.mean(values)), "spread": _spread(values)}
    costs = {name: _mean([getattr(run, name) for run in runs]) for name in COSTS}
    against = {
        f"to_{other}": interval(drawn[system.name]["weighted_f1"] - drawn[other]["weighted_f1"])
        for other in (RULE, OURS)
        if other in drawn and other != system.name
    }
    return {
        "system": system.name,
        "title": system.title,
        "seeds": [run.seed for run in runs],
        "served": sorted({run.about["served"] for run in runs if "served" in run.about}),
        "epochs": None if system.learns_nothing else system.settings().get("epochs"),
        **figures,
        **against,
        **costs,
    }


def resample(split: Dataset, decisions: NDArray[np.bool_], masks: dict[str, NDArray[np.bool_]]) -> Figures:
    """F1 figures of one run's decisions `[N, T]`; the same split gives the same resamples for every run."""
    labels = split.need_labels().astype(bool)
    hits = sum_by_artist(labels & decisions, split.artists)  # [A, T]
    positives = sum_by_artist(labels, split.artists)
    whole = positives + sum_by_artist(decisions, split.artists)
    chunks = [_figures(times @ hits, times @ whole, times @ positives, masks) for times in _draws(len(hits))]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _draws(artists: int) -> Iterator[NDArray[np.float32]]:
    """How often each artist is taken `[., A]`: once each, then resampled."""
    yield np.ones((1, artists), dtype=np.float32)
    rng = np.random.default_rng(0)
    for start in range(0, RESAMPLES, RESAMPLES_AT_ONCE):
        yield draw(rng, min(RESAMPLES_AT_ONCE, RESAMPLES - start), artists)


def _figures(hits: NDArray, whole: NDArray, positives: NDArray, masks: dict[str, NDArray[np.bool_]]) -> Figures:
    """Each figure `[R]` from sums over tracks `[R, T]`; `whole` is positives and decisions together."""
    f1 = np.divide(2.0 * hits, whole, out=np.zeros(hits.shape), where=whole > 0)
    figures = {
        "micro_f1": 2.0 * hits.sum(axis=1, dtype=np.float64) / np.maximum(whole.sum(axis=1, dtype=np.float64), 1.0),
        "macro_f1": f1.mean(axis=1),
    }
    for name, mask in masks.items():
        weights = positives[:, mask].astype(np.float64)
        figures[name] = (f1[:, mask] * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
    return figures


def _over_seeds(seeds: list[Figures], order: int) -> Figures:
    """The mean over seeds; in resamples over as many drawn seeds, each system drawing its own."""
    rng = np.random.default_rng([order, len(seeds)])
    picked = rng.integers(len(seeds), size=(len(seeds), RESAMPLES))  # [S, R]
    merged = {}
    for name in seeds[0]:
        values = np.stack([seed[name] for seed in seeds])  # [S, 1 + R]
        resampled = np.take_along_axis(values[:, 1:], picked, axis=0).mean(axis=0)
        merged[name] = np.append(values[:, 0].mean(), resampled)
    return merged


def interval(values: NDArray[np.float64]) -> dict[str, float]:
    """The figure itself, `values[0]`, and the interval that its resamples give; the figure lies inside."""
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean = float(values[0])
    return {"mean": mean, "low": min(float(low), mean), "high": max(float(high), mean)}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _spread(values: list[float]) -> float | None:
    """The standard deviation over seeds; None for one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
