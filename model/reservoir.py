"""Fixed random projections, made by reservoirpy and exported as plain matrices.

A node without recurrence (`W` zero, leak rate 1) is an ELM-like layer: `tanh(Win x + bias)`. reservoirpy makes the
matrices; the network holds them as buffers and computes the same in torch, so a served model needs no reservoirpy
(a test proves the two agree to 1e-5). Knows dimensions and a seed, nothing of tags.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Projection:
    """`tanh(win @ x + bias)`: win float32 `[units, inputs]`, bias float32 `[units]`."""

    win: NDArray[np.float32]
    bias: NDArray[np.float32]


def build_node(units: int, inputs: int, scale: float, seed: int):
    """An initialised reservoirpy node without recurrence, driven by `inputs` numbers.

    `scale` is divided by the square root of the fan-in, so that the units' drive keeps its spread whatever the
    vocabulary's size: standardised inputs drive tanh with about `scale` standard deviations.
    """
    from reservoirpy.mat_gen import normal, uniform
    from reservoirpy.nodes import Reservoir

    node = Reservoir(
        units,
        lr=1.0,
        W=np.zeros((units, units)),
        Win=normal,
        bias=uniform,
        input_scaling=scale / np.sqrt(inputs),
        input_connectivity=1.0,
        activation="tanh",
        input_dim=inputs,
        seed=seed,
    )
    node.initialize(np.zeros((1, inputs)))
    return node


def export(node) -> Projection:
    """The node's matrices, dense."""
    win = node.Win.toarray() if hasattr(node.Win, "toarray") else np.asarray(node.Win)
    bias = node.bias.toarray() if hasattr(node.bias, "toarray") else np.asarray(node.bias)
    return Projection(win.astype(np.float32), bias.astype(np.float32).reshape(-1))
