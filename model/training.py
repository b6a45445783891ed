"""Training: labelled tracks in, a network with tuned thresholds out.

Read `train` top to bottom. Knows data and networks; knows nothing of folders, versions or the stream. The reported
split chooses nothing: epochs, smoothing, thresholds and even whether a network is served at all come from folds by
artist inside the training data.
"""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model import curves, evidence, metrics, thresholds
from model.config import TrainingConfig
from model.curves import Curves
from model.dataset import Dataset
from model.errors import ModelError
from model.evidence import Evidence
from model.fit import Fit, Progress, fit, predict
from model.folds import artist_folds
from model.initialise import fit_statistics, new_network
from model.intervals import f1_intervals
from model.network import NetworkConfig, Rescorer
from model.thresholds import Threshold
from model.vocabulary import Vocabulary

FEWEST_TRACKS = 100  # below this nothing is learnt: thresholds alone, on the upstream as it is
CHOICE_FOLDS = 4  # of the choice between candidates
GOLDEN_ROWS = 16  # tracks whose scores the artefact carries, to prove itself after loading
BENCHMARK_THRESHOLD = 0.5  # the rule to beat


@dataclass(frozen=True)
class Candidate:
    """Something that could be served: its out-of-fold scores, and how good they were with fitted thresholds."""

    name: str
    scores: NDArray[np.float16]  # [N, T]
    expected: NDArray  # [N, T], calibrated probabilities
    smoothing: float
    weighted_f1: float


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
    seconds: float


def train(
    dataset: Dataset,
    valid: Dataset | None = None,
    config: TrainingConfig | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Trained:
    """Train, tune and measure.

    Raises:
        ModelError: where there are no labels, or `valid` has another vocabulary.
    """
    started = time.perf_counter()
    config = config or TrainingConfig()
    tell = progress or (lambda what, done, total: None)
    labels = dataset.need_labels()
    if valid is not None and valid.vocabulary != dataset.vocabulary:
        raise ModelError("The split to report on has other columns than the training data.")
    learns = config.network.architecture != "upstream" and len(dataset) >= FEWEST_TRACKS and labels.any()

    candidates = [_upstream_candidate(dataset, config, seed)]
    fits: dict[str, Fit] = {}
    if learns:
        scores, fits = _cross_fit(dataset, config, tell, seed)
        candidates.append(candidate(config.network.architecture, scores, scores, dataset, config, seed))
    chosen = max(candidates if config.fall_back else candidates[-1:], key=lambda one: one.weighted_f1)

    network, fits = _final_network(chosen, dataset, config, fits, tell, seed)
    tuned = thresholds.tune(chosen.scores, labels, [chosen.smoothing], chosen.expected, config.objective)[0]
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
        seconds=time.perf_counter() - started,
    )


def _upstream_candidate(dataset: Dataset, config: TrainingConfig, seed: int) -> Candidate:
    """The upstream as it is; one number a tag calibrates what smoothing expects of it."""
    network = _upstream_network(dataset.vocabulary, config, seed)
    logits = network.features.logits(torch.from_numpy(dataset.probabilities))[:, : network.n_tags]
    shift = thresholds.shift_to_prevalence(logits.numpy(), dataset.need_labels())
    expected = torch.sigmoid(logits + torch.from_numpy(shift).float()).numpy()
    return candidate("upstream", to_scores(logits), expected, dataset, config, seed)


def _upstream_network(vocabulary: Vocabulary, config: TrainingConfig, seed: int) -> Rescorer:
    settings = NetworkConfig(
        architecture="upstream", clip_low=config.network.clip_low, clip_high=config.network.clip_high
    )
    return new_network(vocabulary, settings, seed)


def candidate(
    name: str, scores: NDArray, expected: NDArray, dataset: Dataset, config: TrainingConfig, seed: int
) -> Candidate:
    """Choose the smoothing: thresholds fitted on all folds but one, counted on that one."""
    labels = dataset.need_labels()
    folds = artist_folds(dataset.artists, len(dataset), CHOICE_FOLDS, seed + 1)
    decisions = np.zeros((len(config.smoothings), *labels.shape), dtype=bool)
    for fold in range(folds.max() + 1):
        rest, here = folds != fold, folds == fold
        tuned = thresholds.tune(scores[rest], labels[rest], config.smoothings, expected[rest])
        decisions[:, here] = scores[here].astype(np.float64) >= tuned[:, None, :]
    f1 = [metrics.weighted_f1(labels, decided) for decided in decisions]
    best = int(np.argmax(f1))
    return Candidate(name, scores, expected, config.smoothings[best], f1[best])


def _cross_fit(
    dataset: Dataset, config: TrainingConfig, tell: Progress, seed: int
) -> tuple[NDArray[np.float16], dict[str, Fit]]:
    """Scores `[N, T]` of every track by a network that saw none of its artist's tracks."""
    folds = artist_folds(dataset.artists, len(dataset), config.folds, seed)
    scores = np.empty(dataset.need_labels().shape, dtype=np.float16)
    fits = {}
    for fold in range(folds.max() + 1):
        rest, here = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        name = f"fold {fold + 1} of {folds.max() + 1}"
        network, fits[name] = _fit_one(name, dataset.take(rest), config, tell, seed, held=dataset.take(here))
        logits = network.features.logits(torch.from_numpy(dataset.probabilities[here]))
        scores[here] = to_scores(predict(network, logits))
    return scores, fits


def _final_network(
    chosen: Candidate, dataset: Dataset, config: TrainingConfig, fits: dict[str, Fit], tell: Progress, seed: int
) -> tuple[Rescorer, dict[str, Fit]]:
    """What is served: the upstream, or a refit on all rows for as many epochs as the folds found best."""
    if chosen.name == "upstream":
        return _upstream_network(dataset.vocabulary, config, seed).eval(), fits
    epochs = round(float(np.mean([fold.best_epoch for fold in fits.values()])))
    network, refit = _fit_one("all tracks", dataset, config, tell, seed, stop_after=max(epochs, 1))
    return network, {**fits, "all tracks": refit}


def _fit_one(
    name: str,
    dataset: Dataset,
    config: TrainingConfig,
    tell: Progress,
    seed: int,
    held: Dataset | None = None,
    stop_after: int | None = None,
) -> tuple[Rescorer, Fit]:
    network = new_network(dataset.vocabulary, config.network, seed)
    logits, labels = _tensors(network, dataset)
    fit_statistics(network, logits, dataset.need_labels())
    epochs, done = stop_after or config.epochs, 0

    def tick(loss: float) -> None:
        nonlocal done
        done += 1
        tell(f"{name}, epoch {done}, loss {loss:.4f}", done, epochs)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout draws from the global state
        result = fit(
            network,
            logits,
            labels,
            config,
            torch.Generator().manual_seed(seed),
            tick,
            held=None if held is None else _tensors(network, held),
            stop_after=stop_after,
        )
    return network, result


def _tensors(network: Rescorer, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    logits = network.features.logits(torch.from_numpy(dataset.probabilities))  # [N, F]
    return logits, torch.from_numpy(dataset.need_labels()).float()  # [N, T]


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
    folds = artist_folds(dataset.artists, len(dataset), CHOICE_FOLDS, seed + 1)
    decisions = thresholds.decide_cross_fitted(
        chosen.scores, labels, folds, chosen.smoothing, chosen.expected, config.objective
    )
    known, level = curves.measure(
        tags, thresholds.by_tag(tags, tuned), chosen.scores, labels, decisions, dataset.artists
    )
    found = metrics.summary_of(labels, chosen.scores, decisions)
    return known, {"tracks": len(dataset), "fingerprint": dataset.fingerprint(), **found, **level.plain()}


def benchmark(dataset: Dataset) -> dict[str, float]:
    """The same figures for the 0.5 rule on the upstream's own probabilities."""
    labels = dataset.need_labels()
    return metrics.summary(labels, dataset.probabilities[:, : labels.shape[1]], BENCHMARK_THRESHOLD)


def to_scores(logits: torch.Tensor) -> NDArray[np.float16]:
    """Scores as they are compared and published: sigmoid, rounded to float16."""
    return torch.sigmoid(logits).numpy().astype(np.float16)


def golden_rows(dataset: Dataset) -> NDArray[np.float32]:
    """A few tracks, evenly spread."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(GOLDEN_ROWS, len(dataset))).astype(np.int64))
    return dataset.probabilities[rows]


def describe_config(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain JSON values."""
    return asdict(config)
