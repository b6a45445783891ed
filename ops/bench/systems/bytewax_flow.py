"""Bytewax: its Kafka operators around `flat_map_batch`, which sees what the source has read as one list.

Its offsets live in its own recovery store, not in a consumer group: the run is over when the flow, told to end at the
end of the topic, has written its last snapshot.
"""

from datetime import timedelta

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from ops.bench.systems.job import BATCH, COMMIT_INTERVAL_S, COMMITTED_FILE, Place, place

SINK = {"acks": "all", "enable.idempotence": "true", "partitioner": "murmur2_random"}


def make_flow(here: Place) -> Dataflow:
    """Kafka in, lists of events to lists of decisions, Kafka out."""

    def tag(messages: list[KafkaSourceMessage]) -> list[KafkaSinkMessage]:
        track_ids, decisions = here.decide([message.value for message in messages])
        return [
            KafkaSinkMessage(track_id.encode(), decision)
            for track_id, decision in zip(track_ids, decisions, strict=True)
        ]

    brokers = here.bootstrap.split(",")
    flow = Dataflow("tagger")
    source = kop.input("in", flow, brokers=brokers, topics=[here.source], tail=False, batch_size=BATCH)
    tagged = op.flat_map_batch("tag", source.oks, tag)
    kop.output("out", tagged, brokers=brokers, topic=here.tags, add_config=SINK)
    return flow


def run(here: Place) -> None:
    """To the end of the topic."""
    store = here.folder / "recovery"
    store.mkdir()
    init_db_dir(store, 1)
    cli_main(
        make_flow(here), epoch_interval=timedelta(seconds=COMMIT_INTERVAL_S), recovery_config=RecoveryConfig(str(store))
    )
    (here.folder / COMMITTED_FILE).touch()


if __name__ == "__main__":
    run(place())
