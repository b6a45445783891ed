"""Decisions per tag: what the encoder is handed is what is counted, and the number of series is bounded."""

import numpy as np
import pytest

from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.adapters.tag_counts import MAX_TAG_SERIES, OTHERS, TagCounts
from streamer.core.decide import decide, tag_classes
from streamer.core.ids import Origins
from streamer.core.layout import Layout
from streamer.core.packed import Packed

TOPIC = "tracks.probabilities"


def counted(layout: Layout, scores: np.ndarray, rejected: tuple[int, ...] = ()) -> tuple[dict, Packed]:
    """Everything with a score of 0.5 or more, decided and encoded twice: counters by tag, and the decisions."""
    counts = TagCounts(JsonDecisionEncoder(layout), layout)
    decided = decide(scores, np.full(layout.n_tags, 0.5), tag_classes(layout))
    sources = [(TOPIC, -1, -1, -1) if row in rejected else (TOPIC, 0, row, 0) for row in range(len(scores))]
    names = Packed.of([b"T-%d" % row for row in range(len(scores))])
    for _ in range(2):
        decisions = counts.encode(decided, scores, names, Origins.of(sources), "m", "t", "2026-11-22T09:45:00.123Z")
    samples = [sample for family in counts.collect() for sample in family.samples]
    return {sample.labels.get("tag"): sample.value for sample in samples}, decisions


@pytest.fixture
def layout() -> Layout:
    return Layout.build("3f9c0a17b2de", {"genres": {"tags": ["jazz", "rock"]}, "moods": {"tags": ["calm"]}})


def test_each_tag_is_counted_and_the_decisions_are_untouched(layout: Layout):
    scores = np.array([[0.9, 0.1, 0.6], [0.7, 0.5, 0.2], [0.1, 0.2, 0.3]], np.float16)
    seen, decisions = counted(layout, scores)
    assert seen == {None: 6, "jazz": 4, "rock": 2, "calm": 2}
    plain = JsonDecisionEncoder(layout)
    decided = decide(scores, np.full(3, 0.5), tag_classes(layout))
    sources = [(TOPIC, 0, row, 0) for row in range(3)]
    names = Packed.of([b"T-0", b"T-1", b"T-2"])
    alone = plain.encode(decided, scores, names, Origins.of(sources), "m", "t", "2026-11-22T09:45:00.123Z")
    assert list(decisions) == list(alone)


def test_a_rejected_row_counts_nowhere(layout: Layout):
    scores = np.array([[0.9, 0.1, 0.6], [0.7, 0.5, 0.2]], np.float16)
    assert counted(layout, scores, rejected=(0,))[0] == {None: 2, "jazz": 2, "rock": 2, "calm": 0}


def test_beyond_the_bound_tags_share_a_series():
    many = Layout.build("3f9c0a17b2de", {"genres": {"tags": [f"g{n}" for n in range(MAX_TAG_SERIES + 50)]}})
    seen, _ = counted(many, np.ones((1, many.n_tags), np.float16))
    assert len(seen) == 1 + MAX_TAG_SERIES + 1 and seen[OTHERS] == 100 and seen["g7"] == 2
