"""The laboratory's watch sees a commit that came before its outputs, at once and with what was there."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from aiokafka import TopicPartition

from ops.bulk_lane import HEADERS, bulk_message
from ops.kafka_io import Headers
from streamer.settings import load_settings
from tests.fault.lab import watch as module
from tests.fault.lab.watch import Watch
from tests.harness import PARTITIONS
from tests.small_evidence import LAYOUT, ROWS

NAMES = load_settings()
INPUT = TopicPartition(NAMES.topic_probabilities, 0)
OUTPUTS = (NAMES.topic_tags, NAMES.topic_scores, NAMES.topic_deadletter)


@pytest.fixture
def watch() -> Watch:
    return Watch(SimpleNamespace(settings=NAMES, sampler=SimpleNamespace(samples=[])))  # type: ignore[arg-type]


def came(watch: Watch, topic: str, offset: int, value: bytes | None, source: int = 0) -> None:
    """A record of partition 0, read by the watch."""
    headers = [("source", f"{NAMES.topic_probabilities}/0/{source}/0".encode())]
    arrived(watch, topic, offset, value, headers)


def arrived(watch: Watch, topic: str, offset: int, value: bytes | None, headers: Headers) -> None:
    record = SimpleNamespace(partition=0, offset=offset, timestamp=1_000, key=b"T-1", value=value, headers=headers)
    watch._take(topic, record)  # type: ignore[arg-type]
    watch._ends[TopicPartition(topic, 0)] = offset + 1


def seen(watch: Watch, committed: int, **ends: int) -> str:
    """A sample with so much committed while the topics reached `ends`; what the watch says to it."""
    reached = {TopicPartition(name, p): 0 for name in OUTPUTS for p in range(PARTITIONS)}
    reached |= {TopicPartition(getattr(NAMES, f"topic_{name}"), 0): end for name, end in ends.items()}
    watch._stream.sampler.samples.append(({INPUT: committed}, reached))
    watch._hold_commits()
    return watch.violation


def decision(offset: int, row: int = 0) -> bytes:
    source = {"topic": NAMES.topic_probabilities, "partition": 0, "offset": offset, "row": row}
    return json.dumps({"source": source}).encode()


def test_a_commit_after_its_outputs_is_fine(watch: Watch):
    came(watch, NAMES.topic_probabilities, 0, b"event")
    came(watch, NAMES.topic_probabilities, 1, b"broken")
    came(watch, NAMES.topic_probabilities, 2, None)
    came(watch, NAMES.topic_tags, 0, decision(0))
    came(watch, NAMES.topic_scores, 0, b"scores")
    came(watch, NAMES.topic_deadletter, 0, b"broken", source=1)
    assert seen(watch, 3, tags=1, scores=1, deadletter=1) == ""
    assert watch.decided() == 2


@pytest.mark.parametrize("missing", ["tags", "scores"])
def test_a_commit_without_an_output_is_seen(watch: Watch, missing: str):
    came(watch, NAMES.topic_probabilities, 0, b"event")
    if missing != "tags":
        came(watch, NAMES.topic_tags, 0, decision(0))
    if missing != "scores":
        came(watch, NAMES.topic_scores, 0, b"scores")
    said = seen(watch, 1, **{name: 1 for name in ("tags", "scores") if name != missing})
    assert "partition 0 was committed to 1" in said and "offset 0" in said


def test_a_bulk_message_is_done_with_its_last_row(watch: Watch):
    message = bulk_message(LAYOUT, ["T-1", "T-2"], np.array([ROWS["a"], ROWS["b"]], np.float32))
    arrived(watch, NAMES.topic_probabilities, 0, message, HEADERS)
    for row in (0, 1):
        came(watch, NAMES.topic_tags, row, decision(0, row))
        arrived(
            watch, NAMES.topic_scores, row, b"scores", [("source", f"{NAMES.topic_probabilities}/0/0/{row}".encode())]
        )
    assert watch.decided() == 2
    assert "offset 0 row 1" in seen(watch, 1, tags=2, scores=1)


def test_an_output_that_came_after_the_commit_was_seen_does_not_count(watch: Watch):
    came(watch, NAMES.topic_probabilities, 0, b"event")
    came(watch, NAMES.topic_tags, 0, decision(0))
    came(watch, NAMES.topic_scores, 0, b"scores")
    assert "committed to 1" in seen(watch, 1, tags=1, scores=0)


def test_what_is_not_read_yet_is_not_judged_yet(watch: Watch):
    came(watch, NAMES.topic_probabilities, 0, b"event")
    assert seen(watch, 1, tags=1, scores=1) == ""
    came(watch, NAMES.topic_tags, 0, decision(0))
    came(watch, NAMES.topic_scores, 0, b"scores")
    watch._hold_commits()
    assert watch.violation == "" and watch._checked[0] == 1


def test_an_output_may_be_read_before_its_input(watch: Watch):
    came(watch, NAMES.topic_tags, 0, decision(0))
    came(watch, NAMES.topic_scores, 0, b"scores")
    came(watch, NAMES.topic_probabilities, 0, b"event")
    assert seen(watch, 1, tags=1, scores=1) == "" and watch.decided() == 1


def test_a_partition_that_stands_still_is_seen(watch: Watch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "STALLED_S", 0.0)
    came(watch, NAMES.topic_probabilities, 0, b"event")
    watch._look_for_a_stall()
    watch._look_for_a_stall()
    assert "partition 0 stands at 0" in watch.violation
