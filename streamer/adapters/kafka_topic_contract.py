"""What the contract wants of the four topics, and what is wrong with those that a broker has.

What a topic promises (compaction, partitions in step, room for the largest message) is set on the broker,
where a worker cannot see it fail: a dead-letter topic of Kafka's default size would stop a worker only on the
day of its first large dead letter. So it is looked at before the first record. Pure: knows no client.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from streamer.settings import Settings

MIB = 1024 * 1024
INPUT_MAX_BYTES = 9 * MIB  # a bulk message of 8 MiB, its headers and Kafka's framing
DEADLETTER_MAX_BYTES = 10 * MIB  # the largest input and the headers that say why
DEADLETTER_HEADROOM_BYTES = 64 * 1024  # the least that those headers need: two texts of 500 characters and names
INPUT_RETENTION_MS = 7 * 24 * 3600 * 1000
DEADLETTER_RETENTION_MS = 30 * 24 * 3600 * 1000  # longer: people read these, and replay them


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as the contract wants it."""

    name: str
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as the broker has it; `config` is None where the broker does not let us read it."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a topic and how to mend it; a `fatal` one must stop a worker."""

    topic: str
    what: str
    remedy: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def plan_topics(settings: Settings, replication: int, input_max_bytes: int = INPUT_MAX_BYTES) -> list[TopicPlan]:
    """The contract's four topics: input, tags, scores, dead letters, in that order.

    `input_max_bytes` is what an existing input takes: an operator may allow more than the contract asks.
    """
    durable = {"min.insync.replicas": "2"} if replication >= 3 else {}
    compacted = {"cleanup.policy": "compact", **durable}
    by_time = {"cleanup.policy": "delete", **durable}
    return [
        TopicPlan(
            settings.topic_probabilities,
            by_time | {"max.message.bytes": str(INPUT_MAX_BYTES), "retention.ms": str(INPUT_RETENTION_MS)},
        ),
        TopicPlan(settings.topic_tags, compacted),
        TopicPlan(settings.topic_scores, compacted),
        TopicPlan(
            settings.topic_deadletter,
            by_time
            | {
                "max.message.bytes": str(_deadletter_bytes(input_max_bytes)),
                "retention.ms": str(DEADLETTER_RETENTION_MS),
            },
        ),
    ]


def _deadletter_bytes(input_max_bytes: int) -> int:
    return max(DEADLETTER_MAX_BYTES, input_max_bytes + MIB)


def message_limits(topics: Mapping[str, Topic]) -> dict[str, int]:
    """The largest message in bytes, by topic, of those whose settings may be read."""
    known = {name: max_message_bytes(topic) for name, topic in topics.items()}
    return {name: limit for name, limit in known.items() if limit is not None}


def find_problems(settings: Settings, topics: Mapping[str, Topic]) -> list[Problem]:
    """Hold the topics that exist against the contract."""
    problems = [
        Problem(
            plan.name,
            f"the topic {plan.name} does not exist",
            "`tagstream topics create` makes it",
            fatal=True,
        )
        for plan in plan_topics(settings, 1)
        if plan.name not in topics
    ]
    problems += _partition_problems(settings, topics)
    for topic in topics.values():
        problems += _policy_problems(settings, topic)
    return problems + _size_problems(settings, topics) + _time_problems(settings, topics)


def _partition_problems(settings: Settings, topics: Mapping[str, Topic]) -> list[Problem]:
    source = topics.get(settings.topic_probabilities)
    if source is None:
        return []
    problems = []
    for name in (settings.topic_tags, settings.topic_scores):
        topic = topics.get(name)
        if topic and topic.partitions != source.partitions:
            problems.append(
                Problem(
                    name,
                    f"the topic {name} has {topic.partitions} partitions, {source.name} {source.partitions}",
                    _repartition(topic, source),
                    fatal=True,
                )
            )
    dead = topics.get(settings.topic_deadletter)
    if dead and dead.partitions < source.partitions:
        what = f"the topic {dead.name} has {dead.partitions} partitions, {source.name} {source.partitions}"
        problems.append(Problem(dead.name, what, _repartition(dead, source), fatal=True))
    return problems


def _repartition(topic: Topic, source: Topic) -> str:
    if topic.partitions < source.partitions:
        return f"kafka-topics --alter --topic {topic.name} --partitions {source.partitions}"
    return f"delete {topic.name} and run `tagstream topics create` (partitions cannot be taken away)"


def _policy_problems(settings: Settings, topic: Topic) -> list[Problem]:
    if topic.config is None:
        what = f"the settings of the topic {topic.name} cannot be read"
        return [Problem(topic.name, what, f"allow DescribeConfigs on {topic.name} to this user", fatal=False)]
    problems = []
    wanted = "compact" if topic.name in (settings.topic_tags, settings.topic_scores) else "delete"
    policy = topic.config.get("cleanup.policy", "delete")
    if policy != wanted:
        lost = (
            "the last record of a track would be lost with time" if wanted == "compact" else "it must be kept by time"
        )
        what = f"the topic {topic.name} has cleanup.policy={policy} ({lost})"
        problems.append(Problem(topic.name, what, _alter(topic.name, "cleanup.policy", wanted), fatal=False))
    if topic.replication >= 3 and int(topic.config.get("min.insync.replicas", "1")) < 2:
        what = f"the topic {topic.name} acknowledges what one of {topic.replication} replicas has"
        problems.append(Problem(topic.name, what, _alter(topic.name, "min.insync.replicas", "2"), fatal=False))
    return problems


def _size_problems(settings: Settings, topics: Mapping[str, Topic]) -> list[Problem]:
    problems = []
    source, dead = topics.get(settings.topic_probabilities), topics.get(settings.topic_deadletter)
    source_bytes, dead_bytes = max_message_bytes(source), max_message_bytes(dead)
    if source_bytes is not None and source_bytes < INPUT_MAX_BYTES:
        what = f"the topic {settings.topic_probabilities} takes messages of {source_bytes:,} bytes, no bulk ones"
        remedy = _alter(settings.topic_probabilities, "max.message.bytes", str(INPUT_MAX_BYTES))
        problems.append(Problem(settings.topic_probabilities, what, remedy, fatal=False))
    if source_bytes is not None and dead_bytes is not None and dead_bytes < source_bytes + DEADLETTER_HEADROOM_BYTES:
        what = (
            f"the topic {settings.topic_deadletter} takes messages of {dead_bytes:,} bytes and could not "
            f"hold the largest input of {source_bytes:,} bytes with its reasons"
        )
        remedy = _alter(settings.topic_deadletter, "max.message.bytes", str(_deadletter_bytes(source_bytes)))
        problems.append(Problem(settings.topic_deadletter, what, remedy, fatal=True))
    return problems


def _time_problems(settings: Settings, topics: Mapping[str, Topic]) -> list[Problem]:
    """Scores carry their event's time: one that the input took and the scores refuse would end every worker."""
    source, scores = topics.get(settings.topic_probabilities), topics.get(settings.topic_scores)
    if source is None or scores is None or source.config is None or scores.config is None:
        return []
    if source.config.get("message.timestamp.type") == "LogAppendTime":  # the broker's own clock
        return []
    problems = []
    for name in ("message.timestamp.after.max.ms", "message.timestamp.before.max.ms"):
        wide, narrow = source.config.get(name), scores.config.get(name)
        if wide is not None and narrow is not None and int(narrow) < int(wide):
            what = f"the topic {scores.name} has {name}={narrow} and refuses times that {source.name} takes ({wide})"
            problems.append(Problem(scores.name, what, _alter(scores.name, name, wide), fatal=True))
    return problems


def max_message_bytes(topic: Topic | None) -> int | None:
    """The largest message that a topic takes; None where it does not exist or does not tell."""
    if topic is None or topic.config is None or "max.message.bytes" not in topic.config:
        return None
    return int(topic.config["max.message.bytes"])


def _alter(topic: str, name: str, value: str) -> str:
    return f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config {name}={value}"
