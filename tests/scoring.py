"""Scoring without a network, for tests that start processes: the upstream's own probabilities under the 0.5 rule."""

from pathlib import Path

import numpy as np

from model.rows import Stretch
from model.vocabulary import Vocabulary
from ops.catalogue import Decide, Run
from ops.catalogue_formats import ChallengeCsv, DecisionsParquet, Part
from streamer.core.decide import decide, tag_classes
from streamer.core.layout import Layout

PER_PART = 50


def layout_of(vocabulary: Vocabulary) -> Layout:
    return Layout.build(vocabulary.fingerprint, vocabulary.to_dict())


def a_run(form: str, out: Path, vocabulary: Vocabulary, rows_per_part: int = PER_PART) -> Run:
    """A run in small parts."""
    layout = layout_of(vocabulary)
    made = ChallengeCsv(layout, one_file=False) if form == "challenge" else DecisionsParquet(layout, "model", "table")
    return Run(out, made, {"model": "model"}, rows_per_part)


def decided(vocabulary: Vocabulary) -> Decide:
    """The 0.5 rule."""
    layout = layout_of(vocabulary)
    classes, thresholds = tag_classes(layout), np.full(vocabulary.n_tags, 0.5)

    def of(stretch: Stretch) -> Part:
        scores = stretch.probabilities[:, : vocabulary.n_tags].astype(np.float16)
        return Part(stretch.track_ids, scores, decide(scores, thresholds, classes))

    return of
