"""What a re-decide publishes for the tracks whose tags differ; sends nothing.

What cannot be published (it is not what a worker writes, or too large for its topic) is counted and left as it is.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.core.decide import decide, tag_classes
from streamer.core.float16 import NO_SIGN, ONE_BITS
from streamer.core.ids import Origins
from streamer.core.layout import Layout
from streamer.core.outputs import OutputRecord, Stamp, utc_text
from streamer.core.packed import Packed
from streamer.core.redecide import Counts, tags_changed
from streamer.core.redecide_outputs import (
    decision_record,
    parse_track_id,
    redecision,
    scores_record,
)
from streamer.core.score_records import ScoreRecords
from streamer.core.source import Source
from streamer.core.thresholds import ThresholdTable
from streamer.ports import Clock, DecisionEncoder, Sink

log = logging.getLogger(__name__)


class Means(Protocol):
    """What it is made with, and where it is to go."""

    @property
    def encoder(self) -> DecisionEncoder: ...

    @property
    def sink(self) -> Sink: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def topic_tags(self) -> str: ...


class Change(NamedTuple):
    """One track that is to be published anew."""

    hashed: int  # of its key
    decision: OutputRecord
    scores: OutputRecord
    added: Sequence[str]  # under the table that the record names
    removed: Sequence[str]


class Anew:
    """Makes the outputs of one run under one table."""

    def __init__(
        self,
        stamp: Stamp,
        table: ThresholdTable,
        layout: Layout,
        tables: Mapping[str, ThresholdTable | None],
        doubts: Sequence[ThresholdTable],
        means: Means,
        run: str,
    ) -> None:
        self._stamp = stamp
        self._table = table
        self._tag_class = tag_classes(layout)
        self._tables = tables  # those that records were decided under, by version
        self._doubts = doubts  # see `core.redecide.examine`
        self._means = means
        self._run = run
        self._told = False

    def prepare(self, records: ScoreRecords, rows: NDArray[np.intp], counts: Counts) -> list[Change]:
        """What is to go out for these rows, whose tags differ."""
        whole: list[tuple[int, str, Source]] = []
        for row in rows.tolist():
            track_id, origin = parse_track_id(records.keys[row]), Source.parse(records.source(row))
            if track_id is None or origin is None:
                self._leave(records, row, counts)
            else:
                whole.append((row, track_id, origin))
        values = b"".join(records.value(row) for row, _, _ in whole)
        scores = np.frombuffer(values, "<f2").reshape(-1, len(self._table.tags))  # [n, T]
        valid = np.asarray(((scores.view(np.uint16) & NO_SIGN) <= ONE_BITS).all(axis=1))
        for place in np.flatnonzero(~valid).tolist():
            self._leave(records, whole[place][0], counts)
        whole = [one for one, good in zip(whole, valid.tolist(), strict=True) if good]
        return self._changes(records, whole, scores[valid], counts)

    def _changes(
        self,
        records: ScoreRecords,
        whole: list[tuple[int, str, Source]],
        scores: NDArray[np.float16],
        counts: Counts,
    ) -> list[Change]:
        encoded = self._means.encoder.encode(
            decide(scores, self._table.values, self._tag_class),
            scores,
            Packed.of([track_id.encode() for _, track_id, _ in whole]),
            Origins.of([origin for _, _, origin in whole]),
            self._stamp.model,
            self._stamp.thresholds,
            utc_text(self._means.clock.wall_ms()),
        )
        changes = []
        for (row, _, origin), decision, mine in zip(whole, encoded, scores, strict=True):
            change = self._change(records, row, origin, decision or b"", mine)
            if self._means.sink.fits(self._means.topic_tags, len(change.decision.value or b"")):
                changes.append(change)
            else:
                self._leave(records, row, counts)
        return changes

    def _change(
        self, records: ScoreRecords, row: int, origin: Source, decision: bytes, scores: NDArray[np.float16]
    ) -> Change:
        key, before = records.keys[row] or b"", self._before(records, row)
        told = [tags_changed(scores, one, self._table) for one in (before, *self._doubts)]
        value = redecision(decision, self._run, *next(change for change in told if any(change)))
        return Change(
            hash(key),
            decision_record(key, value, origin, self._stamp, self._run),
            scores_record(key, records.value(row), records.source(row), int(records.timestamps_ms[row]), self._stamp),
            *told[0],
        )

    def _before(self, records: ScoreRecords, row: int) -> ThresholdTable:
        table = self._tables[records.labels[records.label[row]].thresholds]
        assert table is not None  # `core.redecide.examine` leaves the others out
        return table

    def _leave(self, records: ScoreRecords, row: int, counts: Counts) -> None:
        scores = np.frombuffer(records.value(row), "<f2")
        counts.take_back(*tags_changed(scores, self._before(records, row), self._table))
        counts.unreadable += 1
        if self._told:
            return
        self._told = True
        log.warning(
            "re-decide: the scores of %.100r at offset %d are not what a worker writes, or too large to publish anew: "
            "left as they are (told once, counted each time)",
            records.keys[row],
            int(records.offsets[row]),
        )
