"""Events into Kafka and records out of it, for the commands, the demo and the tests.

Producing is idempotent and acknowledged by all in-sync replicas, keyed and partitioned as the contract says;
reading never joins a consumer group, so looking at a topic cannot disturb who consumes it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from ops.errors import OpsError
from streamer.adapters import kafka_records
from streamer.adapters.kafka_client import client_options, running
from streamer.adapters.kafka_rights import Operation
from streamer.adapters.kafka_topic_contract import INPUT_MAX_BYTES
from streamer.adapters.kafka_topics import partition_count
from streamer.core.layout import CLASSES, Layout
from streamer.settings import Settings

Headers = Sequence[tuple[str, bytes]]
Event = tuple[bytes | None, bytes | None, Headers]  # key, value, headers

PRODUCER_LINGER_MS = 10
PRODUCER_BATCH_BYTES = 512 * 1024
LARGE_COMPRESSION = DefaultRecordBatch.CODEC_ZSTD  # of an event beyond that
PROGRESS_INTERVAL_S = 0.1
POLL_MS = 200
MAX_POLL_RECORDS = 2_000
# Behind the last record of a compacted or transactional topic there may be offsets that hold nothing to deliver.
SILENT_POLLS = 15  # in a row that say so: on a busy machine the first answer alone may take longer than their 3 s


def event_json(layout: Layout, track_id: str, row: NDArray[np.floating]) -> bytes:
    """One probability event in array form, from a row of the input matrix [F]."""
    event: dict[str, object] = {"track_id": track_id, "vocabulary": layout.fingerprint}
    row = np.ascontiguousarray(row)
    for class_name in CLASSES:
        lists = {
            piece.list_name: row[piece.start : piece.stop]
            for piece in layout.lists
            if piece.class_name == class_name and piece.names
        }
        if lists:
            event[class_name] = lists
    return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)


async def produce_events(
    settings: Settings,
    events: Iterable[Event],
    rate_per_s: float | None = None,
    on_progress: Callable[[int], None] | None = None,
    topic: str | None = None,
) -> int:
    """Produce `events` to the input topic (or `topic`) and return how many were acknowledged, which is all.

    `on_progress` is told the number acknowledged so far, a few times a second.

    Raises:
        TagstreamError: when Kafka cannot be reached, has no such topic, or refuses an event.
        OpsError: when an event is too large for the input topic.
    """
    topic = topic or settings.topic_probabilities
    # The producer itself would wait half a minute for a missing topic.
    await partition_count(settings, topic, Operation.WRITE)
    producer = event_producer(settings)
    tally = _Tally(on_progress)
    async with running(producer, settings):
        sent = 0
        async for key, value, headers in _on_schedule(events, rate_per_s):
            try:
                if key is None and value is None:
                    future = await _send_nothing(producer, topic, headers)
                else:
                    future = await producer.send(topic, value, key=key, headers=list(headers))
            except MessageSizeTooLargeError:
                size = len(value or b"")
                raise OpsError(f"event {sent + 1} has {size:,} bytes, too many for a Kafka message.") from None
            future.add_done_callback(tally.acknowledged)
            sent += 1
            tally.raise_first_failure()
        await producer.flush()
        tally.raise_first_failure()
    tally.tell()
    return tally.count


async def _send_nothing(producer: AIOKafkaProducer, topic: str, headers: Headers, partition: int = 0) -> asyncio.Future:
    """Neither key nor value: legal in Kafka, refused by aiokafka's `send`, so it goes as a batch of its own."""
    batch = producer.create_batch()
    batch.append(key=None, value=None, timestamp=int(time.time() * 1000), headers=list(headers))
    batch.close()
    return await producer.send_batch(batch, topic, partition=partition)


async def send_to_partition(
    producer: AIOKafkaProducer, topic: str, partition: int, event: Event, most_bytes: int
) -> asyncio.Future | None:
    """Hand one event of any size over; None where the topic, which takes `most_bytes`, would refuse it.

    A large one goes as a batch of its own and compressed, because brokers measure what is compressed and `send` what
    is not; and it is measured here, because an idempotent producer does not get over a refusal.
    """
    key, value, headers = event[0], event[1], list(event[2])
    if key is None and value is None:
        return await _send_nothing(producer, topic, headers, partition)
    size = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)
    if size <= min(PRODUCER_BATCH_BYTES, most_bytes):
        return await producer.send(topic, value, key=key, partition=partition, headers=headers)
    now_ms = int(time.time() * 1000)
    measured = DefaultRecordBatchBuilder(
        2, LARGE_COMPRESSION, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=size
    )
    measured.append(0, now_ms, key, value, headers)
    if len(measured.build()) > most_bytes:
        return None
    batch = BatchBuilder(size, LARGE_COMPRESSION)
    batch.append(timestamp=now_ms, key=key, value=value, headers=headers)
    batch.close()
    return await producer.send_batch(batch, topic, partition=partition)


def event_producer(settings: Settings, batch_bytes: int = PRODUCER_BATCH_BYTES) -> AIOKafkaProducer:
    """A producer, not started, as every event is produced: idempotent, acknowledged by all in-sync replicas."""
    return AIOKafkaProducer(
        **client_options(settings),
        enable_idempotence=True,
        acks="all",
        compression_type="lz4",
        linger_ms=PRODUCER_LINGER_MS,
        max_batch_size=batch_bytes,
        max_request_size=INPUT_MAX_BYTES,
    )


class _Tally:
    """Counts acknowledgements and keeps the first failure: a failed send must not pass for a produced event."""

    def __init__(self, on_progress: Callable[[int], None] | None) -> None:
        self.count = 0
        self._failure: BaseException | None = None
        self._on_progress = on_progress
        self._told_at = time.monotonic()

    def acknowledged(self, future: asyncio.Future) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._failure = self._failure or error
            return
        self.count += 1
        if time.monotonic() - self._told_at >= PROGRESS_INTERVAL_S:
            self.tell()

    def tell(self) -> None:
        self._told_at = time.monotonic()
        if self._on_progress:
            self._on_progress(self.count)

    def raise_first_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


async def _on_schedule(events: Iterable[Event], rate_per_s: float | None) -> AsyncIterator[Event]:
    """Hand event i out at start + i / rate: a late one does not delay those after it."""
    started = time.perf_counter()
    for index, event in enumerate(events):
        if rate_per_s:
            ahead_s = started + index / rate_per_s - time.perf_counter()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
        yield event


async def topic_ranges(settings: Settings, topic: str, since_ms: int | None = None) -> dict[int, range]:
    """The offsets that `topic` holds now, by partition; with `since_ms` from the first record of that time or later.

    Raises:
        TagstreamError: when Kafka cannot be reached or has no such topic.
    """
    count = await partition_count(settings, topic)
    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False)
    async with running(consumer, settings):
        partitions = [TopicPartition(topic, number) for number in range(count)]
        starts = await consumer.beginning_offsets(partitions)
        if since_ms is not None:
            # asked before the ends: what arrives in between is beyond neither
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
            ends = await consumer.end_offsets(partitions)
            starts = {tp: max(starts[tp], at.offset if (at := found.get(tp)) else ends[tp]) for tp in partitions}
        else:
            ends = await consumer.end_offsets(partitions)
    return {tp.partition: range(starts[tp], ends[tp]) for tp in partitions}


@asynccontextmanager
async def _reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group, with the reader that no batch stops."""
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=MAX_POLL_RECORDS,
    )
    async with running(consumer, settings):
        kafka_records.install(consumer)
        yield consumer


async def read_ranges(
    settings: Settings, topic: str, ranges: Mapping[int, range]
) -> AsyncGenerator[ConsumerRecord, None]:
    """The records of `topic` at these offsets by partition, in order within each, of no consumer group.

    Raises:
        TagstreamError: when Kafka cannot be reached.
    """
    wanted = {TopicPartition(topic, number): mine for number, mine in ranges.items() if mine}
    if not wanted:
        return
    async with _reader(settings) as consumer:
        consumer.assign(list(wanted))
        for partition, mine in wanted.items():
            consumer.seek(partition, mine.start)
        async with aclosing(_read(consumer, {partition: mine.stop for partition, mine in wanted.items()})) as records:
            async for record in records:
                yield record


async def read_topic(
    settings: Settings,
    topic: str,
    *,
    from_start: bool,
    follow: bool,
    on_span: Callable[[int], None] | None = None,
) -> AsyncGenerator[ConsumerRecord, None]:
    """The records of `topic`, of no consumer group: from its start or its end, and on, or to its end of now.

    `on_span` is told how many offsets there are to read.

    Raises:
        TagstreamError: when Kafka cannot be reached or has no such topic.
    """
    count = await partition_count(settings, topic)
    async with _reader(settings) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(partitions)
        starts = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, starts[partition] if from_start else ends[partition])
        if on_span:
            on_span(sum(ends[p] - starts[p] for p in partitions) if from_start else 0)
        async with aclosing(_read(consumer, ends, follow=follow)) as records:
            async for record in records:
                yield record


async def _read(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], follow: bool = False
) -> AsyncGenerator[ConsumerRecord, None]:
    """What the consumer reads from where it stands, up to `ends` unless it is to follow."""
    silent_polls = 0
    while follow or not await _reached(consumer, ends):
        found = await consumer.getmany(timeout_ms=POLL_MS)
        for partition, records in found.items():
            for record in records:
                if follow or record.offset < ends[partition]:
                    yield record
        silent_polls = 0 if found else silent_polls + 1
        if not follow and silent_polls >= SILENT_POLLS and await _all_heard(consumer, ends):
            return


async def _all_heard(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    """Whether Kafka has answered for every partition that is not at its end: silence before that says nothing."""
    behind = [partition for partition, end in ends.items() if await consumer.position(partition) < end]
    return all(consumer.highwater(partition) is not None for partition in behind)


async def _reached(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return False
    return True
