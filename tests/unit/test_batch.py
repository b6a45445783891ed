"""The micro-batch: spans per partition, rows, and what is taken out again for its numbers."""

import math
import time

import numpy as np
import pytest

from streamer.core.batch import REJECTED, WITHDRAWN, MicroBatch
from streamer.core.bulk import Bulk, Unplaced
from streamer.core.events import Code, Rejected
from streamer.core.packed import Packed
from streamer.core.records import Records
from tests.fakes import LAYOUT, FakeRecord

WHY = Rejected(Code.NOT_A_PROBABILITY, "1.2 is not in [0, 1]")


def a_batch(*rows: tuple[int, int, float]) -> MicroBatch:
    """One row per (partition, offset, number)."""
    batch = MicroBatch(8, 3)
    for partition, offset, number in rows:
        batch.probabilities[batch.n_rows] = number
        batch.take(partition, Records.of([FakeRecord(offset, b"")]), Packed.of([b"T-%d" % offset]))
        batch.size += 1
    return batch


def test_one_span_per_partition_in_the_order_of_their_first_record():
    batch = a_batch((3, 70, 0.1), (1, 5, 0.2), (3, 71, 0.3))
    assert [span.partition for span in batch.spans] == [3, 1]
    assert [run.offsets.tolist() for run in batch.spans[0].runs] == [[70], [71]]
    assert batch.places().tolist() == [[3, 70, 0], [1, 5, 0], [3, 71, 0]]
    assert batch.n_rows == 3 and batch.room == 5


def test_withdrawals_have_no_place():
    batch = a_batch((0, 1, 0.5))
    batch.withdraw(0, Records.of([FakeRecord(2, None, b"T-1")]))
    assert batch.places().tolist() == [[0, 1, 0]]
    assert batch.spans[0].runs[1].rows.tolist() == [WITHDRAWN] and list(batch.spans[0].runs[1].keys) == [b"T-1"]


@pytest.mark.parametrize("number", [1.0000001, -0.0000001, math.nan, math.inf, -math.inf, 1e308])
def test_numbers_that_are_no_probabilities_are_found(number):
    batch = a_batch((0, 1, 0.0), (0, 2, 0.5), (0, 3, 1.0))
    batch.probabilities[1, 2] = number
    assert batch.out_of_range_rows().tolist() == [1]


def test_what_the_matrix_held_before_does_not_count():
    batch = a_batch((0, 1, 0.5))
    batch.probabilities[1:] = 7.0
    assert batch.out_of_range_rows().tolist() == []


def test_a_rejected_row_becomes_a_dead_letter_in_its_place():
    batch = a_batch((0, 1, 0.5), (2, 9, 1.2), (0, 2, 0.5))
    record = batch.record_of(1)
    batch.reject_row(1, WHY)
    span = batch.spans[1]
    assert span.runs[0].rows.tolist() == [REJECTED] and span.dead == [(record, WHY)] and record.offset == 9
    assert batch.places().tolist() == [[0, 1, 0], [-1, -1, -1], [0, 2, 0]]
    assert not batch.probabilities[1].any(), "it is scored on zeros"
    assert batch.out_of_range_rows().tolist() == []


def test_a_large_batch_of_nothing_but_bad_rows_is_done_with_soon():
    """Searching each row from the start took 10 s for these, in which nothing else ran."""
    count = 20_000
    batch = MicroBatch(count, 1)
    batch.take(0, Records.of([FakeRecord(row, b"") for row in range(count)]), Packed.of([b"T"] * count))
    span = batch.span(0)
    began_s = time.thread_time()
    for row in range(count):
        assert batch.record_of(row).offset == row
        batch.reject_row(row, WHY)
    assert len(span.dead) == count and time.thread_time() - began_s < 3.0


def test_a_row_that_is_not_there_is_said():
    with pytest.raises(LookupError, match="row 4"):
        a_batch((0, 1, 0.5)).record_of(4)


def test_it_is_reused_without_remembering():
    batch = a_batch((0, 1, 0.5), (1, 1, 0.5))
    matrix, ids = batch.probabilities, batch.track_ids
    batch.clear()
    assert (batch.size, batch.n_rows, batch.room, batch.spans) == (0, 0, 8, [])
    assert batch.probabilities is matrix and list(ids) == [b"T-1", b"T-1"], "who still holds the ids keeps them"
    assert batch.probabilities.dtype == np.float64


class Counted(dict):
    """Dead rows that count how often they were asked for, and cannot be walked."""

    asked = 0

    def get(self, *row):
        self.asked += 1
        return super().get(*row)

    def items(self):
        raise AssertionError("walked")


def test_dead_rows_of_a_large_message_are_not_walked_once_per_micro_batch():
    rows, capacity = 64, 4
    dead = Counted({row: WHY for row in range(rows)})
    columns = [np.full((rows, len(piece.names)), 0.5) for piece in LAYOUT.lists if piece.names]
    rest = Unplaced(FakeRecord(7, b""), Bulk(Packed.of([b""] * rows), columns, dead, lambda row: b""))
    while rest is not None:
        batch = MicroBatch(capacity, LAYOUT.n_inputs)
        rest = batch.take_rows(LAYOUT, 0, rest)
        assert [run.rows.tolist() for run in batch.span(0).runs] == [[REJECTED] * capacity]
        assert len(batch.span(0).dead) == capacity
    assert dead.asked == rows
