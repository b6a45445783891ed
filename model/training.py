"""Training: labelled tracks in, a network with tuned thresholds out.

Read `_train` top to bottom. Knows data and networks; knows nothing of folders, versions or the stream. The reported
split chooses nothing: epochs, smoothing, thresholds and even whether a network is served at all come from folds by
artist inside the training data.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model import curves, evidence, metrics, thresholds
from model.candidates import (
    HALF,
    Candidate,
    candidate,
    choice_folds,
    choose,
    to_scores,
    upstream_candidates,
    upstream_network,
)
from model.clock import Clock
from model.config import TrainingConfig
from model.crossfit import ALL_TRACKS, Fitter
from model.curves import Curves
from model.dataset import Dataset
from model.errors import ModelError
from model.evidence import Evidence
from model.fit import Fit, Progress, predict
from model.intervals import f1_intervals
from model.network import Rescorer
from model.objective import Objective
from model.thresholds import Threshold
from model.vocabulary import Vocabulary
from model.workfolder import WorkFolder

FEWEST_TRACKS = 100  # below this nothing is learnt: thresholds alone, on the upstream as it is
GOLDEN_ROWS = 16  # tracks whose scores the artefact carries, to prove itself after loading


@dataclass(frozen=True)
class Trained:
    """All that an artefact is made of."""

    network: Rescorer
    vocabulary: Vocabulary
    thresholds: dict[str, Threshold]
    config: TrainingConfig
    metrics: dict[str, Any]
    curves: Curves  # what is known of each tag, out of fold
    evidence: Evidence  # what else the report shows
    fits: dict[str, Fit]  # learning curves
    golden_inputs: NDArray[np.float32]
    data: dict[str, Any]
    seed: int
    machine: dict[str, Any]  # what beside data, configuration and seed decides the last bits of the weights
    seconds: float  # of all stretches, where it was broken off


def train(
    dataset: Dataset,
    valid: Dataset | None = None,
    config: TrainingConfig | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    work: WorkFolder | None = None,
) -> Trained:
    """Train, tune and measure; on the CPU where no `device` is named. What `work` holds is not learnt again.

    Raises:
        ModelError: where there are no labels, or `valid` has another vocabulary.
    """
    dataset.need_labels()
    if valid is not None and valid.vocabulary != dataset.vocabulary:
        raise ModelError("The split to report on has other columns than the training data.")
    clock = work.clock() if work else Clock()

    def tell(what: str, done: int, total: int) -> None:
        clock.keep()
        if progress:
            progress(what, done, total)

    with clock.kept():
        fitter = Fitter(dataset, config or TrainingConfig(), seed, tell, device or torch.device("cpu"), work)
        return _train(fitter, valid, clock)


def _train(fitter: Fitter, valid: Dataset | None, clock: Clock) -> Trained:
    """All of it, top to bottom."""
    dataset, config, seed, labels = fitter.dataset, fitter.config, fitter.seed, fitter.dataset.need_labels()
    learns = config.network.architecture != "upstream" and len(dataset) >= FEWEST_TRACKS and labels.any()

    candidates = upstream_candidates(dataset, config, seed)
    fits: dict[str, Fit] = {}
    if learns:
        scores, fits = fitter.cross_fit()
        candidates.append(candidate(config.network.architecture, scores, scores, dataset, config, seed))
    chosen = choose(candidates, dataset) if config.fall_back else candidates[-1]

    if chosen.is_upstream:
        network = upstream_network(dataset.vocabulary, config, seed)
    else:
        network, fits[ALL_TRACKS] = fitter.refit(fits)
    fitter.tell("thresholds and intervals", 0, 1)
    tuned = chosen.tune(dataset, config.objective)
    reported, seen = _measure(network, tuned, dataset, valid, chosen)
    known, out_of_fold = _measure_out_of_fold(tuned, dataset, chosen, config, seed)
    return Trained(
        network=network,
        vocabulary=dataset.vocabulary,
        thresholds=thresholds.by_tag(dataset.vocabulary.tags, tuned),
        config=replace(config, network=network.config),
        metrics={
            "served": chosen.name,
            "smoothing": chosen.smoothing,
            "objective": str(config.objective),
            "cross_fitted_weighted_f1": {one.name: one.weighted_f1 for one in candidates},
            "out_of_fold": out_of_fold,
            **reported,
        },
        curves=known,
        evidence=seen,
        fits=fits,
        golden_inputs=golden_rows(dataset),
        data={"fingerprint": out_of_fold["fingerprint"], "tracks": len(dataset)},
        seed=seed,
        machine={"device": fitter.device.type, "threads": torch.get_num_threads()},
        seconds=round(clock.read()[0], 1),
    )


def _measure(
    network: Rescorer, tuned: NDArray, dataset: Dataset, valid: Dataset | None, chosen: Candidate
) -> tuple[dict[str, Any], Evidence]:
    """Figures on the reported split where there is one, which then also lends the example tracks."""
    figures: dict[str, Any] = {}
    shown, scores = dataset, chosen.scores
    if valid is not None:
        labels, shown = valid.need_labels(), valid
        scores = to_scores(predict(network, network.features.logits(torch.from_numpy(valid.probabilities))))
        level = f1_intervals(labels, scores.astype(np.float64) >= tuned, valid.artists)
        found = metrics.summary(labels, scores, tuned)
        figures["valid"] = {"tracks": len(valid), "fingerprint": valid.fingerprint(), **found, **level.plain()}
        figures["valid_benchmark"] = benchmark(valid)
    upstream = dataset.probabilities[:, : len(tuned)]
    return figures, Evidence(
        reliability={
            "this model": evidence.reliability(chosen.scores, dataset.need_labels()),
            "upstream": evidence.reliability(upstream, dataset.need_labels()),
        },
        examples=evidence.examples(shown, scores, tuned),
        examples_held_out=valid is not None,
    )


def _measure_out_of_fold(
    tuned: NDArray, dataset: Dataset, chosen: Candidate, config: TrainingConfig, seed: int
) -> tuple[Curves, dict[str, Any]]:
    """What is known of each tag and of all, where no artist's track had a part in its own score or threshold."""
    labels, tags = dataset.need_labels(), dataset.vocabulary.tags
    decisions = chosen.decisions
    if config.objective != Objective():
        folds = choice_folds(dataset, seed)
        decisions = thresholds.decide_cross_fitted(
            chosen.scores, labels, folds, chosen.smoothing, chosen.expected, config.objective
        )
    known, level = curves.measure(
        tags,
        thresholds.by_tag(tags, tuned),
        chosen.scores,
        labels,
        decisions,
        dataset.artists,
        dataset.probabilities,
    )
    found = metrics.summary_of(labels, chosen.scores, decisions)
    return known, {"tracks": len(dataset), "fingerprint": dataset.fingerprint(), **found, **level.plain()}


def benchmark(dataset: Dataset) -> dict[str, float]:
    """The same figures for the 0.5 rule on the upstream's own probabilities."""
    labels = dataset.need_labels()
    return metrics.summary(labels, dataset.probabilities[:, : labels.shape[1]], HALF)


def golden_rows(dataset: Dataset) -> NDArray[np.float32]:
    """A few tracks, evenly spread."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(GOLDEN_ROWS, len(dataset))).astype(np.int64))
    return dataset.probabilities[rows]


def describe_config(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    return asdict(config)


def facts(dataset: Dataset, config: TrainingConfig, seed: int, device: torch.device) -> dict[str, Any]:
    """What decides the weights, beside code and libraries, as plain JSON values: the key of a work folder."""
    return {
        "data": dataset.fingerprint(),
        "config": {**describe_config(config), "objective": str(config.objective)},
        "seed": seed,
        "device": device.type,
    }
