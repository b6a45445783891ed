"""What a network has before it learns: reservoir matrices, input statistics, and each tag's frequency.

Everything random comes from one seed. Kept out of `model.network`, so that loading an artefact needs neither
reservoirpy nor data.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from model import reservoir
from model.network import NetworkConfig, OwnFrequency, OwnLogit, Rescorer, build
from model.thresholds import shift_to_prevalence
from model.vocabulary import Vocabulary

SMALLEST_DEVIATION = 1e-3  # of a logit: a constant column is centred, not blown up


def new_network(vocabulary: Vocabulary, config: NetworkConfig, seed: int) -> Rescorer:
    """A network with seeded weights and reservoirs; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(vocabulary, config)
    for index, pool in enumerate(network.reservoirs()):
        units, inputs = pool.win.shape
        node = reservoir.build_node(units, inputs, config.reservoir_scale, seed=seed * 1_000 + index)
        projection = reservoir.export(node)
        pool.win.copy_(torch.from_numpy(projection.win))
        pool.bias.copy_(torch.from_numpy(projection.bias))
    return network


def fit_statistics(network: Rescorer, logits: torch.Tensor, labels: NDArray) -> None:
    """Means and deviations of the clipped logits `[N, F]`; the skip starts as the calibrated upstream.

    Where the skip is left out, what stands for it starts as each tag's frequency.
    """
    network.features.mean.copy_(logits.mean(dim=0))
    network.features.scale.copy_(1.0 / logits.std(dim=0, correction=0).clamp_min(SMALLEST_DEVIATION))
    skip = getattr(network, "skip", None)
    if isinstance(skip, OwnLogit | OwnFrequency):
        own = logits[:, : network.n_tags].numpy()
        if isinstance(skip, OwnFrequency):
            own = np.zeros_like(own)
        shift = shift_to_prevalence(own, labels).astype(np.float32)
        with torch.no_grad():
            skip.offset.copy_(torch.from_numpy(shift))
