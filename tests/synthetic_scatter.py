"""How much of a simulated catalogue's figures is chance, and how much is size: `python -m tests.synthetic_scatter 7`.

Draws samples of one block each, from one world, and prints each figure's mean and spread over them, and the figure of
all of them together. What docs/data.md says of it comes from here.
"""

import sys

import numpy as np
import torch

from model import catalogue_figures, metrics
from model.synthetic import BLOCK
from model.synthetic_world import Shape, World, draw, make_world

Sample = tuple[np.ndarray, np.ndarray]  # labels [N, T], what the upstream says of them [N, T]


def sample(world: World, shape: Shape, seed: int) -> Sample:
    """One block, as the catalogue of that seed begins."""
    catalogue = draw(world, shape, BLOCK, np.random.default_rng([seed, 1, 0]))
    of_class = np.bincount(world.vocabulary.tag_class)
    said = [
        tagger.probabilities(catalogue.audio)[:, :tags] for tagger, tags in zip(world.taggers, of_class, strict=True)
    ]
    return catalogue.labels, np.concatenate(said, axis=1)


def figures(labels: np.ndarray, said: np.ndarray) -> dict[str, float]:
    explained = catalogue_figures.explained_by_others(catalogue_figures.correlation(labels), len(labels))
    assert explained is not None
    return {
        "weighted F1 of the 0.5 rule": metrics.weighted_f1(labels, said >= 0.5),
        "R2 of a tag from all others": float(explained.mean()),
        "density": float(labels.mean()),
    }


def main(samples: int) -> None:
    shape = Shape()
    world = make_world(shape)
    drawn = [sample(world, shape, seed) for seed in range(samples)]
    alone = [figures(*one) for one in drawn]
    together = figures(*(np.concatenate(parts) for parts in zip(*drawn, strict=True)))
    for name, value in together.items():
        values = np.array([one[name] for one in alone])
        print(
            f"{name}: {values.mean():.4f} (sd {values.std():.4f}) in {samples} samples of {BLOCK:,} tracks, "
            f"{value:.4f} in all of them"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]))
