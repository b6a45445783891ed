"""A data set in the challenge's own layout, read and checked.

A directory of CSV or Parquet files, one per class and list, `ChallengeID` and a column per tag. What comes out is
aligned, finite and in range, so nothing after this module checks again. Knows files and columns; knows nothing of
the network. The vocabulary is what the columns say.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.errors import ModelError
from model.tables import find_table, read_table
from model.vocabulary import CLASSES, LISTS, Vocabulary

SPLITS = ("train", "val", "test")
Where = tuple[str, str]  # class and list: which input file


@dataclass(frozen=True)
class Dataset:
    """N tracks: `probabilities` float32 `[N, F]`, `labels` uint8 `[N, T]`, `artists` `[N]` where known."""

    track_ids: list[str]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.uint8] | None
    artists: NDArray | None
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.track_ids)

    def take(self, rows: NDArray) -> "Dataset":
        """The tracks at `rows`, in that order."""
        return replace(
            self,
            track_ids=[self.track_ids[row] for row in rows],
            probabilities=self.probabilities[rows],
            labels=None if self.labels is None else self.labels[rows],
            artists=None if self.artists is None else self.artists[rows],
        )

    def need_labels(self) -> NDArray[np.uint8]:
        """The labels.

        Raises:
            ModelError: where the data set has none.
        """
        if self.labels is None:
            raise ModelError("The data set has no labels (output_<class>_tags_data), which this needs.")
        return self.labels

    def fingerprint(self) -> str:
        """sha256 over ids, artists, numbers and vocabulary: what a model says it was trained on."""
        digest = hashlib.sha256(self.vocabulary.to_json().encode())
        digest.update("\n".join(self.track_ids).encode())
        if self.artists is not None:
            digest.update("\n".join(self.artists.tolist()).encode())
        digest.update(np.ascontiguousarray(self.probabilities).tobytes())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()


def load_splits(directory: Path | str) -> dict[str, Dataset]:
    """`train` (and `val`, `test`) where the folder holds such folders; else the folder itself as `train`.

    Raises:
        ModelError: where it is not a data set, or its splits have different columns.
    """
    directory = Path(directory)
    if not (directory / "train").is_dir():
        return {"train": load(directory)}
    splits = {name: load(directory / name) for name in SPLITS if (directory / name).is_dir()}
    for name, split in splits.items():
        if split.vocabulary != splits["train"].vocabulary:
            raise ModelError(f"{directory / name} has other columns than {directory / 'train'}.")
    return splits


def load(directory: Path | str) -> Dataset:
    """One data set.

    Raises:
        ModelError: in one sentence with file, column and row, for whatever is wrong with it.
    """
    directory = Path(directory)
    found = load_inputs(directory)
    return replace(
        found,
        labels=_read_labels(directory, found.vocabulary, found.track_ids),
        artists=_read_artists(directory, found.track_ids),
    )


def load_inputs(directory: Path | str) -> Dataset:
    """One data set without its labels and artists, whatever is to be said of those.

    Raises:
        ModelError: as `load`.
    """
    inputs = {where: read_table(path) for where, path in find_inputs(Path(directory)).items()}
    vocabulary = vocabulary_of({where: table.columns for where, table in inputs.items()})
    track_ids = next(iter(inputs.values())).ids
    parts = {where: table.aligned(track_ids).probabilities() for where, table in inputs.items()}
    return Dataset(
        track_ids=track_ids,
        probabilities=in_column_order(parts),
        labels=None,
        artists=None,
        vocabulary=vocabulary,
    )


def vocabulary_of(columns: Mapping[Where, Sequence[str]]) -> Vocabulary:
    """The vocabulary that the columns of the input files spell."""
    return Vocabulary.build(
        {
            class_name: {list_name: columns.get((class_name, list_name), ()) for list_name in LISTS}
            for class_name in CLASSES
        }
    )


def in_column_order(parts: Mapping[Where, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The input matrix `[N, F]` of the files' own `[N, columns]`."""
    order = [parts[name, kind] for kind in LISTS for name in CLASSES if (name, kind) in parts]
    return np.ascontiguousarray(np.concatenate(order, axis=1), dtype=np.float32)


def find_inputs(directory: Path) -> dict[Where, Path]:
    """The input files by class and list.

    Raises:
        ModelError: where there is none.
    """
    if not directory.is_dir():
        raise ModelError(f"{directory} is not a data set: there is no such folder.")
    found = {}
    for class_name in CLASSES:
        for list_name in LISTS:
            stem = f"{class_name}_{list_name}_data"
            path = find_table(directory, f"input_{stem}") or find_table(directory, stem)
            if path is not None:
                found[class_name, list_name] = path
    if not found:
        raise ModelError(
            f"{directory} is not a data set: it holds no input_<class>_tags_data (CSV or Parquet) for any of "
            f"{', '.join(CLASSES)}."
        )
    return found


def _read_labels(directory: Path, vocabulary: Vocabulary, track_ids: list[str]) -> NDArray[np.uint8] | None:
    paths = {name: find_table(directory, f"output_{name}_tags_data") for name in CLASSES}
    if not any(paths.values()):
        return None
    parts = []
    for class_name, path in paths.items():
        tags = vocabulary.classes[class_name]["tags"]
        if path is None and tags:
            raise ModelError(f"{directory} has labels, but no output_{class_name}_tags_data among them.")
        if path is not None:
            table = read_table(path)
            table.check_columns(tags)
            parts.append(table.aligned(track_ids).labels(tags))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _read_artists(directory: Path, track_ids: list[str]) -> NDArray | None:
    path = find_table(directory, "tracks")
    if path is None:
        return None
    table = read_table(path, text=("artist",))
    if "artist" not in table.columns:
        return None
    column = table.aligned(track_ids).column("artist").cast(pa.string()).fill_null("")
    artists = np.array(column.to_pylist(), dtype=object)
    # A track of an unknown artist is an artist of its own: it ties no other track to its side of a split.
    return np.array(
        [artist or f"\0{track_id}" for artist, track_id in zip(artists, track_ids, strict=True)], dtype=np.str_
    )
