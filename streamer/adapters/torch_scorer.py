"""Models from the registry as scorers: verified, warmed up, on the device that is there.

The only place of the stream that knows torch and the trainer's artefacts.
"""

import logging
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model import curves
from model.artifact import Artifact
from model.device import choose
from model.errors import ModelError
from model.registry import Registry
from streamer.core.drift import Reference
from streamer.core.layout import Layout
from streamer.ports import LoadedModel
from streamer.serving import ModelUnusable

log = logging.getLogger(__name__)


class TorchScorer:
    """`streamer.ports.Scorer` on a loaded artefact."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact

    def score(self, probabilities: NDArray[np.float64]) -> NDArray[np.float16]:
        """Scores [B, T] of probabilities [B, F]; in halves, and halves of those, where the device's memory is short.

        Raises:
            torch.cuda.OutOfMemoryError: when there is no room for a single track.
        """
        try:
            return self._artifact.score(probabilities.astype(np.float32))
        except torch.cuda.OutOfMemoryError:
            if len(probabilities) < 2:
                raise
        # outside the handler: the exception's frames would keep the tensors that filled the memory
        torch.cuda.empty_cache()
        half = len(probabilities) // 2
        log.warning("the device is out of memory with %d tracks: scoring them in halves", len(probabilities))
        return np.concatenate([self.score(probabilities[:half]), self.score(probabilities[half:])])


class RegistryLoader:
    """`streamer.serving.ModelLoader` on a folder of artefacts."""

    def __init__(self, models_dir: Path, device: str, warm_up_rows: int) -> None:
        self._registry = Registry(models_dir)
        self._device = device
        self._warm_up_rows = warm_up_rows
        torch.set_num_threads(scoring_threads())

    def champion(self) -> str | None:
        """The version that `champion` names, if any."""
        try:
            return self._registry.aliases().get("champion")
        except ModelError as error:
            raise ModelUnusable(str(error)) from error

    def load(self, version: str) -> LoadedModel:
        """Load, verify checksums and golden outputs, and score once at the size the stream will use."""
        try:
            artifact, device = self._registry.load(version), choose(self._device)
        except ModelError as error:
            raise ModelUnusable(str(error)) from error
        artifact.network.to(device)
        vocabulary = artifact.vocabulary
        layout = Layout.build(vocabulary.fingerprint, vocabulary.classes)
        scorer = TorchScorer(artifact)
        scorer.score(np.zeros((self._warm_up_rows, layout.n_inputs), np.float64))
        return LoadedModel(artifact.version, layout, dict(artifact.thresholds), scorer, self._reference(artifact))

    def _reference(self, artifact: Artifact) -> Reference | None:
        """What the model was tuned on, where the artefact says so: it decides without."""
        try:
            known = curves.read(self._registry.path(artifact.version), artifact.manifest)
        except ModelError as error:
            log.info("no drift is measured: %s", error)
            return None
        return Reference(curves.EDGES, known.tracks, known.scores(), known.inputs, known.tuned_shares())


def scoring_threads() -> int:
    """All cores this process may use but one, which is the event loop's.

    Measured on 2 cores: with two threads a 512-track linear batch takes twenty times as long as with one as soon as
    anything else runs, because torch's threads spin while they wait for each other.
    """
    return max(1, len(os.sched_getaffinity(0)) - 1) if hasattr(os, "sched_getaffinity") else 1
