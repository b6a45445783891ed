"""How many retained scores one core re-examines in a second: from the bytes that Kafka gives to which tags differ.

    python -m pytest -q -s tests/benchmark/test_redecide_speed.py

The outputs are checked, the figures only printed: they are CPU time, so other work on the machine hardly moves them.
"""

import time

import numpy as np
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import TopicPartition

from streamer.adapters.score_batches import ScoreBatches
from streamer.core.redecide import examine
from streamer.core.seen_keys import SeenKeys
from streamer.core.thresholds import ThresholdTable

RECORDS, TAGS, FETCH_RECORDS, ROUNDS = 20_480, 200, 1_024, 5
MODEL = "20261122T094500Z-1a2b3c4d"
NAMES = [f"tag-{number}" for number in range(TAGS)]
BEFORE = ThresholdTable.build(NAMES, {}, dict.fromkeys(NAMES, 0.9))


def fetches(batch_records: int, scores: np.ndarray) -> list[bytes]:
    """The records [N, T] in batches of so many, some of them to a fetch; keyed, headed and packed as by a worker."""
    raw = []
    for first in range(0, RECORDS, batch_records):
        builder = BatchBuilder(10_000_000, 2)
        for number in range(first, min(first + batch_records, RECORDS)):
            headers = [
                ("model", MODEL.encode()), ("vocabulary", b"3f9c0a17b2de"), ("thresholds", BEFORE.version.encode()),
                ("source", b"tracks.probabilities/3/%d/0" % number),
            ]  # fmt: skip
            builder.append(
                timestamp=1_700_000_000_000 + number,
                key=b"T-%d" % number,
                value=scores[number].tobytes(),
                headers=headers,
            )
        builder.close()
        raw.append(first.to_bytes(8, "big") + bytes(builder._build())[8:])
    batches = max(1, FETCH_RECORDS // batch_records)
    return [b"".join(raw[at : at + batches]) for at in range(0, len(raw), batches)]


@pytest.mark.parametrize("batch_records", [512, 32, 6])
@pytest.mark.parametrize("share", [0.0, 0.01])
def test_decisions_examined_per_second_and_core(batch_records: int, share: float):
    scores = np.random.default_rng(1).random((RECORDS, TAGS)).astype("<f2")
    wanted = int((scores[:, 3].astype(float) >= 0.9 - share).sum() - (scores[:, 3].astype(float) >= 0.9).sum())
    now = ThresholdTable.build(NAMES, {"tag-3": 0.9 - share}, dict.fromkeys(NAMES, 0.9))
    given, best_s, best_examining_s = fetches(batch_records, scores), np.inf, np.inf
    for _ in range(ROUNDS):
        batches, seen, examined, changed, examining_s = ScoreBatches(TopicPartition("s", 3)), SeenKeys(), 0, 0, 0.0
        started_s = time.process_time()
        for data in reversed(given):
            for _, records in reversed(batches.read(data)):
                began_s = time.process_time()
                rows = seen.newest(records.hashes())
                seen.settle()
                counts, _ = examine(records, rows, MODEL, now, {BEFORE.version: BEFORE, now.version: now})
                examining_s += time.process_time() - began_s
                examined, changed = examined + counts.examined, changed + counts.changed
        best_s, best_examining_s = min(best_s, time.process_time() - started_s), min(best_examining_s, examining_s)
        assert (examined, changed) == (RECORDS, wanted)
    print(
        f"\n{changed / examined:.1%} change, batches of {batch_records}: {RECORDS / best_s:,.0f} decisions/s and core "
        f"from Kafka's bytes, {RECORDS / best_examining_s:,.0f} once they are read"
    )
