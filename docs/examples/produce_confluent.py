"""Produces probability events with confluent-kafka, in object form: names, so no fingerprint is needed.

    tagstream models show champion --vocabulary --json > vocabulary.json
    python docs/examples/produce_confluent.py vocabulary.json T-000001 T-000002
    python docs/examples/produce_confluent.py --withdraw T-000001

librdkafka partitions by another hash unless it is told: `murmur2_random` is what Java and aiokafka do.
"""

import json
import os
import random
import sys
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

TOPIC = os.environ.get("TAGSTREAM_TOPIC_PROBABILITIES", "tracks.probabilities")
CONFIG = {
    "bootstrap.servers": os.environ.get("TAGSTREAM_KAFKA_BOOTSTRAP", "localhost:9092"),
    "partitioner": "murmur2_random",
    "enable.idempotence": True,  # and with it acks=all
    "compression.type": "lz4",
    "linger.ms": 10,
}
refused: list[KafkaError] = []


def delivered(error: KafkaError | None, _message: Message) -> None:
    if error is not None:
        refused.append(error)


def probabilities(track_id: str, names: list[str]) -> dict[str, float]:
    """Stands for your tagger: every name, each with a number in [0, 1]."""
    tagger = random.Random(f"{track_id} {names}")
    return {name: round(tagger.random(), 4) for name in names}


def event(track_id: str, vocabulary: dict) -> bytes:
    lists = {
        class_name: {part: probabilities(track_id, names) for part, names in parts.items()}
        for class_name, parts in vocabulary.items()
    }
    return json.dumps({"track_id": track_id, **lists}).encode()


def main(first: str, *track_ids: str) -> None:
    vocabulary = None if first == "--withdraw" else json.loads(Path(first).read_text())["vocabulary"]
    producer = Producer(CONFIG)
    for track in track_ids:
        value = event(track, vocabulary) if vocabulary else None  # a null value withdraws the track
        producer.produce(TOPIC, value, key=track, on_delivery=delivered)
        producer.poll(0)
    producer.flush()
    if refused:
        sys.exit(f"{len(refused)} events were not acknowledged: {refused[0]}")
    print(f"{len(track_ids)} {'events' if vocabulary else 'withdrawals'} acknowledged")


main(*sys.argv[1:])
