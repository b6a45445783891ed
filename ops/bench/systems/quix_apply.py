"""Quix Streams the way its documentation does it: `apply` on every event, `to_topic`."""

from ops.bench.systems.job import STANDSTILL_INTERVAL_S, place
from ops.bench.systems.quix_app import make_app


def run() -> None:
    """Until SIGTERM."""
    here = place()
    app, source = make_app(here, STANDSTILL_INTERVAL_S)
    tags = app.topic(here.tags, key_serializer="bytes", value_serializer="bytes")

    def tag(value: bytes) -> bytes:
        return here.decide_one(value)[1]

    app.dataframe(source).apply(tag).to_topic(tags)
    app.run()


if __name__ == "__main__":
    run()
