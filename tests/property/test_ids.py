"""The names of many decisions at once are those of each."""

import hashlib

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.core.ids import decision_ids, source_text, source_texts

NUMBERS = st.one_of(st.integers(0, 200), st.integers(-(2**63) + 1, 2**63 - 1))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(TEXTS, st.integers(0, 10**5), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8), TEXTS, TEXTS, TEXTS)
@example("", 0, [(0, 0), (9, 10), (99, 100), (10**18, 10**17), (2**63 - 1, -1)], "", "", "")
@settings(deadline=None)
def test_they_are_what_is_written_of_each(topic, partition, places, model, thresholds, run):
    offsets, rows = (np.array([place[n] for place in places], np.int64) for n in range(2))
    sources = source_texts(topic, partition, offsets, rows)
    assert list(sources) == [source_text(topic, partition, *place).encode() for place in places]
    texts = [f"{topic}|{partition}|{offset}|{row}|{model}|{thresholds}|{run}" for offset, row in places]
    hashed = [hashlib.sha256(text.encode()).hexdigest()[:16].encode() for text in texts]
    assert list(decision_ids(topic, partition, offsets, rows, model, thresholds, run)) == hashed
