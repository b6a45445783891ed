"""The exported matrices are the reservoirs: same output as reservoirpy's own node, in numpy and in the network."""

import numpy as np
import torch

from model import reservoir
from model.initialise import fit_statistics, new_network
from model.network import NetworkConfig
from model.reservoir import build_node, export
from tests.model_data import SMALL, make_dataset

TOLERANCE = 1e-5


def test_export_reproduces_reservoirpy():
    node = build_node(units=64, inputs=20, scale=1.0, seed=3)
    projection = export(node)
    rows = np.random.default_rng(0).normal(size=(50, 20))
    ours = np.tanh(rows.astype(np.float32) @ projection.win.T + projection.bias)
    assert np.abs(node.run(rows) - ours).max() < TOLERANCE


def test_there_is_no_memory_of_the_row_before():
    node = build_node(units=16, inputs=4, scale=1.0, seed=0)
    row = np.full((1, 4), 0.3)
    first = node.run(np.concatenate([row, 9 * row, row]))
    assert np.allclose(first[0], first[2])


def test_every_reservoir_of_the_network_reproduces_reservoirpy():
    config = NetworkConfig(width=16, reservoir_units=12, reservoir_across_units=20, mlp_width=0)
    network = new_network(SMALL, config, seed=5)
    dataset = make_dataset(40)
    logits = network.features.logits(torch.from_numpy(dataset.probabilities))
    fit_statistics(network, logits, dataset.labels)
    standard = network.features.standardise(logits)
    pools = network.reservoirs()
    assert [pool.units for pool in pools] == [12, 12, 12, 20]  # one per class and one across
    for index, pool in enumerate(pools):
        node = build_node(pool.units, pool.win.shape[1], config.reservoir_scale, seed=5_000 + index)
        theirs = node.run(standard[:, pool.columns].numpy().astype(np.float64))
        assert np.abs(theirs - pool(standard).numpy()).max() < TOLERANCE


def test_same_seed_same_matrices():
    one, same, other = (reservoir.export(build_node(8, 5, 1.0, seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.win, same.win) and not np.array_equal(one.win, other.win)
