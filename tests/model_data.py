"""Small data sets for the model's tests: made in memory, written in the challenge's layout where a test needs files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from model.config import CONFIGS, TrainingConfig
from model.dataset import Dataset
from model.vocabulary import CLASSES, Vocabulary

SMALL = Vocabulary.build(
    {
        "genres": {"tags": ("rock", "jazz", "techno"), "categories": ("loud", "soft")},
        "instruments": {"tags": ("piano", "drums")},
        "moods": {"tags": ("calm", "wild"), "categories": ("arousal",)},
    }
)
MOODS_ONLY = Vocabulary.build({"moods": {"tags": ("calm", "wild", "odd")}})


def make_dataset(tracks: int = 240, vocabulary: Vocabulary = SMALL, seed: int = 0) -> Dataset:
    """Correlated labels and an over-confident upstream; three tracks an artist."""
    rng = np.random.default_rng(seed)
    character = rng.normal(size=(tracks, 2))
    drive = character @ rng.normal(size=(2, vocabulary.n_inputs)) * 1.5 - 1.0
    truth = rng.random(drive.shape) < 1 / (1 + np.exp(-drive))
    logits = 2.0 * truth - 1.5 + rng.normal(size=drive.shape) + 0.8
    return Dataset(
        track_ids=[f"T-{row:05d}" for row in range(tracks)],
        probabilities=(1 / (1 + np.exp(-logits))).astype(np.float32),
        labels=truth[:, : vocabulary.n_tags].astype(np.uint8),
        artists=np.array([f"A-{row // 3}" for row in range(tracks)]),
        vocabulary=vocabulary,
    )


def quick(name: str = "demo", **changes) -> TrainingConfig:
    """A named configuration made small enough for tests."""
    config = CONFIGS[name]
    network = replace(
        config.network,
        width=16,
        heads=4,
        feedforward=16,
        reservoir_units=8 if config.network.reservoir_units else 0,
        reservoir_across_units=8 if config.network.reservoir_across_units else 0,
        mlp_width=16,
    )
    return replace(config, **{"network": network, "epochs": 2, "folds": 2, "batch": 64, **changes})


def write_dataset(folder: Path, dataset: Dataset, *, suffix: str = "parquet", prefix: str = "input_") -> Path:
    """The files of a data set; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tag = 0
    for group in dataset.vocabulary.groups:
        names = dataset.vocabulary.classes[group.class_name][group.list_name]
        if names:
            stem = f"{prefix}{group.class_name}_{group.list_name}_data.{suffix}"
            write_table(folder / stem, dataset.track_ids, names, dataset.probabilities[:, group.start : group.stop])
    for class_name in CLASSES:
        names = dataset.vocabulary.classes[class_name]["tags"]
        if names and dataset.labels is not None:
            stem = f"output_{class_name}_tags_data.{suffix}"
            write_table(folder / stem, dataset.track_ids, names, dataset.labels[:, tag : tag + len(names)])
        tag += len(names)
    if dataset.artists is not None:
        write_table(folder / f"tracks.{suffix}", dataset.track_ids, ("artist",), dataset.artists[:, None])
    return folder


def write_table(path: Path, ids: list[str], names, values: np.ndarray) -> None:
    """`ChallengeID` and a column for each name."""
    columns = {name: pa.array(values[:, index].tolist()) for index, name in enumerate(names)}
    table = pa.table({"ChallengeID": ids, **columns})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
