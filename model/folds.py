"""Folds that keep an artist on one side: tracks of one artist resemble each other and would tell on each other."""

import numpy as np
from numpy.typing import NDArray


def artist_folds(artists: NDArray | None, tracks: int, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each track `[N]`, of about equal sizes; without artists each track stands alone.

    There may come out fewer folds than asked for, where there are fewer artists.
    """
    groups = np.arange(tracks) if artists is None else np.unique(artists, return_inverse=True)[1]
    sizes = np.bincount(groups)
    if len(sizes) < 2:  # one artist only: nothing to keep apart
        groups, sizes = np.arange(tracks), np.ones(tracks, dtype=np.int64)
    order = np.random.default_rng(seed).permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    fold_of_group[order] = before * folds // tracks
    return np.unique(fold_of_group[groups], return_inverse=True)[1]
