"""What both Quix Streams programs share: an application that commits so often."""

from quixstreams import Application
from quixstreams.models import Topic

from ops.bench.systems.job import Place


def make_app(here: Place, commit_interval_s: float) -> tuple[Application, Topic]:
    """The application and its source, both as bytes; at least once is Quix's default."""
    app = Application(
        broker_address=here.bootstrap,
        consumer_group=here.group,
        auto_offset_reset="earliest",
        commit_interval=commit_interval_s,
        auto_create_topics=False,
        use_changelog_topics=False,
        consumer_extra_config={"fetch.queue.backoff.ms": 10},
        producer_extra_config={"acks": "all", "linger.ms": 20, "enable.idempotence": True},
        state_dir=here.folder / "state",
        loglevel="WARNING",
    )
    return app, app.topic(here.source, key_deserializer="bytes", value_deserializer="bytes")
