"""What a change of thresholds does to retained scores: which records' tags differ, and how.

Only the tags whose threshold differs between the two tables can differ, so only their columns are looked at: a block
of records is compared in a few vectorised steps whatever the vocabulary's size. No inference, no I/O, no clock.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.core.score_records import ScoreRecords
from streamer.core.thresholds import ThresholdTable


@dataclass(slots=True)
class Counts:
    """What was found among the newest records of a partition."""

    examined: int = 0  # of the active model, compared
    changed: int = 0  # of these the ones whose tags differ
    other_models: int = 0  # scores of another model: skipped
    unexplained: int = 0  # the table they were decided under is not stored any more: left as they are
    unreadable: int = 0  # not what a worker writes, or too large to publish: left as they are
    added: Counter[str] = field(default_factory=Counter)  # by tag: tracks that gain it
    removed: Counter[str] = field(default_factory=Counter)  # by tag: tracks that lose it

    def take_back(self, added: Iterable[str], removed: Iterable[str]) -> None:
        """A track that was found to differ is not published: it has a newer event by now, or cannot be."""
        self.changed -= 1
        self.added.subtract(added)
        self.removed.subtract(removed)
        self.added, self.removed = +self.added, +self.removed

    def add(self, other: "Counts") -> None:
        self.examined += other.examined
        self.changed += other.changed
        self.other_models += other.other_models
        self.unexplained += other.unexplained
        self.unreadable += other.unreadable
        self.added.update(other.added)
        self.removed.update(other.removed)


def examine(
    records: ScoreRecords,
    rows: NDArray[np.intp],
    model: str,
    table: ThresholdTable,
    tables: Mapping[str, ThresholdTable | None],
    doubts: Sequence[ThresholdTable] = (),
) -> tuple[Counts, NDArray[np.intp]]:
    """What was found, and of `rows`, each its key's newest record, those whose tags differ under `table`.

    `tables`: by version every table of `model` that these records name; None for one that is not stored any more.
    `doubts`: further ones that a decision may have been published under without its record naming them.
    """
    counts = Counts()
    rows = rows[records.value_bytes[rows] >= 0]  # of a withdrawn track there is nothing to decide
    changed = []
    labels = records.label[rows]
    for place in np.unique(labels).tolist():
        label, mine = records.labels[place], rows[labels == place]
        if label.model != model:
            counts.other_models += len(mine)
            continue
        before = tables[label.thresholds]
        if before is None:
            counts.unexplained += len(mine)
            continue
        whole = mine[records.value_bytes[mine] == 2 * len(table.tags)]
        counts.unreadable += len(mine) - len(whole)
        counts.examined += len(whole)
        differs = _differs(records, whole, before, table, counts)
        for doubt in doubts:
            differs |= _differs(records, whole, doubt, table)
        changed.append(whole[differs])
    found = np.sort(np.concatenate(changed)) if changed else np.empty(0, np.intp)
    counts.changed = len(found)
    return counts, found


def _differs(
    records: ScoreRecords,
    rows: NDArray[np.intp],
    before: ThresholdTable,
    now: ThresholdTable,
    counts: Counts | None = None,
) -> NDArray[np.bool_]:
    """Of each row whether its tags differ; `counts` are told which."""
    columns = np.flatnonzero(before.values != now.values)
    if not len(columns) or not len(rows):
        return np.zeros(len(rows), bool)
    scores = records.columns(rows, columns, len(now.tags)).astype(np.float64)  # [n, c]
    was, now_is = scores >= before.values[columns], scores >= now.values[columns]
    differs = was != now_is
    for tallied, gained in ((counts.added, now_is), (counts.removed, was)) if counts is not None else ():
        for column, tracks in zip(columns.tolist(), (differs & gained).sum(axis=0).tolist(), strict=True):
            if tracks:
                tallied[now.tags[column]] += tracks
    return np.asarray(differs.any(axis=1))


def tags_changed(
    scores: NDArray[np.float16], before: ThresholdTable, now: ThresholdTable
) -> tuple[list[str], list[str]]:
    """The tags that one track [T] gains and loses, in vocabulary order."""
    exact = scores.astype(np.float64)
    was, now_is = exact >= before.values, exact >= now.values
    added, removed = np.flatnonzero(now_is & ~was).tolist(), np.flatnonzero(was & ~now_is).tolist()
    return [now.tags[tag] for tag in added], [now.tags[tag] for tag in removed]
