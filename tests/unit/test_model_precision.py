"""The precision that a machine scores in: taken for its speed, and only where it decides alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model import precision
from model.artifact import Artifact, disagreements, fixed_network, new_artifact
from model.config import CONFIGS
from model.device import has_bfloat16
from model.initialise import new_network
from model.registry import Registry
from tests.harness import a_vocabulary

WORDS = a_vocabulary(tags=120, categories=20)
ROWS = np.random.default_rng(5).random((512, WORDS.n_inputs)).astype(np.float32) ** 3
UNITS = has_bfloat16(torch.device("cpu"))


def an_artifact(network, folder, threshold: float = 0.5) -> Artifact:
    return Registry(folder).load(new_artifact(network, WORDS, dict.fromkeys(WORDS.tags, threshold), folder, seed=1))


@pytest.fixture
def served(tmp_path) -> Artifact:
    network = new_network(WORDS, CONFIGS["default"].network, 3)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0.0, 0.005, generator=generator)
    return an_artifact(network.eval(), tmp_path)


def times(monkeypatch, long_s: float, short_s: float) -> None:
    monkeypatch.setattr(precision, "_least_s", lambda one, other, rows: (long_s, short_s))


@pytest.mark.skipif(not UNITS, reason="this processor has no units for bfloat16")
def test_what_is_faster_by_far_is_taken_and_decides_alike(served, monkeypatch):
    times(monkeypatch, 2.0, 1.0)
    settled, why = precision.settle(served, 512)
    assert settled.bf16 and why.startswith("in bfloat16: ") and why.endswith(" 0 beyond")
    short, long = settled.score(ROWS), served.score(ROWS)
    assert (short != long).any(), "it really is another precision"
    beyond, _ = disagreements(short, long, served.threshold_row())
    assert beyond <= short.size // 10_000


@pytest.mark.skipif(not UNITS, reason="this processor has no units for bfloat16")
def test_what_gains_little_is_left(served, monkeypatch):
    times(monkeypatch, 1.2, 1.0)
    settled, why = precision.settle(served, 512)
    assert settled is served and why.startswith("in float32: ")


@pytest.mark.skipif(not UNITS, reason="this processor has no units for bfloat16")
def test_a_network_that_decides_otherwise_in_it_is_scored_in_float32(tmp_path, monkeypatch):
    times(monkeypatch, 2.0, 1.0)
    network = fixed_network(WORDS, "linear", seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(60.0)
    artifact = an_artifact(network, tmp_path)
    settled, why = precision.settle(artifact, 512)
    assert settled is artifact and why.startswith("in float32, because in bfloat16 it is another: ")


@pytest.mark.skipif(not UNITS, reason="this processor has no units for bfloat16")
def test_more_is_asked_than_the_golden_inputs(served, monkeypatch):
    """Sixteen tracks may be decided alike by luck."""
    times(monkeypatch, 2.0, 1.0)
    monkeypatch.setattr(precision, "check_golden", lambda artifact: 0)
    wild = replace(served, network=fixed_network(WORDS, "linear", seed=1))
    with torch.no_grad():
        for parameter in wild.network.parameters():
            parameter.mul_(60.0)
    settled, why = precision.settle(wild, 512)
    assert settled is wild and why.startswith(
        "in float32, because in bfloat16 it decides otherwise: of 250,000 decisions "
    )


def test_without_units_nothing_is_tried(served, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(precision, "_least_s", None)
    assert precision.settle(served, 512) == (served, "in float32: there are no units for bfloat16")


def test_both_are_measured_in_turn(served):
    asked: list[str] = []

    class Slow:
        def __init__(self, name: str) -> None:
            self.name = name

        def score(self, rows: np.ndarray) -> None:
            asked.append(self.name)

    least = precision._least_s(Slow("a"), Slow("b"), ROWS)  # type: ignore[arg-type]
    assert asked == ["a", "b"] * precision.ROUNDS and min(least) >= 0
    assert replace(served, bf16=True).bf16
