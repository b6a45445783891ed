"""decide: the contract's comparison, order and edges on batches small enough to read."""

from itertools import pairwise

import numpy as np

from streamer.core.decide import decide, tag_classes
from streamer.core.layout import Layout

LAYOUT = Layout.build("f", {"genres": {"tags": ["a", "b", "c"]}, "moods": {"tags": ["x", "y"]}})


def decided_names(scores: list[list[float]], thresholds: list[float]) -> list[list[list[str]]]:
    """Per row and class the decided names."""
    decided = decide(np.array(scores, np.float16), np.array(thresholds), tag_classes(LAYOUT))
    return [
        [[LAYOUT.tags[tag] for tag in decided.tags[start:stop]] for start, stop in pairwise(row)]
        for row in decided.bounds.tolist()
    ]


def test_orders_by_score_in_each_class_and_ties_by_vocabulary():
    assert decided_names([[0.5, 0.9, 0.5, 0.2, 0.8]], [0.1] * 5) == [[["b", "a", "c"], [], ["y", "x"]]]


def test_a_score_at_its_threshold_is_decided():
    assert decided_names([[0.5, 0.4998, 0, 0, 0]], [0.5, 0.5, 1, 1, 1]) == [[["a"], [], []]]


def test_compares_the_rounded_score_with_the_exact_threshold():
    score = float(np.float16(0.3))  # 0.300048828125: above 0.3, below 0.300049
    assert decided_names([[score, score, 0, 0, 0]], [0.3, 0.300049, 1, 1, 1]) == [[["a"], [], []]]


def test_off_is_never_decided_and_zero_always():
    assert decided_names([[1, 0, -0.0, np.inf, 1]], [np.inf, 0, 0, np.inf, 1]) == [[["b", "c"], [], ["y"]]]


def test_a_nan_is_never_decided():
    assert decided_names([[np.nan, -np.nan, 0.5, np.nan, 0]], [0, 0, 0.5, np.inf, 1]) == [[["c"], [], []]]


def test_rows_without_tags_and_batches_without_rows():
    assert decided_names([[0] * 5, [1] * 5, [0] * 5], [0.5] * 5)[0] == [[], [], []]
    empty = decide(np.zeros((0, 5), np.float16), np.zeros(5), tag_classes(LAYOUT))
    assert empty.bounds.shape == (0, 4)
    assert empty.tags.shape == (0,)
