"""Tuning without smoothing finds the best F1 that any threshold can have on the same scores."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model import metrics, thresholds

rows = st.lists(
    st.tuples(st.floats(0.001953125, 1, width=16), st.booleans()), min_size=1, max_size=30
)  # from 2^-9: below, half a float16 step can vanish in the sixth decimal


@given(rows)
def test_no_threshold_is_better(pairs):
    scores = np.array([score for score, _ in pairs], dtype=np.float16)[:, None]
    labels = np.array([label for _, label in pairs], dtype=np.uint8)[:, None]
    tuned = thresholds.tune(scores, labels, [0.0])[0]
    found = metrics.f1_per_tag(labels, scores.astype(np.float64) >= tuned)[0]
    best = max(metrics.f1_per_tag(labels, scores >= cut)[0] for cut in np.unique(scores))
    assert labels.sum() == 0 or found >= best - 1e-12
    assert tuned[0] == round(tuned[0], 6) and 0.000001 <= tuned[0] <= 1.0
