"""A simulated catalogue on disk: `train/` and `val/` of one world, in the challenge's own layout.

Tracks are drawn and written a block at a time, so a catalogue of any size takes the memory of a block; the same seed
gives the same bytes. Nothing half-written is ever seen: both splits are written aside and put in place when whole.
The world itself is `model.synthetic_world`'s.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import ModelError
from model.synthetic_world import Catalogue, Shape, World, draw, make_world
from model.tables import ID_COLUMN
from model.vocabulary import CLASSES

FEWEST = 20  # tracks of a catalogue, so that both splits have some
BLOCK = 16_384  # tracks drawn and written at a time: about 100 MB
Progress = Callable[[str, int], None]  # what is being done, tracks written so far
Columns = dict[str, dict[str, np.ndarray]]  # file stem -> column -> `[N]`


def synthesize(
    tracks: int,
    seed: int,
    out_dir: Path | str,
    progress: Progress | None = None,
    shape: Shape = Shape(),
    over_confidence: float | None = None,
) -> dict[str, int]:
    """Write `train/` (three quarters) and `val/` (other artists) into `out_dir`; returns their sizes.

    `over_confidence` (logits) overrules the shape's; 0 gives a calibrated upstream. Splits that are there are replaced.

    Raises:
        ModelError: for too few tracks, or a folder that cannot be written.
    """
    if tracks < FEWEST:
        raise ModelError(f"A catalogue needs at least {FEWEST} tracks, not {tracks}.")
    if over_confidence is not None:
        shape = replace(shape, over_confidence=over_confidence)
    tell = progress or (lambda what, done: None)
    sizes = {"train": tracks - tracks // 4, "val": tracks // 4}
    with _aside(Path(out_dir)) as folder:
        tell("a world", 0)
        world = make_world(shape)
        done = 0
        for index, (split, size) in enumerate(sizes.items()):
            with ExitStack() as files:
                writer = _Split(folder / split, f"{seed}-{index}", files)
                for block, start in enumerate(range(0, size, BLOCK)):
                    tell(split, done)
                    rng = np.random.default_rng([seed, 1 + index, block])
                    count = min(BLOCK, size - start)
                    writer.write(world, draw(world, shape, count, rng), done)
                    done += count
        tell("done", done)
    return sizes


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A folder beside the splits; what it holds in the end takes their place."""
    folder = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".incoming-", dir=out))
        yield folder
        for split in sorted(folder.iterdir()):
            if (out / split.name).exists():
                (out / split.name).rename(folder / f".replaced-{split.name}")
            split.rename(out / split.name)
    except OSError as error:
        raise ModelError(f"{out} cannot be written: {error.strerror or error}.") from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


class _Split:
    """The files of one split, a row group for each block."""

    def __init__(self, folder: Path, name: str, files: ExitStack) -> None:
        folder.mkdir()
        self._folder, self._name, self._files = folder, name, files
        self._open: dict[str, pq.ParquetWriter] = {}
        self._artists = 0

    def write(self, world: World, catalogue: Catalogue, first: int) -> None:
        """The block whose first track has the number `first`."""
        ids = pa.array([f"T-{first + row:06d}" for row in range(len(catalogue.labels))])
        for stem, columns in self._columns(world, catalogue).items():
            table = pa.table({ID_COLUMN: ids, **columns})
            if stem not in self._open:
                writer = pq.ParquetWriter(self._folder / f"{stem}.parquet", table.schema, compression="zstd")
                self._open[stem] = self._files.enter_context(writer)
            self._open[stem].write_table(table)
        self._artists += int(catalogue.artists.max()) + 1

    def _columns(self, world: World, catalogue: Catalogue) -> Columns:
        numbers = catalogue.artists + self._artists
        found: Columns = {"tracks": {"artist": np.array([f"A-{self._name}-{artist:05d}" for artist in numbers])}}
        first = 0
        for tagger, class_name in zip(world.taggers, CLASSES, strict=True):
            tags, categories = (world.vocabulary.classes[class_name][name] for name in ("tags", "categories"))
            probabilities = tagger.probabilities(catalogue.audio)
            labels = catalogue.labels[:, first : first + len(tags)]
            found |= {
                f"input_{class_name}_tags_data": _named(tags, probabilities[:, : len(tags)]),
                f"input_{class_name}_categories_data": _named(categories, probabilities[:, len(tags) :]),
                f"output_{class_name}_tags_data": _named(tags, labels),
            }
            first += len(tags)
        return found


def _named(names: tuple[str, ...], values: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(values[:, column]) for column, name in enumerate(names)}
