"""Record batches built by hand, and the way to put them on a broker past every producer's own checks."""

import asyncio
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka import codec as codecs
from aiokafka.errors import for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c, encode_varint
from aiokafka.structs import TopicPartition

from streamer.adapters.kafka_client import client_options, running
from streamer.settings import Settings

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
LENGTH_AT, CRC_AT, ATTRIBUTES_AT, COUNT_AT, FIRST_RECORD = 8, 17, 21, 57, 61
TIMEOUT_MS = 30_000


class Rec(NamedTuple):
    """A record to be."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


def batch(*records: Rec, codec: str = "none", base: int = 0, first_timestamp_ms: int = 1_000) -> bytearray:
    """A batch as a producer writes it, at this offset."""
    builder = _DefaultRecordBatchBuilderPy(2, CODECS[codec], 0, -1, -1, -1, 1 << 30)
    for number, record in enumerate(records):
        fields: dict[str, Any] = record._asdict()
        builder.append(number, timestamp=first_timestamp_ms + number, **fields)
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    return raw


def signed(raw: bytearray) -> bytes:
    """With the checksum that fits what was done to it."""
    struct.pack_into(">I", raw, CRC_AT, calc_crc32c(bytes(raw[ATTRIBUTES_AT:])))
    return bytes(raw)


def packed(raw: bytearray, codec: str) -> bytes:
    """An uncompressed batch, compressed now: what was done to its records stays done."""
    encode = {
        "gzip": codecs.gzip_encode,
        "snappy": codecs.snappy_encode,
        "lz4": codecs.lz4_encode,
        "zstd": codecs.zstd_encode,
    }[codec]
    made = raw[:FIRST_RECORD] + encode(bytes(raw[FIRST_RECORD:]))
    made[ATTRIBUTES_AT + 1] |= CODECS[codec]
    struct.pack_into(">i", made, LENGTH_AT, len(made) - LENGTH_AT - 4)
    return signed(made)


def with_headers(count: int, *others: Rec, codec: str = "zstd", first_timestamp_ms: int = 1_000) -> bytes:
    """A record of so many empty headers, and these behind it."""
    raw = batch(Rec(b"k", b"v"), *others, first_timestamp_ms=first_timestamp_ms)
    number, length = bytearray(), bytearray()
    encode_varint(count, number.append)
    record = b"\0\0\0\x02k\x02v" + number + b"\0\0" * count
    encode_varint(len(record), length.append)
    size, at = raw[FIRST_RECORD] // 2, FIRST_RECORD + 1
    raw[FIRST_RECORD : at + size] = length + record
    return packed(raw, codec)


def produce_raw(settings: Settings, partition: int, *batches: bytes) -> list[str]:
    """Hand each batch to the broker as it is; what the broker said to each, `NoError` where it took it."""

    async def send() -> list[str]:
        producer = AIOKafkaProducer(**client_options(settings))
        async with running(producer, settings):
            topic = settings.topic_probabilities
            await producer.partitions_for(topic)
            client = producer.client
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            said = []
            for one in batches:
                request = ProduceRequest(None, -1, TIMEOUT_MS, [(topic, [(partition, one)])])
                answer = await client.send(leader, request)
                said.append(for_code(answer.topics[0][1][0][1]).__name__)
            return said

    return asyncio.run(send())
