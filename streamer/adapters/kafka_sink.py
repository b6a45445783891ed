"""The output topics: one idempotent aiokafka producer, acks=all, whole record batches to a chosen partition.

Faust's own producer is not idempotent and sends event by event. Order per partition holds because the pipeline
awaits each `send` before the next of that partition, and aiokafka keeps one request per partition in flight.
An idempotent producer repeats a request for as long as it takes, so a broker that is away is waited for; what comes
out as `SendFailed` cannot be mended by waiting: a right that is missing, a limit that was lowered while the worker
ran. Such a worker ends with its offsets uncommitted, and the next start reads limits and rights anew. A single record
that is too large for its topic is told apart before it is sent (`fits`): its input can be dead-lettered.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from streamer.adapters.kafka_batches import record_batches
from streamer.adapters.kafka_client import client_options
from streamer.adapters.kafka_words import REFUSED_RIGHT, kafka_error
from streamer.adapters.produce_gate import LeaseLost, ProduceGate
from streamer.core.errors import TagstreamError
from streamer.core.lease import Lease
from streamer.core.outputs import OutputColumns, OutputRecord
from streamer.settings import Settings

log = logging.getLogger(__name__)

BATCH_BYTES = 900_000  # one record batch; under the broker's default limit of 1 MiB even when incompressible
LARGE_COMPRESSION = DefaultRecordBatch.CODEC_ZSTD  # of a record beyond BATCH_BYTES: brokers measure what is compressed
COMPRESSION = DefaultRecordBatch.CODEC_SNAPPY  # per track 0.9 us and 45 % smaller; lz4, always at level 9: 14 us
REQUEST_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 5.0  # at the end nothing is left to flush, unless the broker is away: then it is not waited for
RECORD_OVERHEAD_BYTES = 2048  # room for key, headers and framing around a decision's value
OMITTED_HEADER = "value.omitted"  # of a dead letter too large for any topic: how many bytes are only at its source
KEY_OMITTED_HEADER = "key.omitted"  # the same of its key, where that alone is too large
KEY_BYTES_HASHED = 1024  # no track id is longer; murmur2 is Python, and stops the event loop for 0.3 s a MiB


class SendFailed(TagstreamError):
    """Kafka refused an output for good; nothing later of its partition may be sent."""


class KafkaSink:
    """`streamer.ports.Sink` on aiokafka."""

    def __init__(self, settings: Settings, lease: Lease) -> None:
        self.gate = ProduceGate(lease)
        self._settings = settings
        self._options = client_options(settings)
        self._producer: AIOKafkaProducer | None = None
        self._limits: dict[str, int] = {}  # max.message.bytes by topic

    def obey_limits(self, limits: Mapping[str, int]) -> None:
        """Learn the largest message, in bytes, of the topics for which that is known."""
        self._limits = dict(limits)

    def fits(self, topic: str, value_bytes: int) -> bool:
        """Whether a record with a value of this size can be written to the topic, counted before compression."""
        return value_bytes + RECORD_OVERHEAD_BYTES <= self._limits.get(topic, BATCH_BYTES)

    async def start(self) -> None:
        """Connect; raises aiokafka's own errors."""
        producer = AIOKafkaProducer(
            **self._options,
            acks="all",
            enable_idempotence=True,
            compression_type="snappy",
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self.gate.install(producer)
        self._producer = producer

    async def send(self, topic: str, partition: int | None, records: Sequence[OutputRecord]) -> Awaitable[None]:
        """Hand records over in order; the awaitable returned ends when all in-sync replicas have them."""
        try:
            if partition is None:
                futures = [await self._send_by_key(topic, record) for record in records]
            else:
                futures = await self._send_batches(topic, partition, records)
        except KafkaError as error:
            raise self._failed(topic, partition, error) from error
        return self._acknowledged(topic, partition, futures)

    async def _send_batches(self, topic: str, partition: int, records: Sequence[OutputRecord]) -> list[Any]:
        futures = []
        size = min(BATCH_BYTES, self._limits.get(topic, BATCH_BYTES))
        if isinstance(records, OutputColumns):
            batches = record_batches(records, size, snappy=True)
            return [await self._enqueue(batch, topic, partition) for batch in batches]
        builder = BatchBuilder(size, COMPRESSION)
        for record in records:
            if not self._append(builder, record):
                builder.close()
                futures.append(await self._enqueue(builder, topic, partition))
                builder = BatchBuilder(size, COMPRESSION)
                self._append(builder, record)  # a builder takes its first record whatever its size
        builder.close()
        futures.append(await self._enqueue(builder, topic, partition))
        return futures

    @staticmethod
    def _append(builder: Any, record: OutputRecord) -> bool:
        return (
            builder.append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers)
            is not None
        )

    async def _enqueue(self, builder: Any, topic: str, partition: int) -> Any:
        return await _patiently(lambda: self._require().send_batch(builder, topic, partition=partition))

    async def _send_by_key(self, topic: str, record: OutputRecord) -> Any:
        if record.key is None and record.value is None:  # legal in Kafka; aiokafka's `send` asserts that it is not
            (future,) = await self._send_batches(topic, 0, [record])
            return future
        size = DefaultRecordBatchBuilder.estimate_size_in_bytes(record.key, record.value, record.headers)
        if size > BATCH_BYTES or len(record.key or b"") > KEY_BYTES_HASHED:
            return await self._send_large(topic, record)
        return await _patiently(
            lambda: self._require().send(
                topic, record.value, record.key, timestamp_ms=record.timestamp_ms, headers=record.headers
            )
        )

    async def _send_large(self, topic: str, record: OutputRecord) -> Any:
        """In a batch of its own, as small as can be: what came compressed, or through a larger limit, must go out.

        `send` refuses by its size before compression, which the input topic has never seen. What cannot be made
        small enough goes without its value, which stays at its source: a partition must not stand still for it.
        """
        partition = murmur2((record.key or b"")[:KEY_BYTES_HASHED]) & 0x7FFFFFFF
        limit = self._limits.get(topic)
        if limit is not None and not self._fits_packed(record, limit):
            size = len(record.value or b"")
            log.warning("a dead letter of %d bytes does not fit into %s: its value is left at its source", size, topic)
            record = record._replace(value=b"", headers=[*record.headers, (OMITTED_HEADER, str(size).encode())])
            if not self._fits_packed(record, limit):
                omitted = (KEY_OMITTED_HEADER, str(len(record.key or b"")).encode())
                record = record._replace(key=None, headers=[*record.headers, omitted])
        return await self._enqueue(self._large_batch(record), topic, partition % await self.partition_count(topic))

    def _fits_packed(self, record: OutputRecord, limit: int) -> bool:
        """Whether its batch does; packed to find out only where it would not go unpacked (packing stops the loop)."""
        batch = self._large_batch(record)
        return batch.size() <= limit or len(batch._build()) <= limit

    def _large_batch(self, record: OutputRecord) -> BatchBuilder:
        builder = BatchBuilder(BATCH_BYTES, LARGE_COMPRESSION)
        self._append(builder, record)
        builder.close()
        return builder

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(await self._require().partitions_for(topic))

    async def stop(self) -> None:
        """Flush and disconnect; gives up flushing when the broker does not answer."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await asyncio.wait_for(producer.stop(), STOP_TIMEOUT_S)

    def _require(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise SendFailed("the producer is not connected")
        return self._producer

    async def _acknowledged(self, topic: str, partition: int | None, futures: Sequence[Any]) -> None:
        try:
            await asyncio.gather(*futures)
        except KafkaError as error:
            raise self._failed(topic, partition, error) from error

    def _failed(self, topic: str, partition: int | None, error: KafkaError) -> SendFailed:
        if isinstance(error, LeaseLost):
            return SendFailed(str(error.args[0]))
        if isinstance(error, REFUSED_RIGHT):
            return SendFailed(str(kafka_error(self._settings, error, "Write")))
        where = topic if partition is None else f"{topic}/{partition}"
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError):
            return SendFailed(
                f"Kafka refused output for {where}: it is larger than the max.message.bytes of the topic, which was "
                "lowered while this worker ran; the next start reads it anew"
            )
        return SendFailed(f"Kafka refused output for {where}: {error}")


async def _patiently(hand_over: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for a place in the producer's queue for as long as it takes.

    A timeout here means that nothing was handed over because the batch before still waits for the broker, so trying
    again cannot duplicate anything.
    """
    while True:
        try:
            return await hand_over()
        except KafkaTimeoutError:
            log.warning("Kafka has not taken anything for %g s; still trying", REQUEST_TIMEOUT_S)
