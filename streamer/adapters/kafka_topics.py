"""The four topics on the broker: making them, and reading what is there.

Nothing is ever altered here: an existing topic belongs to its operator, who is told the remedy instead.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_rights import Operation, Right, require
from streamer.adapters.kafka_topic_contract import (
    INPUT_MAX_BYTES,
    Problem,
    Topic,
    TopicPlan,
    find_problems,
    plan_topics,
)
from streamer.adapters.kafka_words import REFUSED_RIGHT, right_refused
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

DEFAULT_PARTITIONS = 12  # divides evenly among 1, 2, 3, 4, 6 and 12 workers
MAX_DEFAULT_REPLICATION = 3
VISIBLE_POLL_S = 0.05
VISIBLE_TIMEOUT_S = 10.0  # from "created" until every partition has a leader


@dataclass(frozen=True, slots=True)
class Created:
    """What `create_topics` found or made."""

    name: str
    partitions: int
    replication: int
    existed: bool


@dataclass(frozen=True, slots=True)
class _Shape:
    partitions: int
    led: int  # partitions that have a leader: fewer for a moment after creation
    replication: int


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
        await require(admin, settings, looking_rights(settings))
        existing = await _describe(admin)
        brokers = len((await admin.describe_cluster())["brokers"])
        copies = replication or min(MAX_DEFAULT_REPLICATION, max(1, brokers))
        source, *_ = plan_topics(settings, copies)
        created: set[str] = set()
        if source.name not in existing:
            created |= await _create(admin, settings, [source], partitions or DEFAULT_PARTITIONS, copies)
        # Outputs go to the partition number of their input: the input's own count decides for all.
        count = (await _wait_visible(admin, [source.name]))[source.name].partitions
        if partitions not in (None, count):
            raise TagstreamError(
                f"the topic {source.name} exists with {count} partitions, not {partitions}: "
                "changing their number is a migration, because tracks would move to other partitions."
            )
        _, *outputs = plan_topics(settings, copies, await _input_max_bytes(admin, source.name))
        absent = [plan for plan in outputs if plan.name not in existing]
        created |= await _create(admin, settings, absent, count, copies)
        names = [source.name, *(plan.name for plan in outputs)]
        found = await _wait_visible(admin, names)
    return [
        Created(name, found[name].partitions, found[name].replication, existed=name not in created) for name in names
    ]


async def _input_max_bytes(admin: Admin, name: str) -> int:
    """What the input takes, which the dead letters must take too; the contract's size where it cannot be read."""
    config = (await _configs(admin, [name]))[name] or {}
    return int(config.get("max.message.bytes", INPUT_MAX_BYTES))


async def _create(
    admin: Admin, settings: Settings, plans: list[TopicPlan], partitions: int, replication: int
) -> set[str]:
    """Create topics and return the names of those that were not there: another `create` may run beside this one."""
    if not plans:
        return set()
    response = await admin.create_topics(
        [NewTopic(plan.name, partitions, replication, topic_configs=dict(plan.config)) for plan in plans]
    )
    created = set()
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if error is NoError:
            created.add(name)
        elif error in REFUSED_RIGHT:
            raise right_refused(settings, f"create {name}", [str(Right(Operation.CREATE, "topic", name))])
        elif error is not TopicAlreadyExistsError:
            reason = (message[0] if message else None) or error.description
            raise TagstreamError(f"Kafka does not create the topic {name}: {reason.rstrip('.')}.")
    return created


async def _wait_visible(admin: Admin, names: Sequence[str]) -> dict[str, _Shape]:
    """Wait until every partition of these topics has a leader, so that the next command finds them."""
    deadline = time.monotonic() + VISIBLE_TIMEOUT_S
    while True:
        found = await _describe(admin)
        if all(name in found and found[name].led == found[name].partitions for name in names):
            return found
        if time.monotonic() >= deadline:
            waiting = [name for name in names if name not in found or found[name].led < found[name].partitions]
            raise TagstreamError(f"partitions have no leader after {VISIBLE_TIMEOUT_S:.0f} s: {', '.join(waiting)}.")
        await asyncio.sleep(VISIBLE_POLL_S)


async def _describe(admin: Admin) -> dict[str, _Shape]:
    """Every topic of the cluster.

    All are asked for: asking for one by its name would make a broker with auto-creation create it.
    """
    return {
        topic["topic"]: _Shape(
            partitions=len(topic["partitions"]),
            led=sum(1 for partition in topic["partitions"] if partition["leader"] >= 0),
            replication=min((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
        )
        for topic in await admin.describe_topics()
        if topic["partitions"]
    }


def looking_rights(settings: Settings) -> list[Right]:
    """What it takes to hold the topics against the contract."""
    names = [plan.name for plan in plan_topics(settings, 1)]
    return [Right(op, "topic", name) for op in (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS) for name in names]


async def partition_count(settings: Settings, topic: str, operation: Operation = Operation.READ) -> int:
    """How many partitions `topic` has; for somebody who will do `operation` there.

    Raises:
        KafkaRefuses: this client may not.
        TagstreamError: when it does not exist.
    """
    async with running(Admin(**client_options(settings)), settings) as admin:
        await require(admin, settings, [Right(operation, "topic", topic)])
        found = await _describe(admin)
    if topic not in found:
        raise TagstreamError(
            f"Kafka at {settings.kafka_bootstrap} has no topic {topic}; "
            "`tagstream topics create` makes the product's own."
        )
    return found[topic].partitions


async def read_topics(settings: Settings, rights: Sequence[Right]) -> dict[str, Topic]:
    """The product's topics that exist, with their settings, for somebody who needs `rights`."""
    names = [plan.name for plan in plan_topics(settings, 1)]
    async with running(Admin(**client_options(settings)), settings) as admin:
        await require(admin, settings, rights)
        found = await _describe(admin)
        configs = await _configs(admin, [name for name in names if name in found])
    return {
        name: Topic(name, found[name].partitions, found[name].replication, configs[name])
        for name in names
        if name in found
    }


async def _configs(admin: Admin, names: list[str]) -> dict[str, Mapping[str, str] | None]:
    found: dict[str, Mapping[str, str] | None] = {}
    if not names:
        return found
    for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names]):
        for code, _message, _type, name, entries in response.resources:
            found[name] = {entry[0]: entry[1] for entry in entries} if code == 0 else None
    return found


async def inspect_topics(
    settings: Settings, rights: Sequence[Right] | None = None
) -> tuple[dict[str, Topic], list[Problem]]:
    """The topics on the broker and everything about them that the contract would have otherwise.

    Raises:
        KafkaRefuses: one of `rights` is missing (by default those that this takes).
        TagstreamError: no broker answers.
    """
    topics = await read_topics(settings, looking_rights(settings) if rights is None else rights)
    return topics, find_problems(settings, topics)
