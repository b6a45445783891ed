"""Pathway: a table of raw messages, a UDF that is given whole batches of them, and a table written back to Kafka.

Its offsets are committed by librdkafka on its own clock, whatever has come out by then: faster than at least once.
"""

import pathway as pw

from ops.bench.systems.job import BATCH, COMMIT_INTERVAL_S, Place, place


def run(here: Place) -> None:
    """Until it is ended."""
    reading = {
        "bootstrap.servers": here.bootstrap, "group.id": here.group, "auto.offset.reset": "earliest",
        "enable.auto.commit": "true", "auto.commit.interval.ms": str(int(COMMIT_INTERVAL_S * 1000)),
    }  # fmt: skip
    writing = {"bootstrap.servers": here.bootstrap, "acks": "all", "partitioner": "murmur2_random"}

    @pw.udf(max_batch_size=BATCH, deterministic=True)
    def tag(values: list[bytes]) -> list[bytes]:
        return here.decide(values)[1]

    events = pw.io.kafka.read(reading, topic=here.source, format="raw", autocommit_duration_ms=100)
    tagged = events.select(key=pw.this.key, data=tag(pw.this.data))
    pw.io.kafka.write(tagged, writing, here.tags, format="raw", key=tagged.key, value=tagged.data)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    run(place())
