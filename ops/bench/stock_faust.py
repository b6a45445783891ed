"""A peer: the tagger as a Faust user would write it well, run as a process of its own by the benchmark.

`stream.take` hands over micro-batches, orjson parses, one numpy product scores the batch, `topic.send` publishes
each decision with acks=all. Faust's own commit is at the product's interval and its C extension is on. What it
lacks against the product (scores topic, dead letters, idempotence, a watermark without gaps) makes it faster.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

import faust
import numpy as np
import orjson

from ops.bench.workload import LinearScorer, Workload
from streamer.core.layout import CLASSES

BATCH = 512
WITHIN_S = 0.1
COMMIT_INTERVAL_S = 0.25  # the product's default

bootstrap, group = os.environ["BENCH_BOOTSTRAP"], os.environ["BENCH_GROUP"]
source_topic, tags_topic = os.environ["BENCH_SOURCE"], os.environ["BENCH_TAGS"]
scorer = LinearScorer.load(Path(os.environ["BENCH_SCORER"]))
layout = Workload(0).layout
class_names = [CLASSES[index] for index in layout.tag_class]

app = faust.App(
    group,
    broker=[f"kafka://{server}" for server in bootstrap.split(",")],
    broker_commit_interval=COMMIT_INTERVAL_S,
    broker_session_timeout=8,
    broker_heartbeat_interval=2,
    broker_request_timeout=30,
    consumer_auto_offset_reset="earliest",
    consumer_max_fetch_size=4 << 20,
    producer_acks=-1,
    producer_linger=0.02,
    stream_wait_empty=False,
    topic_disable_leader=True,
    topic_allow_declare=False,
    cython_optimizations=True,
    datadir=os.environ["BENCH_DATADIR"],
)
source = app.topic(source_topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
tags = app.topic(tags_topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


@app.agent(source)
async def tag(stream):
    """Parse, score and decide a micro-batch; one send per decision."""
    async for values in stream.take(BATCH, within=WITHIN_S):
        events = [orjson.loads(value) for value in values]
        rows = np.array(
            [
                [number for kind in ("tags", "categories") for name in CLASSES for number in event[name][kind]]
                for event in events
            ],
            dtype=np.float32,
        )
        scores = scorer.scores(rows)
        decided = scores.astype(np.float64) >= scorer.thresholds
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        for event, row, mask in zip(events, scores.tolist(), decided, strict=True):
            found = np.flatnonzero(mask).tolist()
            by_class: dict[str, list[str]] = {name: [] for name in CLASSES}
            for column in found:
                by_class[class_names[column]].append(layout.tags[column])
            decision = {
                "track_id": event["track_id"],
                "tags": by_class,
                "scores": {layout.tags[column]: round(row[column], 4) for column in found},
                "model": "bench",
                "vocabulary": layout.fingerprint,
                "decided_at": now,
            }
            await tags.send(key=event["track_id"].encode(), value=orjson.dumps(decision))


if __name__ == "__main__":
    app.main()
