"""What `tagstream score` writes: decisions as the stream would publish them, or a submission in the challenge's layout.

Each format writes one part of the catalogue after the other, each a file (or files) of its own, and joins the parts
at the end; what it writes depends on its input alone, so a run that was interrupted gives the same bytes. Knows
arrays and files; knows nothing of networks or of what is done already.
"""

import csv
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from model.tables import ID_COLUMN
from streamer.core.decide import Decided
from streamer.core.layout import CLASSES, Layout

SCHEMA = pa.schema(
    [
        ("track_id", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("model", pa.string()),
        ("thresholds", pa.string()),
    ]
)


@dataclass(frozen=True)
class Part:
    """Some consecutive tracks: their scores `[B, T]`, and what was decided."""

    track_ids: list[str]
    scores: NDArray[np.float16]
    decided: Decided


class Format(Protocol):
    """How decisions become files."""

    name: str

    def write(self, stem: Path, part: Part) -> None:
        """Write one part; `stem` is its path without an ending."""

    def ids(self, stem: Path) -> list[str]:
        """The track ids of a part that was written."""

    def join(self, stems: Sequence[Path], out: Path) -> None:
        """All parts as one result."""


class DecisionsParquet:
    """One Parquet file; per track the decided tags, best first within their class, and the scores of those."""

    name = "parquet"

    def __init__(self, layout: Layout, model: str, thresholds: str) -> None:
        self._tags = pa.array(layout.tags, pa.string())
        self._model, self._thresholds = pa.scalar(model), pa.scalar(thresholds)

    def write(self, stem: Path, part: Part) -> None:
        decided, count = part.decided, len(part.track_ids)
        ends = np.append(decided.bounds[:, 0], decided.bounds[-1, -1]).astype(np.int32)  # [B + 1]
        rows = np.repeat(np.arange(count), np.diff(ends))
        scores = part.scores[rows, decided.tags].astype(np.float32)
        table = pa.table(
            [
                pa.array(part.track_ids, pa.string()),
                pa.ListArray.from_arrays(ends, self._tags.take(pa.array(decided.tags))),
                pa.ListArray.from_arrays(ends, pa.array(scores)),
                pa.repeat(self._model, count),
                pa.repeat(self._thresholds, count),
            ],
            schema=SCHEMA,
        )
        pyarrow.parquet.write_table(table, _file(stem))

    def ids(self, stem: Path) -> list[str]:
        return pyarrow.parquet.read_table(_file(stem), columns=["track_id"]).column(0).to_pylist()

    def join(self, stems: Sequence[Path], out: Path) -> None:
        with pyarrow.parquet.ParquetWriter(out, SCHEMA) as writer:
            for stem in stems:
                writer.write_table(pyarrow.parquet.read_table(_file(stem)))


class ChallengeCsv:
    """`ChallengeID` and a 0/1 column per tag in the order of the vocabulary.

    A folder of one file per class, `output_<class>_tags_data.csv`, as the challenge gives its labels; or one file.
    """

    name = "challenge"

    def __init__(self, layout: Layout, *, one_file: bool) -> None:
        self._files: Mapping[str, Sequence[int]] = {}  # tags by file
        self._tags = layout.tags
        of_class = {name: np.flatnonzero(np.array(layout.tag_class) == n) for n, name in enumerate(CLASSES)}
        whole = {"": range(len(layout.tags))}
        by_class = {f"output_{name}_tags_data.csv": tags.tolist() for name, tags in of_class.items() if len(tags)}
        self._files = whole if one_file else by_class

    def write(self, stem: Path, part: Part) -> None:
        count = len(part.track_ids)
        decided = np.zeros(part.scores.shape, np.int8)  # [B, T]
        rows = np.repeat(np.arange(count), np.diff(part.decided.bounds[:, [0, -1]]).ravel())
        decided[rows, part.decided.tags] = 1
        columns = np.asfortranarray(decided)
        ids = pa.array(part.track_ids)
        quotes = "needed" if pc.any(pc.match_substring_regex(ids, '[",\\r\\n]')).as_py() else "none"
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style=quotes)  # "needed" quotes every text
        for place, tags in enumerate(self._files.values()):
            table = pa.table([ids, *(columns[:, tag] for tag in tags)], names=self._header(tags))
            pyarrow.csv.write_csv(table, _file(stem, place), options)

    def _header(self, tags: Sequence[int]) -> list[str]:
        return [ID_COLUMN, *(self._tags[tag] for tag in tags)]

    def ids(self, stem: Path) -> list[str]:
        first = next(iter(self._files.values()))
        read = pyarrow.csv.ReadOptions(column_names=self._header(first))
        convert = pyarrow.csv.ConvertOptions(include_columns=[ID_COLUMN], column_types={ID_COLUMN: pa.string()})
        return pyarrow.csv.read_csv(_file(stem), read, convert_options=convert).column(0).to_pylist()

    def join(self, stems: Sequence[Path], out: Path) -> None:
        for place, (name, tags) in enumerate(self._files.items()):
            if name:
                out.mkdir(exist_ok=True)
            with (out / name if name else out).open("wb") as whole:
                whole.write(_csv_line(self._header(tags)))
                for stem in stems:
                    with _file(stem, place).open("rb") as part:
                        shutil.copyfileobj(part, whole)


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _file(stem: Path, place: int = 0) -> Path:
    return stem.with_name(f"{stem.name}.{place}")
