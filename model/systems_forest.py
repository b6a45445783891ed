"""The random forest of the comparison: scikit-learn's, all tags in one forest.

Trees are grown as a regression on 0/1 labels: squared error is half the Gini impurity, so the splits are a
classifier's, and a leaf's mean is the probability; one array comes out instead of a list with one for each tag.
Trees look at the order of inputs only, so raw probabilities serve as well as logits. Forests are never written to
disk: that would need pickle.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.dataset import Dataset
from model.fit import Progress
from model.folds import artist_folds

JOBS = 2  # threads: the cores that everything here is measured on


@dataclass(frozen=True)
class ForestConfig:
    trees: int = 40
    leaf: int = 3  # tracks at least in a leaf
    features: float = 0.15  # share of the inputs tried at a split
    sample: float = 0.3  # share of the tracks a tree sees
    folds: int = 2  # by artist, for out-of-fold scores


class Forest:
    """A fitted forest. Its scores are `[N, T]`, rounded to float16 as everyone's are."""

    def __init__(self, config: ForestConfig, probabilities: NDArray, labels: NDArray, seed: int) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self._forest = RandomForestRegressor(
            config.trees,
            min_samples_leaf=config.leaf,
            max_features=config.features,
            max_samples=config.sample,
            n_jobs=JOBS,
            random_state=seed,
        ).fit(probabilities, labels.astype(np.float32))
        self._tags = labels.shape[1]

    def score(self, probabilities: NDArray) -> NDArray[np.float16]:
        """`[N, F] -> [N, T]`."""
        return self._forest.predict(probabilities).reshape(-1, self._tags).astype(np.float16)

    def parameters(self) -> int:
        """The numbers in its trees: two for each split, one for each tag in each leaf."""
        trees = [tree.tree_ for tree in self._forest.estimators_]
        return int(sum(2 * (tree.node_count - tree.n_leaves) + tree.n_leaves * self._tags for tree in trees))

    def digest(self) -> str:
        """sha256 of every tree's splits and leaves."""
        digest = hashlib.sha256()
        for tree in (estimator.tree_ for estimator in self._forest.estimators_):
            for part in (tree.feature, tree.threshold, tree.children_left, tree.value):
                digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def fit_forest(dataset: Dataset, config: ForestConfig, seed: int, tell: Progress) -> tuple[Forest, NDArray[np.float16]]:
    """A forest of all tracks, and the score `[N, T]` of each track by a forest that saw none of its artist's."""
    labels = dataset.need_labels()
    folds = artist_folds(dataset.artists, len(dataset), config.folds, seed)
    count = folds.max() + 1
    out_of_fold = np.empty(labels.shape, dtype=np.float16)
    for fold in range(count):
        tell(f"fold {fold + 1} of {count}", fold, count + 1)
        rest, here = folds != fold, folds == fold
        forest = Forest(config, dataset.probabilities[rest], labels[rest], seed)
        out_of_fold[here] = forest.score(dataset.probabilities[here])
    tell("all tracks", count, count + 1)
    return Forest(config, dataset.probabilities, labels, seed), out_of_fold
