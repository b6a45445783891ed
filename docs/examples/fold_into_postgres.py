"""Folds the decisions into PostgreSQL with confluent-kafka: a consumer group, and rows that guard themselves.

    export CATALOGUE="host=localhost dbname=catalogue"
    python docs/examples/fold_into_postgres.py            # until Ctrl-C; start as many as there are partitions
    python docs/examples/fold_into_postgres.py --once     # to the end of now

Kafka's offsets are committed after the database's transaction, so after a crash some records come again, and in a
rebalance two consumers may hold one partition for a moment. Neither does harm: a row remembers where in the log its
decision stands, and takes only a later one with another `decision-id`. A withdrawn track keeps its row, without a
decision, for the same reason.
"""

import os
import sys
from collections.abc import Iterable

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

TOPIC = os.environ.get("TAGSTREAM_TOPIC_TAGS", "tracks.tags")
DATABASE = os.environ.get("CATALOGUE", "dbname=catalogue")
CONFIG = {
    "bootstrap.servers": os.environ.get("TAGSTREAM_KAFKA_BOOTSTRAP", "localhost:9092"),
    "group.id": os.environ.get("CATALOGUE_GROUP", "catalogue"),
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
}
TABLE = """
CREATE TABLE IF NOT EXISTS tracks (
    track_id text PRIMARY KEY, decision jsonb, decision_id text NOT NULL, position bigint NOT NULL,
    changes integer NOT NULL DEFAULT 1)
"""
UPSERT = """
INSERT INTO tracks AS mine (track_id, decision, decision_id, position) VALUES (%s, %s, %s, %s)
ON CONFLICT (track_id) DO UPDATE
SET decision = excluded.decision, decision_id = excluded.decision_id, position = excluded.position,
    changes = mine.changes + 1
WHERE mine.position < excluded.position AND mine.decision_id <> excluded.decision_id
"""


def row(message: Message) -> tuple[str, str | None, str, int]:
    """Within a topic a track never leaves its partition, so offsets alone tell which decision is later."""
    headers = dict(message.headers() or ())
    value = message.value()
    identity = "withdrawn" if value is None else headers["decision-id"].decode()
    return message.key().decode(), None if value is None else value.decode(), identity, message.offset()


def sorted_out(messages: Iterable[Message], at_end: set[int]) -> list[Message]:
    """The records among what `consume` gave; the rest tells of ends and errors."""
    records = []
    for message in messages:
        error = message.error()
        if error is None:
            at_end.discard(message.partition())
            records.append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            at_end.add(message.partition())
        else:
            raise KafkaException(error)
    return records


def main(once: bool) -> None:
    at_end: set[int] = set()
    consumer = Consumer(CONFIG)
    with psycopg.connect(DATABASE) as database:
        database.execute(TABLE)
        database.commit()
        consumer.subscribe([TOPIC])
        try:
            while not (once and at_end and at_end >= {place.partition for place in consumer.assignment()}):
                records = sorted_out(consumer.consume(1_000, timeout=0.2), at_end)
                if records:
                    with database.transaction(), database.cursor() as cursor:
                        cursor.executemany(UPSERT, [row(record) for record in records])
                    consumer.commit(asynchronous=False)
        finally:
            consumer.close()


try:
    main(once="--once" in sys.argv[1:])
except KeyboardInterrupt:
    sys.exit(130)
