"""The newest scores of every track, asked by threshold: what would be decided, which tracks lie between two values.

A `Window`, the last N tracks or all since a moment, answers exactly and at once for any threshold: a float16 in
[0, 1] has one of 15,361 values, so how often each occurs says it all. Reads the local cache; knows no Kafka.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.thresholds_store import StoredScores
from streamer.core import float16
from streamer.core.float16 import ONE_BITS

VALUES = ONE_BITS + 1  # that a score can have


class RetainedScores:
    """The newest scores of every track, as they were read."""

    def __init__(self, tags: Sequence[str], stored: StoredScores) -> None:
        self.tags = tuple(tags)
        self.stored = stored
        self.newest = stored.newest()  # [N] rows

    def models(self) -> dict[str, int]:
        """How many tracks have scores of each model."""
        counts = np.bincount(self.stored.rows["model"][self.newest], minlength=len(self.stored.meta.models))
        return {name: int(count) for name, count in zip(self.stored.meta.models, counts, strict=True) if count}

    def window(self, model: str, *, last: int | None = None, since_ms: int | None = None) -> "Window":
        """The tracks that have scores of this model: all, those since a moment, the `last` so many by their time."""
        found = self.newest
        models = self.stored.meta.models
        if model not in models:
            return Window(self, found[:0])
        if len(models) > 1:
            found = found[self.stored.rows["model"][found] == models.index(model)]
        if since_ms is not None:
            found = found[self.stored.rows["at_ms"][found] >= since_ms]
        if last is not None and len(found) > last:
            times = self.stored.rows["at_ms"][found]
            found = np.sort(found[np.argpartition(times, len(found) - last)[len(found) - last :]])
        return Window(self, found)

    def tracks_within(self, model: str, start_ms: int, stop_ms: int) -> int:
        """How many tracks of a model have a time from `start_ms` to before `stop_ms`."""
        window = self.window(model, since_ms=start_ms)
        return int(np.count_nonzero(self.stored.rows["at_ms"][window.rows] < stop_ms))

    def track(self, track_id: str) -> dict[str, Any] | None:
        """What is retained of one track: model, thresholds, scores `[T]`, where its input was; None for nothing."""
        row = self.stored.row_of(track_id)
        if row is None:
            return None
        one = self.stored.rows[row]
        return {
            "track_id": track_id,
            "model": self.stored.meta.models[one["model"]],
            "thresholds": self.stored.meta.thresholds[one["thresholds"]],
            "at_ms": int(one["at_ms"]),
            "source": self.stored.source(row),
            "scores": self.stored.scores(row),
        }


class Window:
    """Some tracks of one model. Asked by tag number and by bits of a float16, see `least_bits`."""

    def __init__(self, scores: RetainedScores, rows: NDArray[np.int64]) -> None:
        self.scores = scores
        self.rows = rows  # [n]
        self._counts: dict[int, NDArray[np.int64]] = {}

    @property
    def tracks(self) -> int:
        return len(self.rows)

    @cached_property
    def span_ms(self) -> tuple[int, int]:
        """The times of its oldest and newest track; zeros where there are none."""
        times = self.scores.stored.rows["at_ms"][self.rows]
        return (int(times.min()), int(times.max())) if len(times) else (0, 0)

    def bits(self, tag: int) -> NDArray[np.uint16]:
        """`[n]` the scores of one tag."""
        column = self.scores.stored.column(tag)
        return column if len(self.rows) == len(column) else column[self.rows]

    def at_least(self, tag: int) -> NDArray[np.int64]:
        """`[VALUES + 1]` how many tracks have a score of at least each value; the last, beyond 1, is 0."""
        if tag not in self._counts:
            counts = np.bincount(self.bits(tag), minlength=VALUES)
            self._counts[tag] = np.append(np.cumsum(counts[::-1])[::-1], 0)
        return self._counts[tag]

    def decided(self, tag: int, threshold: float) -> int:
        """How many tracks a threshold (inf: off) decides."""
        return int(self.at_least(tag)[least_bits(threshold)])

    def between(self, tag: int, low: float, high: float) -> int:
        """How many tracks `low` decides and `high` does not."""
        return self.decided(tag, low) - self.decided(tag, high)

    def examples(self, tag: int, low: float, high: float, most: int) -> list[tuple[str, float]]:
        """Tracks that `low` decides and `high` does not, with their scores, spread evenly over those, highest first."""
        bits = self.bits(tag)
        found = np.flatnonzero((bits >= least_bits(low)) & (bits < least_bits(high)))
        found = found[np.argsort(-bits[found].astype(np.int64), kind="stable")]
        if len(found) > most:
            found = found[np.linspace(0, len(found) - 1, most).round().astype(np.int64)]
        values = bits[found].view(np.float16).tolist()
        return [
            (self.scores.stored.track_id(int(self.rows[at])), value) for at, value in zip(found, values, strict=True)
        ]

    def histogram(self, tag: int, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """`[len(edges) - 1]` tracks by score, as numpy's histogram counts them."""
        at_least = self.at_least(tag)
        counts = at_least[[least_bits(float(edge)) for edge in edges]]
        counts[-1] = 0  # the last bin holds its right edge too
        return counts[:-1] - counts[1:]


def least_bits(threshold: float) -> int:
    """The bits of the least float16 that reaches a threshold in [0, 1]; beyond all of them where it is off (inf)."""
    return min(int(float16.least_bits(np.float64(threshold))), VALUES)
