"""Produces tracks in bulk: Arrow, many tracks of one partition in one Kafka message.

    tagstream models show champion --vocabulary --json > vocabulary.json
    python docs/examples/produce_arrow.py vocabulary.json T-000001 T-000002 T-000003

`message` is the whole format. At most 8 MiB, 16,384 rows and 256 record batches a message.
"""

import asyncio
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

BOOTSTRAP = os.environ.get("TAGSTREAM_KAFKA_BOOTSTRAP", "localhost:9092")
TOPIC = os.environ.get("TAGSTREAM_TOPIC_PROBABILITIES", "tracks.probabilities")
ROWS = 2_048  # per message
HEADERS = [("content-type", b"application/vnd.apache.arrow.stream")]


def message(track_ids: list[str], shown: dict, tagger: np.random.Generator) -> bytes:
    columns: dict[str, pa.Array] = {"track_id": pa.array(track_ids, pa.string())}
    for class_name, parts in shown["vocabulary"].items():
        for part, names in parts.items():
            if names:
                numbers = tagger.random((len(track_ids), len(names)), np.float32)  # [rows, names], your tagger's
                flat = pa.array(numbers.ravel())
                columns[f"{class_name}.{part}"] = pa.FixedSizeListArray.from_arrays(flat, len(names))
    batch = pa.record_batch(columns, metadata={"vocabulary": shown["fingerprint"]})
    with pa.ipc.new_stream(sink := pa.BufferOutputStream(), batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


async def main(vocabulary_file: str, *track_ids: str) -> None:
    shown, tagger = json.loads(Path(vocabulary_file).read_text()), np.random.default_rng(1)
    producer = AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP, enable_idempotence=True, acks="all", max_request_size=9 << 20
    )
    await producer.start()
    try:
        partitions = len(await producer.partitions_for(TOPIC))
        tracks_of = defaultdict(list)  # a track stays in the partition of its id, whichever lane it takes
        for track in track_ids:
            tracks_of[(murmur2(track.encode()) & 0x7FFFFFFF) % partitions].append(track)
        for partition, tracks in tracks_of.items():
            for start in range(0, len(tracks), ROWS):
                value = message(tracks[start : start + ROWS], shown, tagger)
                await producer.send_and_wait(TOPIC, value, partition=partition, headers=HEADERS)
    finally:
        await producer.stop()
    print(f"{len(track_ids)} tracks acknowledged")


asyncio.run(main(*sys.argv[1:]))
