"""The judge of `bench swap`: times from the write to the first decision, and what it must not let pass."""

from dataclasses import replace

import numpy as np

from ops.bench.swap_evidence import Decided, Swap, at_ms, latencies_ms, mixed_batches, unexplained
from streamer.core.thresholds import ThresholdTable

TAGS = ("a", "b")
OLD, NEW = (ThresholdTable.build(TAGS, {"a": value}, {"a": 0.5, "b": 0.5}) for value in ("0.2", "0.8"))
TABLES = {table.version: table for table in (OLD, NEW)}
SCORES = {(0, offset): np.array([0.5, 0.6], np.float16) for offset in range(9)}


def one(offset: int, table: ThresholdTable, ms: float, worker: str = "w", partition: int = 0) -> Decided:
    return Decided(worker, partition, offset, table.version, ms, frozenset("ab") if table is OLD else frozenset("b"))


def test_times_are_from_the_write_to_the_first_decision_of_each_worker():
    decided = [
        one(0, OLD, 990),
        one(1, NEW, 1040),
        one(2, NEW, 1060),
        one(0, NEW, 1100, "v", 1),
        one(1, OLD, 900, "v", 1),
    ]
    swaps = [Swap(NEW.version, 1000.5), Swap("never", 2000)]
    assert latencies_ms(swaps, decided) == {"v": [100.5, None], "w": [40.5, None]}
    assert at_ms("2026-11-25T13:00:00.123Z") % 1000 == 123


def test_a_mixed_batch_and_a_partition_that_went_back_are_seen():
    right = [one(0, OLD, 10), one(1, OLD, 10), one(2, NEW, 30), one(3, NEW, 50)]
    assert mixed_batches(right) == 0
    assert mixed_batches([*right, one(4, OLD, 50)]) == 2, "mixed, and back"
    assert mixed_batches([*right, one(0, OLD, 50, partition=1)]) == 1, "mixed over two partitions"
    assert mixed_batches([*right, one(0, OLD, 50, worker="v", partition=1)]) == 0, "another worker is another batch"
    assert mixed_batches([*right, one(4, OLD, 70), one(5, NEW, 90)]) == 2, "back, and back again"


def test_a_decision_that_its_table_does_not_explain_is_counted():
    right = [one(0, OLD, 10), one(2, NEW, 30)]
    assert unexplained(right, SCORES, TABLES) == 0
    for wrong in (
        replace(right[1], tags=frozenset("ab")),  # decided by the old table, names the new one
        replace(right[1], version="unknown"),
        replace(right[1], offset=77),  # no scores
        replace(right[1], tags=frozenset()),
    ):
        assert unexplained([right[0], wrong], SCORES, TABLES) == 1
