"""Reading a topic to its end: silence ends it only after Kafka has answered, never because a machine is busy.

Seen in a soak on a machine with a load of 25: the first answer took more than three seconds, and the checker was told
that a topic of 100,000 events was empty.
"""

from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from ops.kafka_io import SILENT_POLLS, _read

FIRST, SECOND = TopicPartition("t", 0), TopicPartition("t", 1)


@dataclass
class Record:
    """What is read of a record."""

    offset: int


class Consumer:
    """An assigned consumer that hears nothing for `deaf` polls, then one record a poll until it has given all."""

    def __init__(self, deaf: int, **given: int) -> None:
        self.deaf = deaf
        self.left = {FIRST: given["first"], SECOND: given["second"]}
        self.at = {FIRST: 0, SECOND: 0}
        self.polls = 0

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        self.polls += 1
        assert self.polls < 200, "it never ends"
        if self.polls <= self.deaf:
            return {}
        for tp, left in self.left.items():
            if left:
                self.left[tp] -= 1
                self.at[tp] += 1
                return {tp: [Record(self.at[tp] - 1)]}
        return {}

    async def position(self, tp: TopicPartition) -> int:
        return self.at[tp]

    def highwater(self, tp: TopicPartition) -> int | None:
        return None if self.polls <= self.deaf else 5


async def read(consumer: Any, first: int, second: int) -> int:
    """How many records come out, with these ends."""
    return len([record async for record in _read(consumer, {FIRST: first, SECOND: second})])


async def test_a_late_first_answer_is_waited_for():
    assert await read(Consumer(3 * SILENT_POLLS, first=5, second=5), 5, 5) == 10


async def test_offsets_that_hold_nothing_do_not_keep_it_waiting():
    consumer = Consumer(0, first=3, second=5)
    assert await read(consumer, 5, 5) == 8
    assert consumer.polls == 8 + SILENT_POLLS


async def test_a_topic_read_to_its_ends_is_over_at_once():
    consumer = Consumer(0, first=5, second=0)
    assert await read(consumer, 5, 0) == 5
    assert consumer.polls == 5
