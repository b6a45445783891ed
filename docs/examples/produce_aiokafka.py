"""Produces probability events with aiokafka, in array form: positions, so the vocabulary's fingerprint goes along.

    tagstream models show champion --vocabulary --json > vocabulary.json
    python docs/examples/produce_aiokafka.py vocabulary.json T-000001 T-000002

aiokafka partitions keyed records by murmur2 as it is.
"""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

from aiokafka import AIOKafkaProducer

BOOTSTRAP = os.environ.get("TAGSTREAM_KAFKA_BOOTSTRAP", "localhost:9092")
TOPIC = os.environ.get("TAGSTREAM_TOPIC_PROBABILITIES", "tracks.probabilities")


def probabilities(track_id: str, names: list[str]) -> list[float]:
    """Stands for your tagger: one number in [0, 1] per name, in this order."""
    tagger = random.Random(f"{track_id} {names}")
    return [round(tagger.random(), 4) for _ in names]


def event(track_id: str, shown: dict) -> bytes:
    lists = {
        class_name: {part: probabilities(track_id, names) for part, names in parts.items()}
        for class_name, parts in shown["vocabulary"].items()
    }
    return json.dumps({"track_id": track_id, "vocabulary": shown["fingerprint"], **lists}).encode()


async def main(vocabulary_file: str, *track_ids: str) -> None:
    shown = json.loads(Path(vocabulary_file).read_text())
    producer = AIOKafkaProducer(
        bootstrap_servers=BOOTSTRAP, enable_idempotence=True, acks="all", compression_type="lz4", linger_ms=10
    )
    await producer.start()
    try:
        sent = [await producer.send(TOPIC, event(track, shown), key=track.encode()) for track in track_ids]
        await asyncio.gather(*sent)  # raises where one was not acknowledged: only now is it produced
    finally:
        await producer.stop()
    print(f"{len(sent)} events acknowledged")


asyncio.run(main(*sys.argv[1:]))
