"""The systems that are compared: the study's, the plain ones, ours, and ours without each of its parts.

A system learns from the training data alone and hands back what it decided: how to score and where the thresholds
are. The reported split never reaches this module. Knows how to train each; knows nothing of figures or files.

- "The study" is its network with and without its reservoirs, in its own training; its thresholds are refitted as
  everyone's are.
- The parts of ours are judged without the fallback to the upstream, which would hide what a part does.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from model import artifact, served, thresholds, training
from model import config as configs
from model.candidates import candidate
from model.config import TrainingConfig
from model.dataset import Dataset
from model.errors import ModelError
from model.fit import Progress
from model.systems_forest import ForestConfig, fit_forest
from model.workfolder import open_folder

RULE, OURS, NETWORK = "rule", "ours", "network"
HALF = 0.5
CPU = torch.device("cpu")  # everyone on the same cores, so that times compare


@dataclass(frozen=True)
class System:
    """One row of the table. `part` is what it lacks of the system `whole`, where it is an ablation."""

    name: str
    title: str
    config: TrainingConfig | ForestConfig | None  # None: nothing is learnt
    part: str = ""
    whole: str = ""
    random: bool = True  # whether a seed changes anything: folds are drawn by it too

    @property
    def learns_nothing(self) -> bool:
        """Whether thresholds are all there is to it."""
        return self.config is None or (
            isinstance(self.config, TrainingConfig) and self.config.network.architecture == "upstream"
        )

    def settings(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return {} if self.config is None else asdict(self.config)


@dataclass(frozen=True)
class Fitted:
    """All that a system settled before it saw what it is reported on."""

    score: Callable[[NDArray], NDArray]  # probabilities [N, F] -> scores [N, T]
    thresholds: NDArray[np.float64]  # [T]
    parameters: int  # learnt numbers, thresholds among them
    digest: str  # sha256 of what was learnt
    about: dict[str, Any]  # what else is worth telling


@dataclass(frozen=True)
class Part:
    """A part of our network or of its training, and the settings that leave it out."""

    title: str
    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def left_out(self, config: TrainingConfig) -> TrainingConfig:
        """The recipe without it."""
        return replace(config, network=replace(config.network, **self.network), **self.training)


NO_RESERVOIRS = {"reservoir_units": 0, "reservoir_across_units": 0}
PARTS = {
    "skip": Part("the own-logit skip", {"skip": False}),
    "reservoir": Part("the reservoirs", NO_RESERVOIRS),
    "transformer": Part("the transformer", {"layers": 0}),
    "both": Part("reservoirs and transformer", {"layers": 0, **NO_RESERVOIRS}),
    "linear": Part("the linear layer", {"linear": False}),
    "mlp": Part("the MLP", {"mlp_width": 0}),
    "ensemble": Part("the ensemble of MLPs", {"members": 1}),
    "swap": Part("the residual swap", training={"swap": 0.0}),
    "mixup": Part("mixup", training={"mixup": 0.0}),
}


def all_systems(ours: TrainingConfig, dissected: TrainingConfig) -> list[System]:
    """Every row in the table's order; `dissected` is the recipe by which the parts of ours are judged."""
    study = configs.CONFIGS["study"]
    study_plain = replace(study, network=replace(study.network, reservoir_units=0, reservoir_across_units=0))
    systems = [
        System(RULE, served.title(served.RULE), None, random=False),
        System("thresholds", served.title(served.UPSTREAM), _alone(configs.CONFIGS["upstream"])),
        System("forest", "random forest", ForestConfig()),
        System("linear", "linear re-scorer", _alone(configs.CONFIGS["linear"])),
        System(
            "study-plain", "study's transformer", _alone(study_plain), "the reservoirs of the study's network", "study"
        ),
        System("study", "study's transformer with reservoirs", _alone(study)),
        System(OURS, "ours", ours),
    ]
    if dissected.network.architecture != "tokens":
        return systems
    whole = _alone(dissected)
    recipe = "" if whole == _alone(ours) else f" ({dissected.epochs} epochs at most, {dissected.folds} folds)"
    systems.append(System(NETWORK, f"our network, all parts{recipe}", whole))
    for name, part in PARTS.items():
        without = part.left_out(whole)
        if without != whole:  # a recipe may lack a part by itself
            systems.append(System(f"without-{name}", f"without {part.title}", without, part.title, NETWORK))
    return systems


def choose(systems: list[System], names: str | None) -> list[System]:
    """Those of the comma-separated `names`, in the table's order; all without names.

    Raises:
        ModelError: for a name that no system has.
    """
    if names is None:
        return systems
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [system.name for system in systems]
    unknown = next((name for name in wanted if name not in known), None)
    if unknown is not None or not wanted:
        raise ModelError(f"'{unknown or names}' is not a system; there are {', '.join(known)}.")
    return [system for system in systems if system.name in wanted]


def fit_system(system: System, dataset: Dataset, seed: int, tell: Progress, work_dir: Path) -> Fitted:
    """Train one system on labelled tracks; a network that was broken off goes on from what is in `work_dir`.

    Raises:
        ModelError: where the data set has no labels, or `work_dir` cannot be written.
    """
    if system.config is None:
        return _half_rule(dataset)
    if isinstance(system.config, ForestConfig):
        return _forest(system.config, dataset, seed, tell)
    return _network(system.config, dataset, seed, tell, work_dir)


def _alone(config: TrainingConfig) -> TrainingConfig:
    """Served whatever it is worth."""
    return replace(config, fall_back=False)


def _half_rule(dataset: Dataset) -> Fitted:
    tags = dataset.vocabulary.n_tags
    return Fitted(
        score=lambda probabilities: probabilities[:, :tags],
        thresholds=np.full(tags, HALF),
        parameters=0,
        digest=hashlib.sha256(b"").hexdigest(),
        about={},
    )


def _network(config: TrainingConfig, dataset: Dataset, seed: int, tell: Progress, work_dir: Path) -> Fitted:
    with open_folder(work_dir, training.facts(dataset, config, seed, CPU)) as work:
        trained = training.train(dataset, None, config, tell, seed, CPU, work)
    network = trained.network
    return Fitted(
        score=lambda probabilities: artifact.score(network, probabilities),
        thresholds=thresholds.row(dataset.vocabulary.tags, trained.thresholds),
        parameters=sum(parameter.numel() for parameter in network.parameters()) + network.n_tags,
        digest=hashlib.sha256(safetensors.torch.save(network.state_dict())).hexdigest(),
        about={
            "served": trained.metrics["served"],
            "smoothing": trained.metrics["smoothing"],
            "cross_fitted_weighted_f1": trained.metrics["cross_fitted_weighted_f1"],
            "epochs": {name: fit.best_epoch for name, fit in trained.fits.items()},
        },
    )


def _forest(config: ForestConfig, dataset: Dataset, seed: int, tell: Progress) -> Fitted:
    forest, out_of_fold = fit_forest(dataset, config, seed, tell)
    recipe = TrainingConfig()
    chosen = candidate("forest", out_of_fold, out_of_fold, dataset, recipe, seed)
    tuned = chosen.tune(dataset, recipe.objective)
    return Fitted(
        score=forest.score,
        thresholds=tuned,
        parameters=forest.parameters() + len(tuned),
        digest=forest.digest(),
        about={
            "smoothing": chosen.smoothing,
            "cross_fitted_weighted_f1": {"forest": chosen.weighted_f1},
        },
    )
