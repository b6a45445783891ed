"""What both Faust programs share: an app set up as a user who has read Faust's settings would do it.

The commit interval is the product's and Faust's C extension is on. What it lacks against the product (scores topic,
dead letters, idempotence, a watermark without gaps) makes it faster.
"""

from typing import Any

import faust

from ops.bench.systems.job import COMMIT_INTERVAL_S, Place


def make_app(place: Place) -> tuple[faust.App, faust.TopicT, faust.TopicT]:
    """The app, its source topic and its topic of decisions; both carry bytes."""
    app = faust.App(
        place.group,
        broker=[f"kafka://{server}" for server in place.bootstrap.split(",")],
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
        datadir=str(place.folder),
    )
    raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    return app, app.topic(place.source, **raw), app.topic(place.tags, **raw)
