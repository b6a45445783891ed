"""decide, on integers and all at once, is the naive loop of the contract: float64(score) >= float64(threshold)."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.decide import decide

N_TAGS = 7
BITS = st.one_of(st.integers(0, 0x3C00), st.integers(0, 0xFFFF), st.sampled_from([0, 0x8000, 0x7C00, 0x7E00, 0xFE00]))
SIX_DECIMALS = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
OF_A_FLOAT16 = st.integers(0, 0x3C00).map(lambda bits: float(np.array(bits, np.uint16).view(np.float16)))
THRESHOLDS = st.one_of(SIX_DECIMALS, OF_A_FLOAT16, st.floats(0, 1), st.just(float("inf")), st.just(0.0))


def naive(scores: np.ndarray, thresholds: list[float], classes: list[int]) -> list[list[list[int]]]:
    rows = []
    for row in scores:
        found = [
            tag
            for tag in range(N_TAGS)
            if thresholds[tag] != float("inf") and np.float64(row[tag]) >= np.float64(thresholds[tag])
        ]
        ordered = sorted(found, key=lambda tag: (-float(row[tag]), tag))
        rows.append([[tag for tag in ordered if classes[tag] == index] for index in range(3)])
    return rows


@given(
    st.lists(st.lists(BITS, min_size=N_TAGS, max_size=N_TAGS), max_size=6),
    st.lists(THRESHOLDS, min_size=N_TAGS, max_size=N_TAGS),
    st.lists(st.integers(0, 2), min_size=N_TAGS, max_size=N_TAGS),
)
@settings(max_examples=400, deadline=None)
def test_agrees_with_the_naive_loop(bits: list[list[int]], thresholds: list[float], classes: list[int]):
    scores = np.array(bits, np.uint16).reshape(-1, N_TAGS).view(np.float16)
    decided = decide(scores, np.array(thresholds), np.array(classes))
    got = [[decided.tags[start:stop].tolist() for start, stop in pairwise(row)] for row in decided.bounds.tolist()]
    assert got == naive(scores, thresholds, classes)


def test_every_float16_against_its_own_value_and_its_neighbours():
    bits = np.arange(0x3C01, dtype=np.uint16)
    scores = bits.view(np.float16)[None, :]  # [1, 15361]
    exact = scores[0].astype(np.float64)
    for thresholds in (exact, np.nextafter(exact, 2), np.nextafter(exact, -1).clip(0), np.round(exact, 6)):
        decided = decide(scores, thresholds, np.zeros(len(bits), np.int64))
        assert sorted(decided.tags.tolist()) == np.flatnonzero(exact >= thresholds).tolist()
