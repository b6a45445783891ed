"""The networks that benchmarks run, with seeded weights: how fast they are does not depend on what they have learnt.

`cheap` is the linear one that all compared systems have, `served` what `train` serves by default, `study` the
network of the study with the configuration of its best trial.
"""

from enum import StrEnum
from pathlib import Path

import torch

from model.artifact import fixed_network, new_artifact
from model.config import CONFIGS
from model.initialise import new_network
from model.network import Linear, Rescorer
from model.registry import Registry
from ops.bench.workload import SEED, Workload

NOISE = 0.005  # deviation of the weights of an output layer, which begins as zeros: about as many tags as upstream's


class Network(StrEnum):
    """Which one."""

    CHEAP = "cheap"
    SERVED = "served"
    STUDY = "study"


def make(workload: Workload, which: Network) -> Rescorer:
    """The network, ready to score."""
    if which is Network.CHEAP:
        return cheap(workload)
    name = "default" if which is Network.SERVED else "study"
    network = new_network(workload.vocabulary, CONFIGS[name].network, SEED % 1_000)
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(0.0, NOISE, generator=generator)
    return network.eval()


def cheap(workload: Workload) -> Rescorer:
    """The `linear` network with the workload's weights."""
    network = fixed_network(workload.vocabulary, "linear")
    assert isinstance(network, Linear)
    weights, bias = workload.linear_part
    with torch.no_grad():
        network.linear.weight.copy_(torch.from_numpy(weights))
        network.linear.bias.copy_(torch.from_numpy(bias))
        network.skip.gain.fill_(1.0)
        network.skip.offset.fill_(0.0)
    return network


def publish(workload: Workload, which: Network, folder: Path) -> None:
    """An artefact of it in `folder`, which `champion` names, so that a worker starts with it."""
    thresholds = dict(zip(workload.layout.tags, workload.scorer.thresholds.tolist(), strict=True))
    version = new_artifact(make(workload, which), workload.vocabulary, thresholds, folder)
    Registry(folder).set_alias("champion", version, who="bench", why="a network of the benchmark")
