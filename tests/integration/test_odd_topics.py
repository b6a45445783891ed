"""Inputs that are odd as topics and not as events: a log cut short, large messages, old ones."""

import asyncio
import random
import time
from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.structs import ConsumerRecord

from ops.kafka_io import read_topic
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_records import install
from tests.harness import PARTITIONS, Artefacts, Stream, eventually

MIB = 1024 * 1024

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


async def delete_records(stream: Stream, partition: TopicPartition, before_offset: int) -> None:
    async with running(Admin(**client_options(stream.settings)), stream.settings) as admin:
        await admin.delete_records({partition: RecordsToDelete(before_offset=before_offset)})


def test_what_retention_deleted_unread_is_told(stream: Stream):
    """It is lost, and nobody but the worker can know: the lag goes to nought all the same."""
    stream.load(400).finish()
    committed(stream, commit=1)
    partition = TopicPartition(stream.settings.topic_probabilities, 0)
    asyncio.run(delete_records(stream, partition, 50))
    (worker,) = stream.start("only")
    stream.settle()
    told = [line for line in worker.log().splitlines() if "retention has deleted" in line]
    assert len(told) == 1, "told once, for the partition that lost something"
    assert f"{partition.topic}/0 holds nothing at offset 1 any more" in told[0]


def test_what_retention_deleted_unread_is_told_once(stream: Stream, caplog: pytest.LogCaptureFixture):
    """However many fetches ask for it: the place to go on from is found after the next ones have gone out."""
    stream.load(400).finish()
    partition = TopicPartition(stream.settings.topic_probabilities, 0)

    async def ask_again_and_again() -> list[int]:
        await delete_records(stream, partition, 50)
        consumer = AIOKafkaConsumer(**client_options(stream.settings), auto_offset_reset="earliest")
        found = []
        async with running(consumer, stream.settings):
            install(consumer)
            consumer.assign([partition])
            for offset in (1, 1, 2):
                consumer.seek(partition, offset)
                found.append((await consumer.getone()).offset)
        return found

    assert asyncio.run(ask_again_and_again()) == [50, 50, 50]
    told = [record.getMessage() for record in caplog.records if "retention has deleted" in record.getMessage()]
    assert [line.split(" at offset ")[1].split()[0] for line in told] == ["1", "2"]


async def produce(stream: Stream, *events: tuple[bytes, bytes], **options: object) -> None:
    """Events of any size, as an upstream with larger limits than the contract's would send them."""
    producer = AIOKafkaProducer(**client_options(stream.settings), max_request_size=256 * MIB, **options)
    async with running(producer, stream.settings):
        for key, value in events:
            await producer.send_and_wait(stream.settings.topic_probabilities, value, key)


def test_the_dead_letter_of_an_old_event_is_kept_as_long_as_any(stream: Stream):
    """With the event's own time Kafka erased it at the next check of what is too old."""

    began_ms = time.time() * 1000
    old_ms = int(began_ms) - 6 * 24 * 3600 * 1000  # not so old that Kafka erases the event itself

    async def produce_old() -> None:
        producer = AIOKafkaProducer(**client_options(stream.settings))
        async with running(producer, stream.settings):
            await producer.send_and_wait(stream.settings.topic_probabilities, b"bad", b"old", timestamp_ms=old_ms)

    asyncio.run(produce_old())
    assert_dead_letters(stream, (b"old", b"bad"))
    (record,) = asyncio.run(dead_letters(stream))
    assert began_ms <= record.timestamp <= time.time() * 1000


async def dead_letters(stream: Stream) -> list[ConsumerRecord]:
    settings = stream.settings
    async with aclosing(read_topic(settings, settings.topic_deadletter, from_start=True, follow=False)) as found:
        return [record async for record in found]


def assert_dead_letters(stream: Stream, *events: tuple[bytes, bytes]) -> None:
    """One worker makes exactly these dead letters, byte for byte, and nothing is left."""
    stream.start("only")
    stream.settle(30)
    found = [(record.key, record.value) for record in asyncio.run(dead_letters(stream))]
    assert sorted(found) == sorted(events)


def test_a_small_message_that_unpacks_to_a_huge_one(stream: Stream):
    """The input topic measures what is compressed, and so must the dead letters."""
    digits = bytes(random.Random(7).choices(b"0123456789", k=12 * MIB))  # snappy leaves it at 12 MiB, gzip halves it
    events = (b"zeros", bytes(20 * MIB)), (b"digits", digits), (b"small", b"bad")
    asyncio.run(produce(stream, *events, compression_type="gzip"))
    assert_dead_letters(stream, *events)


def test_a_message_as_large_as_an_input_of_larger_limits_takes(services, artefacts: Artefacts, tmp_path):
    stream = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts, prepared=False)
    topic = NewTopic(
        stream.settings.topic_probabilities, PARTITIONS, 1, topic_configs={"max.message.bytes": f"{24 * MIB}"}
    )

    async def make_input() -> None:
        async with running(Admin(**client_options(stream.settings)), stream.settings) as admin:
            await admin.create_topics([topic])

    try:
        asyncio.run(make_input())
        stream.make_topics()
        stream.install(artefacts.first, champion=True)
        events = (b"noise", random.Random(7).randbytes(23 * MIB)), (b"small", b"bad")
        asyncio.run(produce(stream, *events))
        assert_dead_letters(stream, *events)
    finally:
        stream.close()
