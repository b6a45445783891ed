"""The back catalogue: a data set of any size, decided a part at a time, in a run that can be killed and gone on with.

    1. `OUT.partial/` is taken (one run at a time) and says which model, thresholds, data and format it is for.
    2. A part of the tracks is read, scored and decided.
    3. Its file is written and flushed.
    4. Only then `progress.json` counts it; what is not counted is done again.
    5. After the last one the parts are joined aside, and `progress.json` says so.
    6. The result is renamed to OUT, and `OUT.partial/` goes.

Nothing half-written ever has the name OUT, and what has it already is written over only when that is asked for. The
same tracks fall into the same parts whenever a run is interrupted: the result is the same, byte for byte.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model.durable import sync
from model.errors import ModelError
from model.rows import Rows, SeenIds, Stretch
from model.tables import ID_COLUMN
from ops.catalogue_formats import Format, Part
from ops.errors import OpsError

ROWS_PER_PART = 16_384
PROGRESS, LOCK, JOINED = "progress.json", "lock", "joined"

Decide = Callable[[Stretch], Part]


@dataclass(frozen=True)
class Done:
    """What is counted."""

    parts: int = 0
    tracks: int = 0
    tags: int = 0
    joined: bool = False


class Run:
    """One run over a catalogue; `job` is what has to be the same for it to go on with what another one left."""

    def __init__(self, out: Path, form: Format, job: dict[str, Any], rows_per_part: int) -> None:
        self.out = out
        self.partial = Path(f"{os.path.abspath(out)}.partial")
        self._form = form
        self._job = {**job, "format": form.name, "rows_per_part": rows_per_part}
        self._rows_per_part = rows_per_part

    def write(
        self, rows: Rows, decide: Decide, restart: bool, progress: Callable[[Done], None], force: bool = False
    ) -> tuple[Done, int]:
        """Decide all tracks and write OUT; what was done, and how many tracks of it an earlier run had done.

        Raises:
            ModelError: for whatever is wrong with the data.
            OpsError: where OUT cannot be written, or is there and not to be written over (`force`), or what is left of
                another run is in the way.
        """
        job = {**self._job, "data": _identity(rows)}
        with self._telling(), self._taken():
            try:
                done = self._left(job, restart)
                began_with = done.tracks
                if done.joined and not (self.partial / JOINED).exists():  # the run before ended after its renaming
                    shutil.rmtree(self.partial)
                    progress(done)
                    return done, began_with
                self._check_free(force)
                seen = SeenIds()
                for part in range(done.parts):
                    seen.again(self._form.ids(self._stem(part)))
                progress(done)
                for stretch in _one_ahead(rows.stretches(self._rows_per_part, done.tracks)):
                    self._check_new(stretch, seen, done)
                    done = self._add(decide(stretch), done, job)
                    progress(done)
                self._finish(done, job)
                return done, began_with
            finally:
                if self._counted() is None:  # nothing is worth keeping
                    shutil.rmtree(self.partial, ignore_errors=True)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f" What is done is kept in {self.partial}; the same command goes on." if self._counted() else ""
            # Arrow's own text for it is long and says the number too
            reason = os.strerror(error.errno) if error.errno else str(error).splitlines()[0].rstrip(".")
            raise OpsError(f"{self.out} cannot be written: {reason}.{kept}") from None

    @contextmanager
    def _taken(self) -> Iterator[None]:
        """Step 1: nobody else writes there; the lock goes with the process, however that ends."""
        self.partial.mkdir(exist_ok=True)
        left = [path.name for path in self.partial.iterdir()]
        if left and LOCK not in left:
            raise OpsError(f"{self.partial} is in the way: it is no work of this command, but holds {left[0]}.")
        with (self.partial / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OpsError(f"another run is writing {self.out} at this moment.") from None
            yield

    def _counted(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.partial / PROGRESS).read_bytes())
        except (OSError, ValueError):
            return None

    def _left(self, job: dict[str, Any], restart: bool) -> Done:
        """What an earlier run for the same left.

        Raises:
            OpsError: where it was for something else.
        """
        counted = None if restart else self._counted()
        if counted is None:
            (self.partial / PROGRESS).unlink(missing_ok=True)
            return Done()
        differs = next((name for name in job if counted.get("job", {}).get(name) != job[name]), None)
        if differs:
            raise OpsError(
                f"{self.partial} holds what another run has done, with another {differs}: finish that one, or throw it "
                "away with --restart."
            )
        return Done(**counted["done"])

    def _check_free(self, force: bool) -> None:
        if self.out.is_dir() and any(self.out.iterdir()):
            raise OpsError(f"{self.out} is not empty: name a new folder.")
        if self.out.exists() and not self.out.is_dir() and not force:
            raise OpsError(f"{self.out} is there already: choose another --out, or say --force.")

    def _check_new(self, stretch: Stretch, seen: SeenIds, done: Done) -> None:
        again = set(seen.again(stretch.track_ids))
        for part in range(done.parts if again else 0):
            twice = again.intersection(self._form.ids(self._stem(part)))  # a hash may also be that of another id
            if twice:
                track_id = next(track_id for track_id in stretch.track_ids if track_id in twice)
                row = stretch.start + stretch.track_ids.index(track_id) + 1
                raise ModelError(f"The data set has {ID_COLUMN} '{track_id}' twice, again in row {row}.")

    def _add(self, part: Part, done: Done, job: dict[str, Any]) -> Done:
        """Steps 3 and 4."""
        stem = self._stem(done.parts)
        self._form.write(stem, part)
        for path in self.partial.glob(f"{stem.name}.*"):
            sync(path)
        now = Done(done.parts + 1, done.tracks + len(part.track_ids), done.tags + len(part.decided.tags))
        self._count(now, job)
        return now

    def _count(self, done: Done, job: dict[str, Any]) -> None:
        aside = self.partial / f"{PROGRESS}.new"
        aside.write_text(json.dumps({"job": job, "done": asdict(done)}))
        sync(aside)
        aside.replace(self.partial / PROGRESS)

    def _finish(self, done: Done, job: dict[str, Any]) -> None:
        """Steps 5 and 6."""
        joined = self.partial / JOINED
        if joined.is_dir():
            shutil.rmtree(joined)
        self._form.join([self._stem(part) for part in range(done.parts)], joined)
        for path in joined.iterdir() if joined.is_dir() else [joined]:
            sync(path)
        self._count(replace(done, joined=True), job)
        joined.replace(self.out)
        sync(self.out.absolute().parent)
        shutil.rmtree(self.partial)

    def _stem(self, part: int) -> Path:
        return self.partial / f"{part:07d}"


def _one_ahead(stretches: Iterator[Stretch]) -> Iterator[Stretch]:
    """The next one is read while this one is scored."""
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(next, stretches, None)
        while (stretch := reading.result()) is not None:
            reading = reader.submit(next, stretches, None)
            yield stretch


def _identity(rows: Rows) -> dict[str, Any]:
    """The files as they are now: going on with other data would mix two catalogues."""
    found = {path.name: path.stat() for path in rows.paths.values()}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}
