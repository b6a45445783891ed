"""What a trainer would know of the fixed networks of tests, put into their artefacts: the reference for drift."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model import artifact, curves
from model.manifest import MANIFEST, describe_file

ARTISTS = 50  # few, so that intervals are cheap


def add_reference(path: Path, rows: NDArray[np.float64], *, inputs: bool = True) -> None:
    """Curves as of these rows `[N, F]`, half of the decided tracks labelled; the version is as before."""
    made = artifact.load(path)
    scores = made.score(rows.astype(np.float32))
    decisions = scores.astype(np.float64) >= made.threshold_row()
    labels = decisions & (np.arange(len(rows)) % 2 == 0)[:, None]
    known, _ = curves.measure(
        made.vocabulary.tags, made.thresholds, scores, labels, decisions, np.arange(len(rows)) % ARTISTS,
        rows.astype(np.float32),
    )  # fmt: skip
    if not inputs:
        known = curves.Curves(known.tracks, known.tags)
    content = known.to_json()
    (path / curves.CURVES).write_bytes(content)
    body = json.loads((path / MANIFEST).read_text())
    body["files"][curves.CURVES] = describe_file(content)
    (path / MANIFEST).write_text(json.dumps(body))


def random_rows(tracks: int, inputs: int, seed: int) -> NDArray[np.float64]:
    """Probabilities `[N, F]` as the streams of tests have them, every track another."""
    return np.round(np.random.default_rng(seed).random((tracks, inputs)) ** 2, 4)
