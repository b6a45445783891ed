"""A store of retained scores for tests, filled by hand: what `ops.thresholds_follow` fills from the topic."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ops.thresholds_scores import RetainedScores
from ops.thresholds_store import ROW, SCORED, ScoreStore, track_hash


def append(
    store: ScoreStore,
    ids: list[str],
    scores: NDArray[np.float16],
    *,
    model: str = "M",
    thresholds: str = "",
    states: list[int] | None = None,
    start_ms: int = 0,
) -> None:
    """One row per id, a millisecond apart; committed."""
    rows = np.zeros(len(ids), ROW)
    keys = [one.encode() for one in ids]
    rows["track"] = np.frombuffer(b"".join(map(track_hash, keys)), "<u8")
    rows["at_ms"] = start_ms + np.arange(len(ids))
    rows["state"] = SCORED if states is None else states
    thresholds = thresholds or f"table of {model}"
    for names, name in ((store.meta.models, model), (store.meta.thresholds, thresholds)):
        if name not in names:
            names.append(name)
    rows["model"], rows["thresholds"] = store.meta.models.index(model), store.meta.thresholds.index(thresholds)
    store.append(rows, keys, scores.view(np.uint16))
    store.commit()


def retained(folder: Path, tags: tuple[str, ...], ids: list[str], scores: NDArray[np.float16]) -> RetainedScores:
    """The scores `[N, T]` of these tracks."""
    store = ScoreStore(folder, "test", len(tags))
    append(store, ids, scores)
    return RetainedScores(tags, store.reader())
