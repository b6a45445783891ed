"""Shapes, tokens, the skip, and that everything a network needs is inside it."""

import pytest
import torch

from model.errors import ModelError
from model.initialise import new_network
from model.network import ARCHITECTURES, Dropout, NetworkConfig, build
from tests.model_data import MOODS_ONLY, SMALL


def config_of(architecture: str) -> NetworkConfig:
    return NetworkConfig(architecture=architecture, width=16, reservoir_units=8, reservoir_across_units=8, mlp_width=16)


@pytest.mark.parametrize("vocabulary", [SMALL, MOODS_ONLY])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_raw_probabilities_in_finite_logits_out(architecture, vocabulary):
    network = new_network(vocabulary, config_of(architecture), seed=0).eval()
    extremes = torch.stack([torch.zeros(vocabulary.n_inputs), torch.ones(vocabulary.n_inputs)])
    logits = network(extremes)
    assert logits.shape == (2, vocabulary.n_tags) and logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("vocabulary", "lists"), [(SMALL, 5), (MOODS_ONLY, 1)])
def test_a_token_for_each_list_and_each_reservoir(vocabulary, lists):
    network = new_network(vocabulary, config_of("tokens"), seed=0)
    classes = 3 if vocabulary is SMALL else 1
    assert len(network.position) == lists + classes + 1
    assert len(network.position) > 1  # one token alone leaves attention nothing to do


@pytest.mark.parametrize("architecture", ["tokens", "linear", "upstream"])
def test_untrained_is_the_upstream(architecture):
    network = new_network(SMALL, config_of(architecture), seed=0).eval()
    probabilities = torch.rand(9, SMALL.n_inputs) * 0.9 + 0.05
    torch.testing.assert_close(torch.sigmoid(network(probabilities)), probabilities[:, : SMALL.n_tags])


def test_a_track_is_scored_alone_as_in_a_batch():
    network = new_network(SMALL, config_of("study"), seed=0).eval()
    probabilities = torch.rand(7, SMALL.n_inputs)
    torch.testing.assert_close(network(probabilities)[3:4], network(probabilities[3:4]))


def test_dropout_keeps_the_mean_and_rests_in_evaluation():
    layer, ones = Dropout(0.4), torch.ones(300, 301)
    torch.manual_seed(0)
    dropped = layer(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.4, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)
    assert layer.eval()(ones) is ones
    assert Dropout(0.0)(ones) is ones


def test_refused():
    with pytest.raises(ModelError, match="'forest' is not an architecture"):
        build(SMALL, NetworkConfig(architecture="forest"))
    with pytest.raises(ModelError, match="cannot be shared"):
        build(SMALL, NetworkConfig(width=15, heads=4))


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    new_network(SMALL, config_of("tokens"), seed=0)
    torch.testing.assert_close(torch.rand(3), expected)
