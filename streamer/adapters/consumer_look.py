"""What Kafka and aiokafka say about a running consumer, asked on the consumer's own thread.

Written for the watchdog: the ends of the logs come from Kafka itself (a consumer that fetches nothing knows none), and
an error of the group, which aiokafka keeps for a call that Faust never makes, comes out here instead of stopping the
consumer without a word.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.protocol.commit import OffsetCommitRequest

from streamer.adapters.kafka_words import DOCS

log = logging.getLogger(__name__)

ASK_TIMEOUT_S = 3.0  # for one answer: a broker that is frozen must not hold up the look


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a consumer."""

    answered: bool = False  # whether Kafka gave the ends of the logs, or there was none to ask for
    ends: dict[int, int] = field(default_factory=dict)  # by partition: what may be read ends before this offset
    joined: bool = False  # whether the group counts this consumer in, and the topic is known to it
    denied: str = ""  # the right that is missing, as a sentence


async def look_at(consumer: AIOKafkaConsumer, topic: str, group: str) -> Look:
    """Take a look; on the thread of the consumer. Takes `ASK_TIMEOUT_S` at most, and raises nothing of Kafka's."""
    denied, answered, ends = "", True, {}
    try:
        if consumer._coordinator is not None and not consumer._coordinator._closing.done():
            consumer._coordinator.check_errors()  # lets the coordinator try again
    except KafkaError as error:
        denied = right_missing(error, topic, group)
        if not denied:
            log.warning("the consumer group: %s; trying again", str(error) or type(error).__name__)
    if topic in consumer._client.cluster.unauthorized_topics:
        denied = denied or right_missing(TopicAuthorizationFailedError(topic), topic, group)
    assigned = [tp for tp in consumer.assignment() if tp.topic == topic]
    try:
        found = await asyncio.wait_for(consumer.end_offsets(assigned), ASK_TIMEOUT_S) if assigned else {}
        ends = {tp.partition: offset for tp, offset in found.items()}
    except (KafkaError, TimeoutError) as error:
        answered = False
        denied = denied or right_missing(error, topic, group)
    return Look(answered, ends, _has_joined(consumer, topic), denied)


def _has_joined(consumer: AIOKafkaConsumer, topic: str) -> bool:
    coordinator = consumer._coordinator
    if coordinator is None or coordinator.generation == OffsetCommitRequest.DEFAULT_GENERATION_ID:
        return False
    return bool(consumer._client.cluster.partitions_for_topic(topic))


def positions(consumer: AIOKafkaConsumer) -> dict[int, int]:
    """By assigned partition: the offset that will be read next. Where it is not known yet, nothing."""
    subscription = consumer._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return {}
    states = {tp: subscription.assignment.state_value(tp) for tp in subscription.assignment.tps}
    return {tp.partition: state.position for tp, state in states.items() if state.has_valid_position}


async def unhealthy(consumer: AIOKafkaConsumer, topics: Collection[str]) -> str:
    """What Kafka itself says is wrong with these topics' partitions; empty where all replicas are in sync."""
    try:
        cluster = await asyncio.wait_for(consumer._client.fetch_all_metadata(), ASK_TIMEOUT_S)
    except (KafkaError, TimeoutError) as error:
        return f"Kafka does not answer ({type(error).__name__})"
    for topic in topics:
        for partition in sorted(cluster.partitions_for_topic(topic) or ()):
            found = cluster._partitions[topic][partition]
            if found.leader == -1:
                return f"{topic}/{partition} has no leader"
            if len(found.isr) < len(found.replicas):
                return f"{topic}/{partition} has {len(found.isr)} of {len(found.replicas)} replicas in sync"
    return ""


def right_missing(error: BaseException, topic: str, group: str) -> str:
    """The right whose lack this error tells of, as a sentence; empty where it tells of something else."""
    if isinstance(error, TopicAuthorizationFailedError):
        return f"Kafka does not allow this worker to read {topic}: give it Read on topic {topic} ({DOCS})"
    if isinstance(error, GroupAuthorizationFailedError):
        return f"Kafka does not allow this worker into the group {group}: give it Read on group {group} ({DOCS})"
    return ""
