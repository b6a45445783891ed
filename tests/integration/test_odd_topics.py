"""Inputs that are odd as topics and not as events: a log cut short, messages larger than the contract's."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streamer.adapters.kafka_client import client_options, running
from tests.harness import PARTITIONS, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


def committed(stream: Stream, commit: int | None = None) -> dict[int, int]:
    """What the group has committed by partition; before that `commit`, where given, is committed everywhere."""

    async def ask() -> dict[int, int]:
        settings = stream.settings
        consumer = AIOKafkaConsumer(**client_options(settings), group_id=settings.group, enable_auto_commit=False)
        partitions = [TopicPartition(settings.topic_probabilities, partition) for partition in range(PARTITIONS)]
        async with running(consumer, settings):
            consumer.assign(partitions)
            if commit is not None:
                await consumer.commit(dict.fromkeys(partitions, commit))
            return {tp.partition: await consumer.committed(tp) or 0 for tp in partitions}

    return asyncio.run(ask())


def test_an_offset_committed_beyond_the_end_is_taken_back(stream: Stream):
    """A log that was cut short is read from the start; what is committed then must not skip what follows."""
    count = 200
    stream.load(count).finish()
    committed(stream, commit=1_000)
    (worker,) = stream.start("only")
    eventually(lambda: worker.metrics().get("tagstream_tracks_in_total") == count, 20, "all done", worker.metrics)
    eventually(lambda: sum(committed(stream).values()) == count, 10, "all committed", lambda: committed(stream))
