"""Folds the decisions into SQLite with aiokafka: tracks and Kafka positions in one transaction.

    python docs/examples/fold_into_sqlite.py catalogue.db            # until Ctrl-C
    python docs/examples/fold_into_sqlite.py catalogue.db --once     # to the end of now

It goes on from the positions that the database holds, so a crash at any moment neither loses nor repeats anything,
and a database restored from yesterday's backup catches up by itself. What the workers published twice has the same
`decision-id` and changes nothing: `changes` counts how often a track's tags really were decided anew.
"""

import asyncio
import os
import sqlite3
import sys

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

BOOTSTRAP = os.environ.get("TAGSTREAM_KAFKA_BOOTSTRAP", "localhost:9092")
TOPIC = os.environ.get("TAGSTREAM_TOPIC_TAGS", "tracks.tags")
TABLES = """
CREATE TABLE IF NOT EXISTS tracks (
    track_id TEXT PRIMARY KEY, decision TEXT NOT NULL, decision_id TEXT NOT NULL, changes INTEGER NOT NULL DEFAULT 1);
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL, PRIMARY KEY (topic, partition));
"""
UPSERT = """
INSERT INTO tracks (track_id, decision, decision_id) VALUES (?, ?, ?)
ON CONFLICT (track_id) DO UPDATE
SET decision = excluded.decision, decision_id = excluded.decision_id, changes = changes + 1
WHERE decision_id <> excluded.decision_id
"""
WITHDRAW = "DELETE FROM tracks WHERE track_id = ?"
ADVANCE = "INSERT OR REPLACE INTO positions (topic, partition, next_offset) VALUES (?, ?, ?)"


def apply(database: sqlite3.Connection, record: ConsumerRecord) -> None:
    track = record.key.decode()
    if record.value is None:
        database.execute(WITHDRAW, (track,))
    else:
        identity = dict(record.headers)["decision-id"].decode()
        database.execute(UPSERT, (track, record.value.decode(), identity))


async def main(path: str, *options: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    begin_at = {
        TopicPartition(topic, partition): offset
        for topic, partition, offset in database.execute("SELECT * FROM positions")
    }
    # of no group: every copy of this program reads all of the topic
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=BOOTSTRAP, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = consumer.assignment()
        for place in begin_at.keys() & places:
            consumer.seek(place, begin_at[place])
        ends = await consumer.end_offsets(places)
        while "--once" not in options or any([await consumer.position(place) < end for place, end in ends.items()]):
            found = await consumer.getmany(timeout_ms=500)
            with database:  # commits, or rolls back where anything fails
                for place, records in found.items():
                    for record in records:
                        apply(database, record)
                    database.execute(ADVANCE, (*place, records[-1].offset + 1))
    finally:
        await consumer.stop()
        database.close()


try:
    asyncio.run(main(*sys.argv[1:]))
except KeyboardInterrupt:
    sys.exit(130)
