"""The fits that one training is made of: one for each fold of artists, then one on all tracks.

What is finished, and the fit under way, is kept in a work folder where one is given: a training that was broken off
goes on from there and ends with the same weights. Knows data sets and networks; knows nothing of thresholds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.candidates import to_scores
from model.config import TrainingConfig
from model.dataset import Dataset
from model.fit import Fit, Progress, fit, predict
from model.folds import artist_folds
from model.initialise import fit_statistics, new_network
from model.network import Rescorer
from model.workfolder import Running, WorkFolder

ALL_TRACKS = "all tracks"
SCORES = "scores"


@dataclass(frozen=True)
class Fitter:
    """All that the fits of one training have in common."""

    dataset: Dataset
    config: TrainingConfig
    seed: int
    tell: Progress
    device: torch.device
    work: WorkFolder | None = None

    def cross_fit(self) -> tuple[NDArray[np.float16], dict[str, Fit]]:
        """Scores `[N, T]` of every track by a network that saw none of its artist's tracks."""
        folds = artist_folds(self.dataset.artists, len(self.dataset), self.config.folds, self.seed)
        scores = np.empty(self.dataset.need_labels().shape, dtype=np.float16)
        fits: dict[str, Fit] = {}
        for fold in range(folds.max() + 1):
            here = folds == fold
            name = f"fold {fold + 1} of {folds.max() + 1}"
            scores[here], fits[name] = self._fold(name, here)
        return scores, fits

    def _fold(self, name: str, here: NDArray[np.bool_]) -> tuple[NDArray[np.float16], Fit]:
        """Scores of the tracks that are `here` `[N]`, by a network that learnt from the others."""
        kept = self.work.read(name) if self.work else None
        if kept:
            return kept[0][SCORES].numpy(), Fit(**kept[1])
        rest, held = self.dataset.take(np.flatnonzero(~here)), self.dataset.take(np.flatnonzero(here))
        network, result = self._fit(name, rest, held)
        scores = to_scores(predict(network, network.features.logits(torch.from_numpy(held.probabilities))))
        self._keep(name, {SCORES: torch.from_numpy(scores)}, result)
        return scores, result

    def refit(self, fits: dict[str, Fit]) -> tuple[Rescorer, Fit]:
        """A network that learnt from all tracks, for as many epochs as the folds found best."""
        kept = self.work.read(ALL_TRACKS) if self.work else None
        if kept:
            network = new_network(self.dataset.vocabulary, self.config.network, self.seed)
            network.load_state_dict(kept[0])
            return network.eval(), Fit(**kept[1])
        epochs = max(round(float(np.mean([fold.best_epoch for fold in fits.values()]))), 1)
        network, result = self._fit(ALL_TRACKS, self.dataset, stop_after=epochs)
        self._keep(ALL_TRACKS, network.state_dict(), result)
        return network, result

    def _keep(self, name: str, tensors: dict[str, torch.Tensor], result: Fit) -> None:
        if self.work:
            self.work.write(name, tensors, asdict(result))
            self.work.remove(under_way(name))

    def _fit(
        self, name: str, dataset: Dataset, held: Dataset | None = None, stop_after: int | None = None
    ) -> tuple[Rescorer, Fit]:
        """One network on `dataset`, stopped early by `held` or after a given number of epochs; it ends on the CPU."""
        network = new_network(dataset.vocabulary, self.config.network, self.seed)
        logits, labels = tensors_of(network, dataset)
        fit_statistics(network, logits, dataset.need_labels())
        running = Running(self.work, under_way(name)) if self.work else None
        epochs = stop_after or self.config.epochs
        done = running.epochs_done() if running else 0

        def tick(loss: float) -> None:
            nonlocal done
            done += 1
            self.tell(f"{name}, epoch {done}, loss {loss:.4f}", done, epochs)

        there = self.device
        seen_apart = None if held is None else [part.to(there) for part in tensors_of(network, held)]
        with _seeded(self.seed, there):
            result = fit(
                network.to(there),
                logits.to(there),
                labels.to(there),
                self.config,
                torch.Generator().manual_seed(self.seed),
                tick,
                held=None if seen_apart is None else (seen_apart[0], seen_apart[1]),
                stop_after=stop_after,
                kept=running,
            )
        return network.cpu(), result


def under_way(name: str) -> str:
    """The part of a work folder that a running fit is."""
    return f"{name}, under way"


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout draws from the global state, which is as before afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def tensors_of(network: Rescorer, dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Clipped logits `[N, F]` and labels `[N, T]`."""
    logits = network.features.logits(torch.from_numpy(dataset.probabilities))
    return logits, torch.from_numpy(dataset.need_labels()).float()
