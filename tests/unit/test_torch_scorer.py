"""Out of memory on the device: the batch is halved until it fits, and the scores are those of the whole."""

import numpy as np
import pytest
import torch

from model.artifact import Artifact, fixed_network, new_artifact
from model.registry import Registry
from streamer.adapters.torch_scorer import TorchScorer
from tests.harness import a_vocabulary


@pytest.fixture
def artifact(tmp_path) -> Artifact:
    words = a_vocabulary(tags=20, categories=9)
    version = new_artifact(fixed_network(words, seed=1), words, dict.fromkeys(words.tags, 0.5), tmp_path, seed=1)
    return Registry(tmp_path).load(version)


class SmallDevice:
    """An artefact on a device that holds so many tracks at once."""

    def __init__(self, artifact: Artifact, room: int) -> None:
        self._artifact, self._room = artifact, room
        self.sizes: list[int] = []

    def score(self, probabilities: np.ndarray) -> np.ndarray:
        self.sizes.append(len(probabilities))
        if len(probabilities) > self._room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self._artifact.score(probabilities)


def test_a_batch_that_does_not_fit_is_scored_in_halves(artifact):
    width = len(artifact.vocabulary.tags) + sum(
        len(names["categories"]) for names in artifact.vocabulary.classes.values()
    )
    rows = np.random.default_rng(3).random((37, width))
    device = SmallDevice(artifact, room=10)
    scores = TorchScorer(device).score(rows)  # type: ignore[arg-type]
    assert device.sizes == [37, 18, 9, 9, 19, 9, 10]
    whole = TorchScorer(artifact).score(rows)
    assert scores.dtype == np.float16
    assert np.abs(scores.astype(np.float32) - whole.astype(np.float32)).max() <= 2**-10, "beyond a float16 step"


def test_a_device_without_room_for_one_track_is_an_error(artifact):
    with pytest.raises(torch.cuda.OutOfMemoryError):
        TorchScorer(SmallDevice(artifact, room=0)).score(np.zeros((3, 29)))  # type: ignore[arg-type]


def test_torch_rounds_to_float16_as_numpy_does():
    """Every float16 in [0, 1], what lies half way to the next, and the float32 on either side of both."""
    halves = np.arange(0x3C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    exact = np.concatenate([halves, (halves[1:] + halves[:-1]) / 2])
    numbers = np.concatenate([exact, np.nextafter(exact, np.float32(2)), np.nextafter(exact, np.float32(-1))])
    by_torch = torch.from_numpy(numbers).half().numpy()
    assert np.array_equal(by_torch.view(np.uint16), numbers.astype(np.float16).view(np.uint16))
