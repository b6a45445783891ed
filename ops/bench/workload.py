"""The work that every peer is given: simulated events, one cheap linear scorer, and the decisions expected of it.

All of it follows from a seed, so that the events, the weights that each peer loads and the reference need not be
stored with one another. The scorer is the `linear` architecture of `model.network` folded into one matrix product.
Knows nothing of Kafka.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.vocabulary import Vocabulary
from ops.bench.systems.job import Job, LinearScorer
from streamer.core.layout import CLASSES, Layout

SEED = 20_261_122
CHUNK_TRACKS = 4_096
LIST_SIZES = {"genres": (90, 16), "instruments": (38, 8), "moods": (120, 16)}  # the challenge's 248 tags, 40 categories
LOGIT_MEAN, LOGIT_DEVIATION = -3.5, 1.5
BIAS_MEAN = -0.8  # with it about nine decided tags a track
DECIMALS = 4  # of a probability: an event of 2.1 KB

Score = Callable[[NDArray[np.float32]], NDArray[np.float16]]  # [B, F] -> [B, T]


def track_id_of(index: int) -> str:
    """The id of the event at `index`."""
    return f"T-{index:08d}"


@dataclass(frozen=True)
class Workload:
    """`events` tracks and what is to be decided of them."""

    events: int

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.build(
            {
                class_name: {
                    "tags": [f"{class_name[:-1]}-{n:03d}" for n in range(tags)],
                    "categories": [f"{class_name[:-1]}-family-{n:02d}" for n in range(categories)],
                }
                for class_name, (tags, categories) in LIST_SIZES.items()
            }
        )

    @cached_property
    def layout(self) -> Layout:
        return Layout.build(self.vocabulary.fingerprint, self.vocabulary.classes)

    @cached_property
    def linear_part(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What is added to a tag's own logit: weights `[T, F]` and bias `[T]`, in torch's order."""
        random = np.random.default_rng(SEED)
        shape = (self.layout.n_tags, self.layout.n_inputs)
        weights = random.normal(0, 0.02, shape).astype(np.float32)
        return weights, random.normal(BIAS_MEAN, 0.2, self.layout.n_tags).astype(np.float32)

    @cached_property
    def scorer(self) -> LinearScorer:
        weights, bias = self.linear_part
        own = np.eye(self.layout.n_tags, self.layout.n_inputs, dtype=np.float32)
        thresholds = np.round(np.random.default_rng(SEED + 1).uniform(0.2, 0.5, self.layout.n_tags), 6)
        return LinearScorer(np.ascontiguousarray((weights + own).T), bias, thresholds)

    @cached_property
    def job(self) -> Job:
        layout = self.layout
        return Job(self.scorer, list(layout.tags), [CLASSES[n] for n in layout.tag_class], layout.fingerprint)

    def chunks(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The rows of the input matrix, in pieces: index of the first track, `[B, F]`."""
        for first in range(0, self.events, CHUNK_TRACKS):
            rows = min(CHUNK_TRACKS, self.events - first)
            random = np.random.default_rng((SEED, first))
            logits = random.normal(LOGIT_MEAN, LOGIT_DEVIATION, (rows, self.layout.n_inputs))
            yield first, np.round(1 / (1 + np.exp(-logits)), DECIMALS)

    def values(self) -> Iterator[tuple[str, bytes]]:
        """Track id and JSON of every event."""
        from ops.kafka_io import event_json

        for first, rows in self.chunks():
            for offset, row in enumerate(rows):
                track_id = track_id_of(first + offset)
                yield track_id, event_json(self.layout, track_id, row)

    def tracks(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Track id and row [F] of every event, for the bulk lane."""
        for first, rows in self.chunks():
            for offset, row in enumerate(rows.astype(np.float32)):
                yield track_id_of(first + offset), row

    def compare(self, decided: dict[str, frozenset[str]], score: Score | None = None) -> "Agreement":
        """Hold decisions against the reference, tag by tag; `score` is that of the network, if it is another."""
        score = score or self.scorer.scores
        agreement = Agreement(expected_tracks=self.events, unknown_tracks=len(decided))
        names = np.array(self.layout.tags)
        thresholds = self.scorer.thresholds
        for first, rows in self.chunks():
            scores = score(rows.astype(np.float32))
            expected = scores.astype(np.float64) >= thresholds
            for offset in range(len(rows)):
                tags = decided.get(track_id_of(first + offset))
                if tags is None:
                    agreement.missing_tracks += 1
                    continue
                agreement.unknown_tracks -= 1
                agreement.tags += len(tags)
                wanted = frozenset(names[expected[offset]].tolist())
                for tag in tags ^ wanted:
                    column = self.layout.tags.index(tag) if tag in self.layout.tags else -1
                    if column >= 0 and _within_one_step(scores[offset, column], thresholds[column]):
                        agreement.tags_at_threshold += 1
                    else:
                        agreement.tags_differing += 1
        return agreement


def endless_events() -> Iterator[tuple[bytes, bytes]]:
    """Events without end, key and value.

    The bodies of the first few thousand come again under other track ids, too far apart to be compressed away.
    """
    bodies = [value.partition(b",")[2] for _, value in Workload(CHUNK_TRACKS).values()]
    for number, body in enumerate(itertools.cycle(bodies)):
        key = track_id_of(number).encode()
        yield key, b'{"track_id":"%b",%b' % (key, body)


def _within_one_step(score: np.float16, threshold: float) -> bool:
    step = max(float(np.spacing(score)), float(np.spacing(np.float16(threshold))))
    return abs(float(score) - threshold) <= step


@dataclass
class Agreement:
    """How one system's decisions compare with the reference."""

    expected_tracks: int = 0
    missing_tracks: int = 0
    unknown_tracks: int = 0
    repeated_outputs: int = 0  # beyond one per event: at-least-once allows them, a smooth run has none
    tags: int = 0
    tags_at_threshold: int = 0  # differ, with the score at most one float16 step from the threshold: allowed
    tags_differing: int = 0

    @property
    def holds(self) -> bool:
        return not (self.missing_tracks or self.unknown_tracks or self.tags_differing)
