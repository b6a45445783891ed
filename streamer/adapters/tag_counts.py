"""How often each tag is decided, counted where decisions become bytes: once per micro-batch, for all tags at once.

The share of tracks that get a tag is what a wrong threshold, a wrong model or a change upstream shows in first. The
series are bounded: beyond `MAX_TAG_SERIES` tags the rest share one.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from streamer.core.decide import Decided
from streamer.core.ids import Origins
from streamer.core.layout import CLASSES, Layout
from streamer.core.packed import Packed
from streamer.ports import DecisionEncoder

MAX_TAG_SERIES = 1000
OTHERS = "(others)"  # the tag and class of those beyond


class TagCounts(Collector):
    """A `DecisionEncoder` that hands on to another, and counts what it was given."""

    def __init__(self, encoder: DecisionEncoder, layout: Layout) -> None:
        self._encoder = encoder
        self._layout = layout
        self._counts = np.zeros(layout.n_tags, np.int64)  # [T]
        self._tracks = 0

    def encode(
        self,
        decided: Decided,
        scores: NDArray[np.float16],
        track_ids: Packed,
        origins: Origins,
        model: str,
        thresholds: str,
        decided_at: str,
    ) -> Packed:
        """Count, and have it encoded. A row that was rejected has no origin, and its scores mean nothing."""
        self._count(decided.tags, len(scores))
        for row in np.flatnonzero(origins.places[:, 1] < 0).tolist():
            self._count(decided.tags[decided.bounds[row, 0] : decided.bounds[row, -1]], -1)
        return self._encoder.encode(decided, scores, track_ids, origins, model, thresholds, decided_at)

    def _count(self, tags: NDArray[np.int64], tracks: int) -> None:
        """Add these tracks with these tags [N]; a negative number takes them away."""
        self._counts += np.sign(tracks) * np.bincount(tags, minlength=len(self._counts))
        self._tracks += tracks

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        """For Prometheus."""
        yield CounterMetricFamily(
            "tagstream_decisions", "Decisions made; those that are made again after a fault count again", self._tracks
        )
        tags = CounterMetricFamily(
            "tagstream_tag_decisions", "Of these, the ones with this tag in them", labels=["class", "tag"]
        )
        counts = self._counts.tolist()
        for tag, place, count in zip(self._layout.tags, self._layout.tag_class, counts[:MAX_TAG_SERIES], strict=False):
            tags.add_metric([CLASSES[place], tag], count)
        if len(counts) > MAX_TAG_SERIES:
            tags.add_metric([OTHERS, OTHERS], sum(counts[MAX_TAG_SERIES:]))
        yield tags
