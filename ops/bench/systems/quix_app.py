"""What both Quix Streams programs share: an application that commits as often as the product does."""

from quixstreams import Application
from quixstreams.models import Topic

from ops.bench.systems.job import COMMIT_INTERVAL_S, Place


def make_app(here: Place) -> tuple[Application, Topic]:
    """The application and its source, both as bytes; at least once is Quix's default."""
    app = Application(
        broker_address=here.bootstrap,
        consumer_group=here.group,
        auto_offset_reset="earliest",
        commit_interval=COMMIT_INTERVAL_S,
        auto_create_topics=False,
        use_changelog_topics=False,
        producer_extra_config={"acks": "all", "linger.ms": 20, "enable.idempotence": True},
        state_dir=here.folder / "state",
        loglevel="WARNING",
    )
    return app, app.topic(here.source, key_deserializer="bytes", value_deserializer="bytes")
