"""Plain aiokafka: `getmany`, whole batches through `send_batch`, offsets committed by hand once they are delivered.

Two rounds are under way at once: the deliveries of one are awaited while the next is computed.
"""

import asyncio
import signal
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ops.bench.systems.job import COMMIT_INTERVAL_S, Place, place

POLL_MS = 100
MAX_RECORDS = 2_048
BATCH_BYTES = 900_000


async def run(here: Place) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    consumer = AIOKafkaConsumer(
        here.source, bootstrap_servers=here.bootstrap, group_id=here.group, enable_auto_commit=False,
        auto_offset_reset="earliest", max_partition_fetch_bytes=4 << 20,
    )  # fmt: skip
    producer = AIOKafkaProducer(bootstrap_servers=here.bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    async with consumer, producer:
        offsets: dict[TopicPartition, int] = {}
        waiting: tuple[dict[TopicPartition, int], list[asyncio.Future]] = ({}, [])
        committed_s = 0.0
        while not stop.is_set():
            done: dict[TopicPartition, int] = {}
            futures: list[asyncio.Future] = []
            for partition, records in (await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS)).items():
                futures += await send(here, producer, partition.partition, [record.value for record in records])
                done[partition] = records[-1].offset + 1
            await asyncio.gather(*waiting[1])
            offsets |= waiting[0]
            waiting = done, futures
            if offsets and time.monotonic() - committed_s >= COMMIT_INTERVAL_S:
                await consumer.commit(offsets)
                offsets, committed_s = {}, time.monotonic()


async def send(here: Place, producer: AIOKafkaProducer, partition: int, values: list[bytes]) -> list[asyncio.Future]:
    """Hand the decisions of events over, in as few batches as hold them."""
    futures = []
    batch = producer.create_batch()
    for track_id, decision in zip(*here.decide(values), strict=True):
        key = track_id.encode()
        if batch.append(key=key, value=decision, timestamp=None) is None:
            futures.append(await producer.send_batch(batch, here.tags, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=decision, timestamp=None)
    futures.append(await producer.send_batch(batch, here.tags, partition=partition))
    return futures


if __name__ == "__main__":
    asyncio.run(run(place()))
