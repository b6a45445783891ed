"""The figures, against cases small enough to count by hand."""

import numpy as np
import pytest

from model import metrics

LABELS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]])
DECISIONS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]])
# tag 0: TP 2, FP 1, FN 1 -> 4/6; tag 1: TP 2 -> 1; tag 2: nothing labelled, nothing decided -> 0


def test_f1():
    assert metrics.f1_per_tag(LABELS, DECISIONS) == pytest.approx([2 / 3, 1.0, 0.0])
    assert metrics.weighted_f1(LABELS, DECISIONS) == pytest.approx((3 * 2 / 3 + 2 * 1.0) / 5)
    assert metrics.macro_f1(LABELS, DECISIONS) == pytest.approx((2 / 3 + 1.0) / 3)
    assert metrics.micro_f1(LABELS, DECISIONS) == pytest.approx(2 * 4 / (5 + 5))
    # tracks: 1, 2/3, 2/3, 1
    assert metrics.samples_f1(LABELS, DECISIONS) == pytest.approx((1 + 2 / 3 + 2 / 3 + 1) / 4)
    assert metrics.accuracy(LABELS, DECISIONS) == pytest.approx(10 / 12)


def test_bce_by_hand():
    scores = np.array([[0.5], [0.25]], dtype=np.float16)
    assert metrics.bce(np.array([[1], [0]]), scores) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert np.isfinite(metrics.bce(np.array([[1]]), np.array([[0.0]])))


def test_ece_by_hand():
    scores = np.array([[0.5], [0.5], [0.9], [0.9]])
    labels = np.array([[1], [0], [1], [0]])
    assert metrics.ece(labels, scores, bins=10) == pytest.approx(0.2)  # half the cells are off by 0.4
    assert metrics.ece(np.ones((3, 1)), np.ones((3, 1))) == 0.0


def test_nothing_labelled_counts_as_zero():
    nothing = np.zeros((3, 2))
    assert metrics.weighted_f1(nothing, nothing) == 0.0
    assert metrics.summary(nothing, nothing, 0.5)["weighted_f1"] == 0.0


def test_summary_decides_at_or_above_the_threshold():
    labels = np.array([[1, 0], [0, 1]])
    scores = np.array([[0.5, 0.2], [0.1, 0.7]], dtype=np.float16)
    assert metrics.summary(labels, scores, np.array([0.5, 0.7 - 1e-3]))["weighted_f1"] == 1.0
    assert metrics.summary(labels, scores, 0.5)["micro_f1"] == 1.0
