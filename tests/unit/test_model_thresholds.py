"""Threshold tuning: where the cut lands, and what it does without evidence."""

import numpy as np
import pytest

from model import thresholds

NONE = [0.0]


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def test_the_cut_lies_between_the_last_taken_and_the_first_left():
    tuned = thresholds.tune(column(0.9, 0.8, 0.3, 0.1), column(1, 1, 0, 0), NONE)
    assert tuned[0, 0] == pytest.approx((0.7998046875 + 0.300048828125) / 2, abs=1e-6)  # float16 neighbours


def test_no_cut_inside_a_run_of_equal_scores():
    tuned = thresholds.tune(column(0.5, 0.5, 0.5, 0.25), column(1, 0, 0, 0), NONE)
    assert tuned[0, 0] == 0.375


def test_a_tag_without_a_positive_needs_certainty():
    assert thresholds.tune(column(0.9, 0.2), column(0, 0), [0.0, 2.0]).tolist() == [[1.0], [1.0]]


def test_tuned_thresholds_have_six_decimals_and_are_never_zero():
    tuned = thresholds.tune(column(1e-7, 1e-7), column(1, 1), NONE)
    assert tuned[0, 0] == 0.000001
    tuned = thresholds.tune(column(1 / 3, 1 / 7), column(1, 0), NONE)[0, 0]
    assert tuned == round(tuned, 6)


def test_smoothing_outvotes_a_lucky_label():
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random(400))[::-1, None]
    labels = np.zeros((400, 1))
    labels[0] = 1  # one positive, at the very top
    alone, steadied = thresholds.tune(scores, labels, [0.0, 4.0])[:, 0]
    assert alone > 0.99 and steadied < 0.9


def test_shift_mends_over_confidence():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 3)) * 2 - 2
    labels = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    assert thresholds.shift_to_prevalence(logits + 0.8, labels) == pytest.approx([-0.8] * 3, abs=0.1)
    assert np.isfinite(thresholds.shift_to_prevalence(logits, np.zeros_like(logits))).all()
