"""One CSV or Parquet file of a data set: ids, columns, and cells checked one by one when a check fails.

Every complaint names the file, the column and the row (1 is the first track). Knows nothing of classes or tags.
"""

import codecs
import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from model.errors import ModelError

ID_COLUMN = "ChallengeID"
TEXT_BLOCK = 2**20  # bytes
LONGEST_COMPLAINT = 200  # characters of what a reader says


@dataclass(frozen=True)
class Table:
    """`ids[n]` is the track of row n; `data` holds the other columns."""

    path: Path
    ids: list[str]
    data: pa.Table
    first_row: int = 0  # of the file; more than 0 where this is a later stretch of it

    @property
    def columns(self) -> list[str]:
        return self.data.column_names

    def column(self, name: str) -> pa.ChunkedArray:
        return self.data.column(name)

    def aligned(self, track_ids: list[str]) -> "Table":
        """The same rows in the order of `track_ids`."""
        if self.ids == track_ids:
            return self
        row_of = {track_id: row for row, track_id in enumerate(self.ids)}
        missing = next((track_id for track_id in track_ids if track_id not in row_of), None)
        if missing is not None:
            raise ModelError(f"{self.path} has no row for {ID_COLUMN} '{missing}', which other files have.")
        if len(self.ids) > len(track_ids):
            extra = next(iter(set(self.ids) - set(track_ids)))
            raise ModelError(f"{self.path} has a row for {ID_COLUMN} '{extra}', which other files lack.")
        rows = pa.array([row_of[track_id] for track_id in track_ids])
        return Table(self.path, list(track_ids), self.data.take(rows))

    def check_columns(self, tags: Sequence[str]) -> None:
        """That the columns are these tags, in whatever order."""
        extra = [name for name in self.columns if name not in set(tags)]
        if extra:
            raise ModelError(f"{self.path} has a label column '{extra[0]}' that the input columns lack.")
        lacking = [tag for tag in tags if tag not in set(self.columns)]
        if lacking:
            raise ModelError(f"{self.path} lacks a label column for the tag '{lacking[0]}'.")

    def probabilities(self) -> NDArray[np.float32]:
        """All columns `[N, columns]`, each cell finite and in [0, 1]."""
        values = np.empty((len(self.ids), len(self.columns)), dtype=np.float32)
        for index, name in enumerate(self.columns):
            numbers = self._numbers(name)  # [N]
            bad = ~((numbers >= 0.0) & (numbers <= 1.0))  # NaN fails both
            if bad.any():
                row = int(np.argmax(bad))
                what = "not a finite number" if not np.isfinite(numbers[row]) else "not in [0, 1]"
                raise ModelError(f"{self._cell(name, row)} is {numbers[row]:g}, {what}.")
            values[:, index] = numbers
        return values

    def labels(self, tags: Sequence[str]) -> NDArray[np.uint8]:
        """The columns of `tags` `[N, T]`, each cell 0 or 1."""
        values = np.empty((len(self.ids), len(tags)), dtype=np.uint8)
        for index, name in enumerate(tags):
            numbers = self._numbers(name)
            bad = (numbers != 0.0) & (numbers != 1.0)
            if bad.any():
                row = int(np.argmax(bad))
                raise ModelError(f"{self._cell(name, row)} is {numbers[row]:g}; a label is 0 or 1.")
            values[:, index] = numbers
        return values

    def _numbers(self, name: str) -> NDArray[np.float64]:
        column = self.data.column(name)
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise ModelError(f"{self._cell(name, row)} is empty.")
        try:
            return column.cast(pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            row, text = next((row, cell) for row, cell in enumerate(column.to_pylist()) if not _is_number(cell))
            raise ModelError(f"{self._cell(name, row)} is '{str(text)[:40]}', not a number.") from None
        except pa.ArrowNotImplementedError:
            raise ModelError(f"{self.path}, column '{name}' holds {column.type}, not numbers.") from None

    def _cell(self, name: str, row: int) -> str:
        return f"{self.path}, column '{name}', row {self.first_row + row + 1} ({ID_COLUMN} '{self.ids[row]}')"


def _is_number(cell: object) -> bool:
    try:
        float(str(cell))
    except ValueError:
        return False
    return True


def find_table(directory: Path, stem: str) -> Path | None:
    """The Parquet or CSV file of that name, or None.

    Raises:
        ModelError: where there are both: nobody can say which is the stale one.
    """
    found = [path for suffix in (".parquet", ".csv") if (path := directory / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise ModelError(f"{directory} has both {found[0].name} and {found[1].name}: keep the one that holds.")
    return found[0] if found else None


def read_table(path: Path, text: Collection[str] = ()) -> Table:
    """Read one file and check its ids; all columns but the ids and those of `text` are to be numbers.

    Raises:
        ModelError: where it cannot be read, lacks ids, or has an id twice.
    """
    try:
        data = _read_csv(path, {ID_COLUMN, *text}) if path.suffix == ".csv" else _read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise ModelError(f"{path} cannot be read: {first_words(error)}.") from None
    check_header(path, data.column_names)
    return as_table(path, data)


def check_header(path: Path, names: Sequence[str]) -> None:
    """That each column comes once, and one of them holds the ids.

    Raises:
        ModelError: otherwise.
    """
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ModelError(f"{path} has the column '{twice}' twice.")
    if ID_COLUMN not in names:
        raise ModelError(f"{path} has no column {ID_COLUMN}.")


def as_table(path: Path, data: pa.Table, first_row: int = 0) -> Table:
    """A file, or the stretch of it that begins at `first_row`, its ids checked.

    Raises:
        ModelError: where an id is empty or comes twice, or there are no rows.
    """
    return Table(path, _read_ids(path, data.column(ID_COLUMN), first_row), data.drop_columns([ID_COLUMN]), first_row)


def _read_parquet(path: Path) -> pa.Table:
    with pyarrow.parquet.ParquetFile(path) as file:  # not read_table: to that a folder `year=2026` is a column
        return file.read()


def _read_csv(path: Path, text: Collection[str]) -> pa.Table:
    """Numbers as float32; where a cell is none, all as text, so that the complaint can name the cell."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next(csv.reader(file), [])
    types = {name: pa.string() if name in text else pa.float32() for name in names}
    try:
        return pyarrow.csv.read_csv(path, convert_options=csv_cells(types))
    except pa.ArrowInvalid:
        return _read_text(path, names)


def _read_text(path: Path, names: list[str]) -> pa.Table:
    """All columns as text. A row of too many or too few cells is told by its number."""
    _check_text(path)
    wrong: list[pyarrow.csv.InvalidRow] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    parse = pyarrow.csv.ParseOptions(invalid_row_handler=note)
    plain = pyarrow.csv.ReadOptions(use_threads=False)  # with more of them Arrow does not know the numbers
    data = pyarrow.csv.read_csv(path, plain, parse, csv_cells(dict.fromkeys(names, pa.string())))
    if wrong:
        row = wrong[0]  # Arrow counts the header
        cells = f"{row.actual_columns} cells under {row.expected_columns} column names"
        raise ModelError(f"{path}, row {row.number - 1} has {cells}.")
    return data


def _check_text(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        while block := file.read(TEXT_BLOCK):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                raise ModelError(f"{path} cannot be read: it is not UTF-8 text.") from None


def csv_cells(types: Mapping[str, pa.DataType]) -> pyarrow.csv.ConvertOptions:
    """How cells are read: types are given, for a guess holds for the first megabyte only; just "" is an empty cell."""
    return pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)


def first_words(error: Exception) -> str:
    """Of the first line, no more than a sentence holds: readers quote whole rows."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")[:LONGEST_COMPLAINT]


def _read_ids(path: Path, column: pa.ChunkedArray, first_row: int) -> list[str]:
    if pa.types.is_floating(column.type):  # whole numbers that went through a table with gaps
        column = _whole(path, column)
    try:
        column = column.cast(pa.string())
    except pa.ArrowNotImplementedError:
        raise ModelError(f"{path}, column '{ID_COLUMN}' holds {column.type}, not text or whole numbers.") from None
    if column.null_count:
        row = first_row + int(np.argmax(column.is_null().to_numpy()))
        raise ModelError(f"{path}, column '{ID_COLUMN}', row {row + 1} is empty.")
    if len(column) == 0:
        raise ModelError(f"{path} has no rows.")
    if pc.count_distinct(column).as_py() < len(column):
        ids, seen = column.to_pylist(), set()
        for row, track_id in enumerate(ids):
            if track_id in seen:
                raise ModelError(f"{path} has {ID_COLUMN} '{track_id}' twice, again in row {first_row + row + 1}.")
            seen.add(track_id)
    return column.to_pylist()


def _whole(path: Path, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        raise ModelError(f"{path}, column '{ID_COLUMN}' holds fractions; an id is text or a whole number.") from None
