"""The four topics on the broker: making them, and reading what is there.

Nothing is ever altered here: an existing topic belongs to its operator, who is told the remedy instead.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from streamer.adapters.kafka_client import Admin, client_options, running, telling_kafka_errors
from streamer.adapters.kafka_topic_contract import Problem, Topic, TopicPlan, find_problems, plan_topics
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

DEFAULT_PARTITIONS = 12  # divides evenly among 1, 2, 3, 4, 6 and 12 workers
MAX_DEFAULT_REPLICATION = 3
VISIBLE_TIMEOUT_S = 10.0  # from "created" until every partition has a leader


@dataclass(frozen=True, slots=True)
class Created:
    """What `create_topics` found or made."""

    name: str
    partitions: int
    replication: int
    existed: bool


async def create_topics(
    settings: Settings, partitions: int | None = None, replication: int | None = None
) -> list[Created]:
    """Make the topics that are missing; those that exist are reported and left as they are.

    Without `partitions` a new topic gets as many as the input has, or 12; without `replication` as many
    copies as there are brokers, at most 3.

    Raises:
        TagstreamError: when the broker refuses, or `partitions` contradicts an existing input topic.
    """
    async with running(Admin(**client_options(settings)), settings) as admin:
        existing = await _partition_counts(admin)
        brokers = len((await admin.describe_cluster())["brokers"])
        copies = replication or min(MAX_DEFAULT_REPLICATION, max(1, brokers))
        input_partitions = _input_partitions(settings, existing, partitions)
        plans = plan_topics(settings, copies)
        missing = [plan for plan in plans if plan.name not in existing]
        await _create(admin, missing, input_partitions, copies)
        found = await _wait_visible(admin, {plan.name: input_partitions for plan in missing})
    return [
        Created(plan.name, *found.get(plan.name, (input_partitions, copies)), existed=plan.name in existing)
        for plan in plans
    ]


def _input_partitions(settings: Settings, existing: Mapping[str, tuple[int, int]], wanted: int | None) -> int:
    """Outputs go to the partition number of their input: the input's own count decides for all."""
    if settings.topic_probabilities not in existing:
        return wanted or DEFAULT_PARTITIONS
    have = existing[settings.topic_probabilities][0]
    if wanted is not None and wanted != have:
        raise TagstreamError(
            f"the topic {settings.topic_probabilities} exists with {have} partitions, not {wanted}: "
            "changing their number is a migration, because tracks would move to other partitions."
        )
    return have


async def _create(admin: Admin, plans: list[TopicPlan], partitions: int, replication: int) -> None:
    if not plans:
        return
    response = await admin.create_topics(
        [NewTopic(plan.name, partitions, replication, topic_configs=dict(plan.config)) for plan in plans]
    )
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if error not in (NoError, TopicAlreadyExistsError):  # another `create` may run beside this one
            reason = (message[0] if message else None) or error.description
            raise TagstreamError(f"Kafka does not create the topic {name}: {reason.rstrip('.')}.")


async def _wait_visible(admin: Admin, wanted: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Wait until every new partition has a leader, so that the next command finds the topics."""
    async with asyncio.timeout(VISIBLE_TIMEOUT_S):
        while True:
            found = await _partition_counts(admin)
            if all(name in found and found[name][0] >= count for name, count in wanted.items()):
                return found
            await asyncio.sleep(0.05)


async def _partition_counts(admin: Admin) -> dict[str, tuple[int, int]]:
    """`{topic: (partitions with a leader, replication)}` of the whole cluster.

    All topics are asked for: asking for one by its name would make a broker with auto-creation create it.
    """
    topics = await admin.describe_topics()
    return {
        topic["topic"]: (
            sum(1 for partition in topic["partitions"] if partition["leader"] >= 0),
            min((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
        )
        for topic in topics
        if topic["error_code"] == 0
    }


async def partition_count(settings: Settings, topic: str) -> int:
    """How many partitions `topic` has.

    Raises:
        TagstreamError: when it does not exist.
    """
    async with running(Admin(**client_options(settings)), settings) as admin:
        counts = await _partition_counts(admin)
    if topic not in counts:
        raise TagstreamError(
            f"Kafka at {settings.kafka_bootstrap} has no topic {topic}; "
            "`tagstream topics create` makes the product's own."
        )
    return counts[topic][0]


async def read_topics(settings: Settings) -> dict[str, Topic]:
    """The product's topics that exist, with their settings."""
    names = [plan.name for plan in plan_topics(settings, 1)]
    async with running(Admin(**client_options(settings)), settings) as admin:
        counts = await _partition_counts(admin)
        configs = await _configs(admin, [name for name in names if name in counts], settings)
    return {name: Topic(name, *counts[name], configs[name]) for name in names if name in counts}


async def _configs(admin: Admin, names: list[str], settings: Settings) -> dict[str, Mapping[str, str] | None]:
    found: dict[str, Mapping[str, str] | None] = {}
    if not names:
        return found
    with telling_kafka_errors(settings):
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        responses = await admin.describe_configs(resources)
    for response in responses:
        for code, _message, _type, name, entries in response.resources:
            found[name] = {entry[0]: entry[1] for entry in entries} if code == 0 else None
    return found


async def inspect_topics(settings: Settings) -> tuple[dict[str, Topic], list[Problem]]:
    """The topics on the broker and everything about them that the contract would have otherwise."""
    topics = await read_topics(settings)
    return topics, find_problems(settings, topics)


async def check_topics(settings: Settings) -> list[str]:
    """The problems under which a worker must not start; empty where it may.

    Weaker ones (an uncompacted output, an input that takes no bulk messages) are `tagstream topics check`'s.
    """
    _, problems = await inspect_topics(settings)
    return [str(problem) for problem in problems if problem.fatal]
