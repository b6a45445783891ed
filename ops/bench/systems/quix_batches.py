"""Quix Streams for batches: a `BatchingSink` scores what a checkpoint has gathered and produces it, then it commits."""

from confluent_kafka import KafkaException, Producer
from quixstreams.sinks import BatchingSink, SinkBatch

from ops.bench.systems.job import BATCH, COMMIT_INTERVAL_S, Place, place
from ops.bench.systems.quix_app import make_app


class Decisions(BatchingSink):
    """Decisions of a partition's events, into Kafka."""

    def __init__(self, here: Place) -> None:
        super().__init__()
        self._here = here
        self._producer: Producer

    def setup(self) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": self._here.bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 20,
                "partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000,
                "delivery.report.only.error": True, "on_delivery": _not_delivered,
            }
        )  # fmt: skip

    def write(self, batch: SinkBatch) -> None:
        for items in batch.iter_chunks(BATCH):
            for track_id, decision in zip(*self._here.decide([item.value for item in items]), strict=True):
                self._producer.produce(self._here.tags, decision, track_id.encode())
            self._producer.poll(0)
        self._producer.flush()


def _not_delivered(error: object, _message: object) -> None:
    raise KafkaException(error)


def run() -> None:
    """Until SIGTERM."""
    here = place()
    app, source = make_app(here, COMMIT_INTERVAL_S)
    app.dataframe(source).sink(Decisions(here))
    app.run()


if __name__ == "__main__":
    run()
