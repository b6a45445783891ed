"""Hand-written on confluent-kafka: consume many, produce each decision, flush and commit once a second."""

import signal
import time

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from ops.bench.systems.job import BATCH, STANDSTILL_INTERVAL_S, Place, place

CONSUME_TIMEOUT_S = 0.05
LINGER_MS = 20


def consumer_options(here: Place) -> dict[str, object]:
    """Nothing is committed but by hand."""
    return {
        "bootstrap.servers": here.bootstrap, "group.id": here.group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "fetch.queue.backoff.ms": 10,
    }  # fmt: skip


def producer_options(bootstrap: str) -> dict[str, object]:
    """Idempotent, acknowledged by all, partitioned as the contract says; only what is not delivered is told."""
    return {
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": LINGER_MS,
        "partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000,
        "delivery.report.only.error": True, "on_delivery": not_delivered,
    }  # fmt: skip


def not_delivered(error: object, _message: object) -> None:
    """A decision that is not delivered must not be committed over."""
    raise KafkaException(error)


def run(here: Place) -> None:
    """Until SIGTERM."""
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    consumer, producer = Consumer(consumer_options(here)), Producer(producer_options(here.bootstrap))
    consumer.subscribe([here.source])
    committed_s = time.monotonic()
    reached: dict[int, Message] = {}  # by partition, the last message taken
    while going:
        messages = consumer.consume(BATCH, CONSUME_TIMEOUT_S)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            reached[message.partition() or 0] = message
        if messages:
            for track_id, decision in zip(*here.decide([message.value() or b"" for message in messages]), strict=True):
                producer.produce(here.tags, decision, track_id.encode())
            producer.poll(0)
        if reached and time.monotonic() - committed_s >= STANDSTILL_INTERVAL_S:
            producer.flush()  # what is committed is delivered
            offsets = [TopicPartition(here.source, part, (last.offset() or 0) + 1) for part, last in reached.items()]
            consumer.commit(offsets=offsets, asynchronous=True)
            committed_s, reached = time.monotonic(), {}
    consumer.close()


if __name__ == "__main__":
    run(place())
