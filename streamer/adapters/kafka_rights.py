"""What this client may do, asked from the brokers before the work begins.

Without it a missing right shows late, or never: Faust stays up and idle where it may not read its topic, and a worker
that may not write dead letters finds out with the first bad event, perhaps weeks later. Kafka tells a client its own
rights when it describes topics (metadata version 8, Kafka 2.3 on) and groups; without an authorizer it has them all.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    IncompatibleBrokerVersion,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from streamer.adapters.kafka_client import Admin
from streamer.adapters.kafka_words import REFUSED_RIGHT, right_refused
from streamer.settings import Settings

log = logging.getLogger(__name__)

COORDINATOR_TIMEOUT_S = 5.0
COORDINATOR_RETRY_S = 0.2
NOT_TOLD = -(2**31)  # what stands in the bit field where a broker does not say


class Operation(IntEnum):
    """Kafka's own numbers; a bit field of rights has bit n for operation n."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10

    def __str__(self) -> str:
        return self.name.title().replace("_", "")


SHOW_THE_TOPIC = (Operation.READ, Operation.WRITE, Operation.DESCRIBE)


@dataclass(frozen=True, slots=True)
class Right:
    """One entry of Kafka's ACLs, less the principal."""

    operation: Operation
    resource: str  # topic | group
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}"


def worker_rights(settings: Settings) -> list[Right]:
    """Exactly what a worker needs."""
    source, group = settings.topic_probabilities, settings.group
    outputs = settings.topic_tags, settings.topic_scores, settings.topic_deadletter
    return [
        Right(Operation.READ, "topic", source),
        Right(Operation.READ, "topic", settings.topic_scores),  # for a re-decide
        Right(Operation.READ, "group", group),
        *(Right(Operation.WRITE, "topic", name) for name in outputs),
        # To see, before it begins, that an output takes whatever the input may hold.
        *(Right(Operation.DESCRIBE_CONFIGS, "topic", name) for name in (source, *outputs)),
    ]


async def require(admin: Admin, settings: Settings, rights: Sequence[Right]) -> None:
    """Pass where this client has all of `rights`, or the broker does not tell.

    Raises:
        KafkaRefuses: naming every right that is missing.
        KafkaError: the group's coordinator is not there yet.
    """
    missing = await _missing_of_topics(admin, [right for right in rights if right.resource == "topic"])
    for right in rights:
        if right.resource == "group" and not await _allowed_in_group(admin, right):
            missing.append(right)
    if missing:
        raise right_refused(settings, _in_words(missing), map(str, missing))


def _in_words(missing: Sequence[Right]) -> str:
    words = {
        Operation.READ: "read",
        Operation.WRITE: "write",
        Operation.CREATE: "create",
        Operation.DESCRIBE: "see",
        Operation.DESCRIBE_CONFIGS: "read the settings of",
    }
    return ", ".join(f"{words[right.operation]} {right.name}" for right in missing)


async def _missing_of_topics(admin: Admin, rights: Sequence[Right]) -> list[Right]:
    if not rights:
        return []
    try:
        answer: Any = await admin._send_request(_DescribeTopics(sorted({right.name for right in rights})))
    except (IncompatibleBrokerVersion, NotImplementedError):
        log.debug("this broker does not tell rights on topics")
        return []
    told: Mapping[str, tuple[int, int]] = {topic[1]: (topic[0], topic[4]) for topic in answer.topics}
    unseen = {name for name, (code, _) in told.items() if for_code(code) is TopicAuthorizationFailedError}
    # Of a topic that may not even be seen nobody can tell more; these rights let it be seen.
    showing = [right for right in rights if right.name in unseen and right.operation in SHOW_THE_TOPIC]
    shown = {right.name for right in showing}
    lacking = [right for right in rights if right.name not in shown and not _within(right, *told[right.name])]
    return showing + lacking


def _within(right: Right, code: int, operations: int) -> bool:
    if for_code(code) in REFUSED_RIGHT:
        return False
    return operations == NOT_TOLD or bool(operations >> right.operation & 1)


async def _allowed_in_group(admin: Admin, right: Right) -> bool:
    try:
        coordinator = await _coordinator(admin, right.name)
        answer: Any = await admin._send_request(_DescribeGroup(right.name), coordinator)
    except GroupAuthorizationFailedError:
        return False
    except (IncompatibleBrokerVersion, NotImplementedError):
        log.debug("this broker does not tell rights on groups")
        return True
    (group,) = answer.to_object()["groups"]
    return _within(right, group["error_code"], group["authorized_operations"])


async def _coordinator(admin: Admin, group: str) -> int:
    """The broker that coordinates a group; a new cluster needs a moment to have one."""
    deadline_s = time.monotonic() + COORDINATOR_TIMEOUT_S
    while True:
        try:
            return await admin.find_coordinator(group)
        except GroupCoordinatorNotAvailableError:
            if time.monotonic() >= deadline_s:
                raise
            await asyncio.sleep(COORDINATOR_RETRY_S)


class _TopicsDescribed(Response):
    """Metadata, version 8: aiokafka stops at 5, which does not tell rights."""

    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _DescribeTopicsV8(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _TopicsDescribed
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _DescribeTopics(Request[_DescribeTopicsV8]):
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_DescribeTopicsV8]) -> _DescribeTopicsV8:
        return request_struct_class(self._topics, False, False, True)


class _DescribeGroupV3(DescribeGroupsRequest_v3):
    """aiokafka reads version 3's answer as version 2's, which ends before the rights."""

    RESPONSE_TYPE = DescribeGroupsResponse_v3


class _DescribeGroup(Request[_DescribeGroupV3]):
    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_DescribeGroupV3]) -> _DescribeGroupV3:
        return request_struct_class([self._group], True)
