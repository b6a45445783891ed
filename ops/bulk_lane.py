"""The bulk lane from upstream's side: tracks packed by partition into Arrow messages.

A track must stay in the partition that its id belongs to, whichever lane it takes, so the partitioner is that of a
keyed event. Knows the wire format and how to send it; what reads it is `streamer.adapters.arrow_events`.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from aiokafka.partitioner import murmur2
from numpy.typing import NDArray

from ops.kafka_io import event_producer, send_to_partition
from streamer.adapters.kafka_client import running
from streamer.adapters.kafka_rights import Operation
from streamer.adapters.kafka_topics import partition_count
from streamer.core.events import ARROW_CONTENT_TYPE, MAX_BULK_BYTES
from streamer.core.layout import Layout
from streamer.settings import Settings

ROWS_PER_MESSAGE = 2_048  # 2.4 MB of float32
HEADERS = (("content-type", ARROW_CONTENT_TYPE.encode()),)


def bulk_message(layout: Layout, track_ids: Sequence[str], rows: NDArray[np.floating]) -> bytes:
    """One Arrow IPC stream of tracks: `rows` [N, F] of the input matrix, as float16 or float32."""
    columns: dict[str, pa.Array] = {"track_id": pa.array(track_ids, pa.string())}
    for piece in layout.lists:
        if piece.names:
            flat = pa.array(np.ascontiguousarray(rows[:, piece.start : piece.stop]).reshape(-1))
            columns[piece.field] = pa.FixedSizeListArray.from_arrays(flat, len(piece.names))
    batch = pa.record_batch(columns, metadata={"vocabulary": layout.fingerprint})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def pack(
    layout: Layout, tracks: Iterable[tuple[str, NDArray[np.float32]]], partitions: int, rows_per_message: int
) -> Iterator[tuple[int, int, bytes]]:
    """Messages of tracks (id, row [F]) by partition: partition, how many tracks, the message."""
    waiting: dict[int, list[tuple[str, NDArray[np.float32]]]] = defaultdict(list)

    def message(partition: int) -> tuple[int, int, bytes]:
        ids, rows = zip(*waiting.pop(partition), strict=True)
        return partition, len(ids), bulk_message(layout, ids, np.stack(rows))

    for track_id, row in tracks:
        partition = (murmur2(track_id.encode()) & 0x7FFFFFFF) % partitions
        waiting[partition].append((track_id, row))
        if len(waiting[partition]) == rows_per_message:
            yield message(partition)
    for partition in sorted(waiting):
        yield message(partition)


async def produce_bulk(
    settings: Settings,
    layout: Layout,
    tracks: Iterable[tuple[str, NDArray[np.float32]]],
    rate_per_s: float | None,
    on_progress: Callable[[int], None],
    rows_per_message: int = ROWS_PER_MESSAGE,
) -> int:
    """Produce tracks (id, row [F]) as bulk messages; returns how many were acknowledged, which is all.

    With a rate, in tracks, a message waits until its last track is due.

    Raises:
        TagstreamError: when Kafka cannot be reached, has no such topic, or refuses a message.
    """
    topic = settings.topic_probabilities
    partitions = await partition_count(settings, topic, Operation.WRITE)
    count, began_s = 0, time.perf_counter()
    async with running(event_producer(settings), settings) as producer:
        for partition, tracks_in_it, value in pack(layout, tracks, partitions, rows_per_message):
            if rate_per_s:
                due_s = began_s + (count + tracks_in_it) / rate_per_s
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            sent = await send_to_partition(producer, topic, partition, (None, value, HEADERS), MAX_BULK_BYTES)
            assert sent is not None, "a message of ROWS_PER_MESSAGE tracks fits"
            await sent
            count += tracks_in_it
            on_progress(count)
    return count
