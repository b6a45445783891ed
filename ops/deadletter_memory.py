"""What was replayed, as Kafka remembers it: reading the commits of the replay's own consumer group.

The group has no members: offsets are committed for it, as with Kafka's own `--reset-offsets`.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from ops.deadletter_replay import Done
from ops.errors import OpsError
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_rights import Operation, Right
from streamer.settings import Settings

AGREE_TRIES = 50
AGREE_WAIT_S = 0.1

Commits = dict[int, tuple[int, str]]  # by partition: offset and text


def replay_group(settings: Settings) -> str:
    """The consumer group whose commits remember what was replayed."""
    return f"{settings.group}-deadletter-replay"


def replay_rights(settings: Settings) -> list[Right]:
    """What a replay needs of the topics, besides Read on its group, which the first look at its commits has shown.

    With DescribeConfigs on the input it also sees beforehand what is too large for it.
    """
    return [
        Right(Operation.READ, "topic", settings.topic_deadletter),
        Right(Operation.WRITE, "topic", settings.topic_probabilities),
    ]


@asynccontextmanager
async def memory(settings: Settings, partitions: Collection[int]) -> AsyncIterator[tuple[AIOKafkaConsumer, Admin]]:
    """A consumer that commits for the replay's group and fetches nothing, and an admin client that reads its texts."""
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=replay_group(settings), enable_auto_commit=False)
    async with running(consumer, settings), running(Admin(**client_options(settings)), settings) as admin:
        assigned = [TopicPartition(settings.topic_deadletter, partition) for partition in partitions]
        consumer.assign(assigned)
        consumer.pause(*assigned)
        yield consumer, admin


async def committed_now(
    settings: Settings, consumer: AIOKafkaConsumer, admin: Admin, partitions: Collection[int]
) -> Commits:
    """What the group has committed.

    Only the admin client gives the texts, but it passes a coordinator that is not ready for a group that has nothing,
    which would replay everything again; the consumer, which gives the offsets alone, waits. So both are asked.
    """
    topic = settings.topic_deadletter
    for _ in range(AGREE_TRIES):
        # Both anew each time: a replay that is at work just now commits between the two.
        offsets = {partition: await consumer.committed(TopicPartition(topic, partition)) for partition in partitions}
        found = await committed_at_once(settings, admin, partitions)
        if all((offset or 0) == found.get(partition, (0, ""))[0] for partition, offset in offsets.items()):
            return found
        await asyncio.sleep(AGREE_WAIT_S)
    raise OpsError(f"the commits of the group {replay_group(settings)} change as they are read: another replay runs.")


async def committed_at_once(settings: Settings, admin: Admin, partitions: Collection[int]) -> Commits:
    topic, group = settings.topic_deadletter, replay_group(settings)
    found = await admin.list_consumer_group_offsets(group)
    return {
        tp.partition: (at.offset, at.metadata or "")
        for tp, at in found.items()
        if tp.topic == topic and tp.partition in partitions and at.offset >= 0
    }


def understood(kept: Mapping[int, range], committed: Commits) -> tuple[dict[int, Done], list[int]]:
    done, forgotten = {}, []
    for partition, mine in kept.items():
        known = Done.read(mine, *committed[partition]) if partition in committed else Done(mine)
        if known is None:
            forgotten.append(partition)
        done[partition] = known or Done(mine)
    return done, forgotten
