"""Hand-written on confluent-kafka: consume many, produce each decision, flush and commit four times a second."""

import signal
import time

from confluent_kafka import Consumer, KafkaException, Producer

from ops.bench.systems.job import BATCH, COMMIT_INTERVAL_S, Place, place

CONSUME_TIMEOUT_S = 0.05
LINGER_MS = 20


def consumer_options(here: Place) -> dict[str, object]:
    """Nothing is committed but by hand."""
    return {
        "bootstrap.servers": here.bootstrap, "group.id": here.group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "enable.auto.offset.store": False, "fetch.queue.backoff.ms": 10,
    }  # fmt: skip


def producer_options(bootstrap: str) -> dict[str, object]:
    """Idempotent, acknowledged by all, and partitioned as the contract says."""
    return {
        "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": LINGER_MS,
        "partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000,
    }  # fmt: skip


def run(here: Place) -> None:
    """Until SIGTERM."""
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    consumer, producer = Consumer(consumer_options(here)), Producer(producer_options(here.bootstrap))
    consumer.subscribe([here.source])
    committed_s, last = time.monotonic(), None
    while going:
        messages = consumer.consume(BATCH, CONSUME_TIMEOUT_S)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            consumer.store_offsets(message=message)
            last = message
        if messages:
            for track_id, decision in zip(*here.decide([message.value() or b"" for message in messages]), strict=True):
                producer.produce(here.tags, decision, track_id.encode(), on_delivery=delivered)
            producer.poll(0)
        if last is not None and time.monotonic() - committed_s >= COMMIT_INTERVAL_S:
            producer.flush()  # what is committed is delivered
            consumer.commit(asynchronous=True)
            committed_s, last = time.monotonic(), None
    consumer.close()


def delivered(error: object, _message: object) -> None:
    """A decision that is not delivered must not be committed over."""
    if error is not None:
        raise KafkaException(error)


if __name__ == "__main__":
    run(place())
