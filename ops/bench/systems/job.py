"""The job that every compared system does: parse events, score them with one matrix product, decide, write JSON.

Only how events come in and decisions go out is a system's own. A system that can see many events at once hands
over many: numpy and this module are made for that.
"""

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

CLASSES = ("genres", "instruments", "moods")
LISTS = ("tags", "categories")  # columns: the tags of all classes, then the categories of all classes
CLIP_LOW, CLIP_HIGH = 1e-5, 2.5e-4  # as model.network.NetworkConfig
BATCH = 512  # events, where a system lets one choose: the product's micro-batch
COMMIT_INTERVAL_S = 0.25  # the product's
STANDSTILL_INTERVAL_S = 1.0  # of systems that stand still to flush before they commit: seldomer, in their favour
COMMITTED_FILE = "committed"  # in the run's folder, made by a system that has no consumer group to ask
SHOWN_DECIMALS = 4  # of a score


@dataclass(frozen=True)
class LinearScorer:
    """`sigmoid(logit(clip(p)) @ weights + bias)` and a threshold per tag."""

    weights: NDArray[np.float32]  # [F, T]
    bias: NDArray[np.float32]  # [T]
    thresholds: NDArray[np.float64]  # [T], six decimals

    def scores(self, probabilities: NDArray[np.float32]) -> NDArray[np.float16]:
        """`[B, F] -> [B, T]`, rounded to float16 as the contract has it."""
        clipped = np.clip(probabilities, np.float32(CLIP_LOW), np.float32(1 - CLIP_HIGH))
        logits = np.log(clipped / (1 - clipped)) @ self.weights + self.bias
        return (1 / (1 + np.exp(-logits))).astype(np.float16)


@dataclass(frozen=True)
class Job:
    """A scorer, and the names of what it decides."""

    scorer: LinearScorer
    tags: list[str]  # T
    tag_class: list[str]  # T
    vocabulary: str

    def save(self, path: Path) -> None:
        """Write it where a system's process can load it."""
        scorer = self.scorer
        np.savez(
            path, weights=scorer.weights, bias=scorer.bias, thresholds=scorer.thresholds,
            tags=self.tags, tag_class=self.tag_class, vocabulary=self.vocabulary,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Job":
        """Read what `save` wrote."""
        with np.load(path) as stored:
            scorer = LinearScorer(stored["weights"], stored["bias"], stored["thresholds"])
            return cls(scorer, stored["tags"].tolist(), stored["tag_class"].tolist(), str(stored["vocabulary"]))

    def decisions(self, track_ids: Sequence[str], rows: NDArray[np.float32]) -> list[bytes]:
        """A decision as JSON for each row of probabilities [B, F]."""
        scores = self.scorer.scores(rows)
        decided = scores.astype(np.float64) >= self.scorer.thresholds  # [B, T]
        ends = np.cumsum(decided.sum(axis=1)).tolist()
        found = np.nonzero(decided)[1].tolist()
        shown = np.round(scores[decided].astype(np.float64), SHOWN_DECIMALS).tolist()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        tags, tag_class = self.tags, self.tag_class
        made, start = [], 0
        for track_id, end in zip(track_ids, ends, strict=True):
            by_class: dict[str, list[str]] = {"genres": [], "instruments": [], "moods": []}
            of_tag = {}
            for place in range(start, end):
                column = found[place]
                name = tags[column]
                by_class[tag_class[column]].append(name)
                of_tag[name] = shown[place]
            start = end
            decision = {
                "track_id": track_id, "tags": by_class, "scores": of_tag,
                "model": "bench", "vocabulary": self.vocabulary, "decided_at": now,
            }  # fmt: skip
            made.append(orjson.dumps(decision))
        return made

    def decision(self, track_id: str, row: NDArray[np.float32]) -> bytes:
        """The same for one row [F], for a system that sees one event at a time: nothing that only pays for many."""
        scores = self.scorer.scores(row)
        found = np.flatnonzero(scores >= self.scorer.thresholds)  # float64 wins
        by_class: dict[str, list[str]] = {"genres": [], "instruments": [], "moods": []}
        of_tag = {}
        for column, shown in zip(found.tolist(), scores[found].tolist(), strict=True):
            by_class[self.tag_class[column]].append(self.tags[column])
            of_tag[self.tags[column]] = round(shown, SHOWN_DECIMALS)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return orjson.dumps(
            {
                "track_id": track_id, "tags": by_class, "scores": of_tag,
                "model": "bench", "vocabulary": self.vocabulary, "decided_at": now,
            }
        )  # fmt: skip


class OrjsonParser:
    """Events by orjson; a list becomes numbers fastest by way of `array`."""

    def __init__(self, columns: int) -> None:
        self._columns = columns

    def parse(self, values: Sequence[bytes]) -> tuple[list[str], NDArray[np.float32]]:
        """Track ids, and rows [B, F]."""
        rows = np.empty((len(values), self._columns), np.float32)
        track_ids = []
        for row, value in zip(rows, values, strict=True):
            event = orjson.loads(value)
            genres, instruments, moods = event["genres"], event["instruments"], event["moods"]
            tags = genres["tags"] + instruments["tags"] + moods["tags"]
            categories = genres["categories"] + instruments["categories"] + moods["categories"]
            row[:] = array("d", tags + categories)
            track_ids.append(event["track_id"])
        return track_ids, rows


class SimdjsonParser:
    """Events by pysimdjson, whose buffers are copied straight into the array: the fastest there is in Python."""

    def __init__(self, columns: int) -> None:
        import simdjson

        self._columns = columns
        self._parser = simdjson.Parser()
        self._pointers = [f"/{name}/{kind}" for kind in LISTS for name in CLASSES]

    def parse(self, values: Sequence[bytes]) -> tuple[list[str], NDArray[np.float32]]:
        """Track ids, and rows [B, F]."""
        rows = np.empty((len(values), self._columns), np.float32)
        track_ids = []
        event: Any = None
        for row, value in zip(rows, values, strict=True):
            del event  # the parser is not used again while something of it lives
            event = self._parser.parse(value)
            track_ids.append(event["track_id"])
            row[:] = np.frombuffer(
                b"".join([event.at_pointer(pointer).as_buffer(of_type="d") for pointer in self._pointers])
            )
        return track_ids, rows


@dataclass(frozen=True)
class Place:
    """Where one run of a system reads and writes, and what it does."""

    bootstrap: str
    group: str
    source: str
    tags: str
    folder: Path
    job: Job
    parser: OrjsonParser | SimdjsonParser

    def decide(self, values: Sequence[bytes]) -> tuple[list[str], list[bytes]]:
        """Track ids and decisions of events."""
        track_ids, rows = self.parser.parse(values)
        return track_ids, self.job.decisions(track_ids, rows)

    def decide_one(self, value: bytes) -> tuple[str, bytes]:
        """The same of one event."""
        (track_id,), rows = self.parser.parse([value])
        return track_id, self.job.decision(track_id, rows[0])


def place() -> Place:
    """What the harness has put into the environment."""
    job = Job.load(Path(os.environ["BENCH_JOB"]))
    parser = SimdjsonParser if os.environ.get("BENCH_PARSER") == "simdjson" else OrjsonParser
    return Place(
        os.environ["BENCH_BOOTSTRAP"], os.environ["BENCH_GROUP"], os.environ["BENCH_SOURCE"], os.environ["BENCH_TAGS"],
        Path(os.environ["BENCH_FOLDER"]), job, parser(len(job.scorer.weights)),
    )  # fmt: skip
