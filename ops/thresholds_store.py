"""Retained scores as files on this machine, made for questions about one tag at a time over a million tracks.

Grows only: a record is a row, its scores a place in each of T columns, its track id some bytes at the end of a file.
What the newest row of a track is, is worked out when the files are read. `meta.json` says how far they are whole and is
replaced by renaming, so a process that ends in the middle leaves nothing half-written. Knows nothing of Kafka.

Notable choices:
- Scores are kept as the bits of their float16 and by tag: those of a number that is not negative order as it does,
  comparing them is many times as fast, and a question about one tag reads 2 bytes a track.
- A track is known by 64 bits of a hash of its id: two of a hundred million share one with a probability of 0.0003.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.errors import OpsError

FORMAT = 1
SEGMENT_ROWS = 65_536
META, ROWS, IDS, LOCK = "meta.json", "rows.bin", "ids.bin", ".lock"
SCORED, WITHDRAWN, UNUSABLE = 0, 1, 2  # what a row is; an unusable one is its track's newest all the same

ROW = np.dtype(
    [
        ("track", "<u8"),  # hash of the track id
        ("at_ms", "<i8"),  # the event's time
        ("offset", "<i8"),  # in the scores topic
        ("input_offset", "<i8"),
        ("id_at", "<u8"),  # first byte in ids.bin
        ("thresholds", "<u4"),  # index into Meta.thresholds
        ("input_row", "<i4"),
        ("partition", "<u2"),
        ("model", "<u2"),  # index into Meta.models
        ("id_bytes", "<u2"),
        ("state", "u1"),
    ]
)


def track_hash(track_id: bytes) -> bytes:
    """8 bytes that stand for a track."""
    return blake2b(track_id, digest_size=8).digest()


@dataclass(slots=True)
class Meta:
    """How far the files are whole, and what they are of."""

    identity: str  # cluster, topic and vocabulary; files of another are begun anew
    tags: int
    rows: int = 0
    id_bytes: int = 0
    rows_at_first: int = 0  # when the topic had been read from its start
    read_at_ms: int = 0
    positions: dict[int, int] = field(default_factory=dict)  # partition -> next offset to read
    last: dict[int, tuple[int, int]] = field(default_factory=dict)  # partition -> offset of its last row, its hash
    models: list[str] = field(default_factory=list)
    thresholds: list[str] = field(default_factory=list)

    def as_json(self) -> str:
        """The content of meta.json."""
        return json.dumps({"format": FORMAT} | {name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> "Meta":
        """Raises ValueError, TypeError, KeyError or AttributeError where it is no such file."""
        value = json.loads(text)
        if value.pop("format") != FORMAT:
            raise ValueError("another format")
        value["positions"] = {int(key): int(place) for key, place in value["positions"].items()}
        value["last"] = {int(key): (int(place[0]), int(place[1])) for key, place in value["last"].items()}
        return cls(**value)


class ScoreStore:
    """The files in one folder. One process at a time writes (`writing`); any number read."""

    def __init__(self, folder: Path, identity: str, n_tags: int) -> None:
        self.folder = folder
        self.meta = Meta(identity, n_tags)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OpsError(
                f"the cache folder {folder} cannot be written ({error.strerror}); set TAGSTREAM_CACHE_DIR."
            ) from None
        self.load()

    def load(self) -> None:
        """Take what the folder says now; files that are not whole, or of something else, count as none."""
        empty = Meta(self.meta.identity, self.meta.tags)
        try:
            meta = Meta.from_json((self.folder / META).read_text())
            whole = (meta.identity, meta.tags) == (empty.identity, empty.tags) and self._files_hold(meta)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            whole = False
        self.meta = meta if whole else empty

    def _files_hold(self, meta: Meta) -> bool:
        segments = -(-meta.rows // SEGMENT_ROWS)
        sizes = [(ROWS, meta.rows * ROW.itemsize), (IDS, meta.id_bytes)]
        sizes += [(_segment(number), SEGMENT_ROWS * meta.tags * 2) for number in range(segments)]
        return all((self.folder / name).stat().st_size >= size for name, size in sizes if size)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The only writer, and up to date; waits for another."""
        with (self.folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.load()
            yield

    def clear(self) -> None:
        """Begin anew. Who has the files open goes on with them."""
        for path in [self.folder / META, *self.folder.glob("*.bin")]:
            path.unlink(missing_ok=True)
        self.meta = Meta(self.meta.identity, self.meta.tags)

    def append(self, rows: NDArray[Any], ids: Sequence[bytes], bits: NDArray[np.uint16]) -> None:
        """Rows `[n]` of dtype ROW (`id_at` and `id_bytes` are filled in here), their ids, and scores `[n, T]`."""
        meta = self.meta
        lengths = np.array([len(one) for one in ids], np.uint64)
        ends = np.cumsum(lengths)
        rows["id_at"] = meta.id_bytes + ends - lengths
        rows["id_bytes"] = lengths
        _write_at(self.folder / ROWS, meta.rows * ROW.itemsize, rows.tobytes())
        _write_at(self.folder / IDS, meta.id_bytes, b"".join(ids))
        done = 0
        while done < len(rows):
            number, place = divmod(meta.rows + done, SEGMENT_ROWS)
            take = min(SEGMENT_ROWS - place, len(rows) - done)
            self._open_segment(number, "r+")[:, place : place + take] = bits[done : done + take].T
            done += take
        meta.rows += len(rows)
        meta.id_bytes += int(ends[-1]) if len(ends) else 0

    def commit(self) -> None:
        """Say that all that was appended is there."""
        aside = self.folder / f"{META}.part"
        aside.write_text(self.meta.as_json())
        os.replace(aside, self.folder / META)

    def _open_segment(self, number: int, mode: Any) -> NDArray[np.uint16]:
        """`[T, SEGMENT_ROWS]`, by tag."""
        path = self.folder / _segment(number)
        if mode == "r+" and not path.exists():
            mode = "w+"
        return np.memmap(path, np.uint16, mode, shape=(self.meta.tags, SEGMENT_ROWS))

    def reader(self) -> "StoredScores":
        """What is there now, mapped into memory."""
        rows = self.meta.rows
        if not rows:
            return StoredScores(np.zeros(0, ROW), b"", [], self.meta)
        segments = [self._open_segment(number, "r") for number in range(-(-rows // SEGMENT_ROWS))]
        ids = np.memmap(self.folder / IDS, np.uint8, "r", shape=(self.meta.id_bytes,)) if self.meta.id_bytes else b""
        return StoredScores(np.memmap(self.folder / ROWS, ROW, "r", shape=(rows,)), ids, segments, self.meta)


@dataclass(frozen=True)
class StoredScores:
    """All rows of a store as they were at one moment, superseded ones included."""

    rows: NDArray[Any]  # [n] of ROW
    ids: Any  # bytes of all track ids
    segments: Sequence[NDArray[np.uint16]]
    meta: Meta

    def newest(self) -> NDArray[np.int64]:
        """Where the newest row of each track is that has scores, rising."""
        tracks = np.ascontiguousarray(self.rows["track"])
        order = np.argsort(tracks, kind="stable")
        ordered = tracks[order]
        last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], np.ones(min(1, len(ordered)), bool)))
        found = np.sort(order[last])
        return found[self.rows["state"][found] == SCORED]

    def column(self, tag: int) -> NDArray[np.uint16]:
        """`[n]` the bits of one tag's scores."""
        if not self.segments:
            return np.zeros(0, np.uint16)
        return np.concatenate([segment[tag] for segment in self.segments])[: len(self.rows)]

    def track_id(self, row: int) -> str:
        """The id of the track that a row is of."""
        start, size = int(self.rows["id_at"][row]), int(self.rows["id_bytes"][row])
        return bytes(self.ids[start : start + size]).decode("utf-8", "replace")

    def scores(self, row: int) -> NDArray[np.float16]:
        """`[T]` the scores of one row."""
        segment, place = divmod(row, SEGMENT_ROWS)
        return np.ascontiguousarray(self.segments[segment][:, place]).view(np.float16)

    def row_of(self, track_id: str) -> int | None:
        """The newest row of a track; None where there is none, or it was withdrawn or cannot be used."""
        wanted = np.frombuffer(track_hash(track_id.encode()), "<u8")[0]
        found = np.flatnonzero(self.rows["track"] == wanted)
        return int(found[-1]) if len(found) and self.rows["state"][found[-1]] == SCORED else None

    def source(self, row: int) -> Mapping[str, int]:
        """Where its input was: partition, offset and row."""
        one = self.rows[row]
        return {
            "partition": int(one["partition"]),
            "offset": int(one["input_offset"]),
            "row": int(one["input_row"]),
        }


def _segment(number: int) -> str:
    return f"scores-{number:05d}.bin"


def _write_at(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(place)
        file.truncate()
        file.write(content)
