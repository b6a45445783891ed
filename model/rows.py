"""The inputs of a data set a stretch of rows at a time, for catalogues that are larger than memory.

The files are read side by side and checked as `model.dataset` checks them; labels and artists are not looked at.
Memory holds one stretch, and 8 bytes a track to find an id that comes twice. Where the files list their tracks in
different orders there is no reading them side by side: then, and it is told, all inputs are read at once.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from model.dataset import Where, find_inputs, in_column_order, load_inputs, vocabulary_of
from model.errors import ModelError
from model.tables import ID_COLUMN, Table, as_table, check_header, csv_cells, first_words

READ_BYTES = 2**18  # of a file at a time; Arrow holds 32 of a CSV file ready
READ_ROWS = 4096  # of a Parquet file at a time


@dataclass(frozen=True)
class Stretch:
    """Consecutive tracks: `probabilities` float32 `[B, F]`; the first is track number `start`."""

    start: int
    track_ids: list[str]
    probabilities: NDArray[np.float32]


class Rows:
    """The inputs of the data set in a folder, opened.

    Raises:
        ModelError: where it is no data set, or a header is not what it should be.
    """

    def __init__(self, directory: Path | str, tell: Callable[[str], None] = lambda text: None) -> None:
        self.directory = Path(directory)
        self.paths = find_inputs(self.directory)
        self._tell = tell
        self._columns = {where: _header(path) for where, path in self.paths.items()}
        self.vocabulary = vocabulary_of(self._columns)

    def about(self) -> int:
        """How many tracks there are: exactly for Parquet, by the size of the file for CSV."""
        return min(_about(path) for path in self.paths.values())

    def stretches(self, rows: int, start: int = 0) -> Iterator[Stretch]:
        """From track number `start` on, `rows` at a time (fewer at the end).

        Raises:
            ModelError: in one sentence with file, column and row, for whatever is wrong with it.
        """
        readers = {where: _tables(path, rows, start) for where, path in self.paths.items()}
        while True:
            tables = {where: next(reader, None) for where, reader in readers.items()}
            present = [table for table in tables.values() if table is not None]
            if not present:
                if start == 0:
                    raise ModelError(f"{next(iter(self.paths.values()))} has no rows.")
                return
            if any(table is None or table.ids != present[0].ids for table in tables.values()):
                self._check_lengths(tables)
                yield from self._from_memory(rows, start)
                return
            numbers = {where: table.probabilities() for where, table in tables.items() if table is not None}
            yield Stretch(start, present[0].ids, in_column_order(numbers))
            start += len(present[0].ids)

    def _check_lengths(self, tables: dict[Where, Table | None]) -> None:
        """A file that ends before another one does is no matter of order: it is told without reading on."""
        ids = {self.paths[where]: table.ids if table is not None else [] for where, table in tables.items()}
        longest = max(ids.values(), key=len)
        for path, mine in ids.items():
            if len(mine) < len(longest) and mine == longest[: len(mine)]:
                raise ModelError(f"{path} has no row for {ID_COLUMN} '{longest[len(mine)]}', which other files have.")

    def _from_memory(self, rows: int, start: int) -> Iterator[Stretch]:
        self._tell(f"The files of {self.directory} list their tracks in different orders: they are read all at once.")
        whole = load_inputs(self.directory)
        for first in range(start, len(whole), rows):
            part = slice(first, first + rows)
            yield Stretch(first, whole.track_ids[part], whole.probabilities[part])


class SeenIds:
    """The ids so far, by a hash of each: to find one that comes twice without keeping them all."""

    def __init__(self) -> None:
        self._sorted: list[NDArray[np.uint64]] = []  # longest first, each at least twice the next

    def again(self, track_ids: list[str]) -> list[str]:
        """Those of `track_ids`, which become seen, whose hash was seen before: in practice, that came before."""
        hashes = np.array([_hash(track_id) for track_id in track_ids], np.uint64)
        found = np.zeros(len(hashes), dtype=bool)
        for seen in self._sorted:
            places = np.minimum(np.searchsorted(seen, hashes), len(seen) - 1)
            found |= seen[places] == hashes
        self._sorted.append(np.sort(hashes))
        while len(self._sorted) > 1 and len(self._sorted[-2]) < 2 * len(self._sorted[-1]):
            last = self._sorted.pop()
            self._sorted[-1] = np.sort(np.concatenate([self._sorted[-1], last]), kind="stable")
        return [track_ids[row] for row in np.flatnonzero(found)]


def _hash(track_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(track_id.encode(), digest_size=8).digest(), "little")


def _header(path: Path) -> list[str]:
    """The columns but for the ids."""
    if path.suffix == ".csv":
        with _telling(path), pyarrow.csv.open_csv(path, convert_options=csv_cells({})) as reader:
            names = reader.schema.names
    else:
        with _telling(path), pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
    check_header(path, names)
    return [name for name in names if name != ID_COLUMN]


def _about(path: Path) -> int:
    if path.suffix != ".csv":
        with _telling(path), pyarrow.parquet.ParquetFile(path) as file:
            return file.metadata.num_rows
    with _telling(path), path.open("rb") as file:
        head = file.read(READ_BYTES)
    lines = max(head.count(b"\n"), 1)
    return round(path.stat().st_size / len(head) * lines) - 1 if head else 0


def _tables(path: Path, rows: int, start: int) -> Iterator[Table]:
    """The file from row `start` on as tables of `rows` rows; the last may have fewer."""
    batches = _csv_batches(path, start) if path.suffix == ".csv" else _parquet_batches(path, start)
    held: list[pa.RecordBatch] = []
    while True:
        while sum(batch.num_rows for batch in held) < rows and (batch := next(batches, None)) is not None:
            held.append(batch)
        if not held:
            return
        table = pa.Table.from_batches(held)
        yield as_table(path, table.slice(0, rows), start)
        start += rows
        held = [batch for batch in table.slice(rows).to_batches() if batch.num_rows]


def _parquet_batches(path: Path, start: int) -> Iterator[pa.RecordBatch]:
    with _telling(path), pyarrow.parquet.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        first = 0
        while first < len(sizes) and start >= sizes[first]:
            start -= sizes[first]
            first += 1
        for batch in file.iter_batches(READ_ROWS, row_groups=range(first, len(sizes))):
            if start < batch.num_rows:
                yield batch.slice(start)
            start = max(0, start - batch.num_rows)


def _csv_batches(path: Path, start: int) -> Iterator[pa.RecordBatch]:
    with _telling(path):
        done = start
        try:
            for batch in _csv_reader(path, start, pa.float32()):
                yield batch
                done += batch.num_rows
        except pa.ArrowInvalid:
            _name_the_cell(path, done)
            raise


def _name_the_cell(path: Path, start: int) -> None:
    """Read on as text: the check of the cells says which one is no number, and Arrow does not."""
    for batch in _csv_reader(path, start, pa.string()):
        as_table(path, pa.Table.from_batches([batch]), start).probabilities()
        start += batch.num_rows


def _csv_reader(path: Path, start: int, kind: pa.DataType) -> Iterator[pa.RecordBatch]:
    convert = csv_cells({**dict.fromkeys(_header(path), kind), ID_COLUMN: pa.string()})
    read = pyarrow.csv.ReadOptions(block_size=READ_BYTES, skip_rows_after_names=start)
    with pyarrow.csv.open_csv(path, read_options=read, convert_options=convert) as reader:
        yield from (batch for batch in reader if batch.num_rows)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Arrow's own errors as one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ModelError(f"{path} cannot be read: {first_words(error)}.") from None
