"""Tuned thresholds against every cut there is, for each objective, counted by hand on small arrays."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model import thresholds
from model.objective import Objective

OBJECTIVES = (
    "f1", "f-beta:0.5", "f-beta:2", "precision:0.75", "precision:1", "recall:0.5", "recall:1", "cost:1:1", "cost:5:1",
    "f1,floor:0.6", "precision:0.5,floor:0.7", "cost:1:2,floor:0.5",
)  # fmt: skip
# From 2^-9: below, half a float16 step can vanish in the sixth decimal.
rows = st.lists(st.tuples(st.floats(0.001953125, 1, width=16), st.booleans()), min_size=1, max_size=25)


def worth(objective: Objective, decided: list[bool], labels: list[bool]) -> float:
    """What the decisions are worth by the textbook; -inf where they are not admissible."""
    hits = sum(d and label for d, label in zip(decided, labels, strict=True))
    false = sum(d and not label for d, label in zip(decided, labels, strict=True))
    missed = sum(not d and label for d, label in zip(decided, labels, strict=True))
    precision, recall = hits / (hits + false), hits / (hits + missed)
    if objective.floor and 2 * hits / (2 * hits + false + missed) < objective.floor:
        return -math.inf
    if objective.kind == "precision":
        return recall if precision >= objective.numbers[0] else -math.inf
    if objective.kind == "recall":
        return precision if recall >= objective.numbers[0] else -math.inf
    if objective.kind == "cost":
        cost, idle = objective.numbers[0] * false + objective.numbers[1] * missed, objective.numbers[1] * sum(labels)
        return -cost if cost < idle else -math.inf
    if not hits:
        return 0.0
    beta = objective.numbers[0] if objective.numbers else 1.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


@given(rows, st.sampled_from(OBJECTIVES), st.sampled_from([0.0, 2.0]))
def test_no_other_cut_is_better(pairs, text, smoothing):
    objective = Objective.parse(text)
    values, labels = [score for score, _ in pairs], [label for _, label in pairs]
    scores = np.array(values, dtype=np.float16)[:, None]
    seen = np.array(labels, dtype=np.float64)[:, None]
    # An expectation that agrees with the labels steadies the counts in proportion: the choice stays the textbook's.
    tuned = thresholds.tune(scores, seen, [smoothing], seen, objective)[0, 0]
    if not any(labels):
        assert tuned == (1.0 if objective.takes_the_unseen else math.inf)
        return
    best = max(worth(objective, [value >= cut for value in values], labels) for cut in values)
    if math.isinf(tuned):
        assert best == -math.inf
    else:
        found = worth(objective, [value >= tuned for value in values], labels)
        assert math.isclose(found, best, abs_tol=1e-9)
        assert tuned == round(tuned, 6) and 0.000001 <= tuned <= 1.0
