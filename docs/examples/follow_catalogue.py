"""Bootstraps a catalogue in memory from the compacted decisions with aiokafka, and then follows what changes.

    python docs/examples/follow_catalogue.py            # until Ctrl-C
    python docs/examples/follow_catalogue.py --once     # to the end of now

One line of JSON per change: the track and its tags, null where it was withdrawn. A decision that came once more, after
a worker was killed, is told by its `decision-id` and is no change.
"""

import asyncio
import json
import os
import sys

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

BOOTSTRAP = os.environ.get("TAGSTREAM_KAFKA_BOOTSTRAP", "localhost:9092")
TOPIC = os.environ.get("TAGSTREAM_TOPIC_TAGS", "tracks.tags")

last_ids: dict[str, bytes] = {}  # of each track the id of its last decision, and nothing older


def apply(record: ConsumerRecord) -> None:
    track = record.key.decode()
    if record.value is None:  # withdrawn
        if last_ids.pop(track, None) is not None:
            print(json.dumps({"track": track, "tags": None}))
        return
    identity = dict(record.headers)["decision-id"]
    if last_ids.get(track) != identity:
        last_ids[track] = identity
        print(json.dumps({"track": track, "tags": json.loads(record.value)["tags"]}))


async def main(once: bool) -> None:
    # of no group: every copy of this program reads all of the topic
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=BOOTSTRAP, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = consumer.assignment()
        ends = await consumer.end_offsets(places)
        caught_up = False
        while not (once and caught_up):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    apply(record)
            if not caught_up and all([await consumer.position(place) >= end for place, end in ends.items()]):
                caught_up = True
                print(f"caught up: {len(last_ids)} tracks", file=sys.stderr)
    finally:
        await consumer.stop()


try:
    asyncio.run(main(once="--once" in sys.argv[1:]))
except KeyboardInterrupt:
    sys.exit(130)
