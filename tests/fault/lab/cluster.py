"""What an operator does to a running cluster: moves partition leaders to other brokers, takes a right away.

Leaders move by another order of the copies and then an election. aiokafka knows no leader election, so that request
(KIP-460, version 1) is spelled here.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest, CreateAclsRequest, DeleteAclsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_rights import Operation
from streamer.settings import Settings

TIMEOUT_MS = 10_000
PREFERRED = 0
TOPIC, LITERAL, EVERYBODY, EVERYTHING, DENY, ALLOW = 2, 3, "User:*", 2, 2, 3  # as the protocol's ACLs have them


class ElectLeadersResponse_v1(Response):
    API_KEY = 43
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("replica_election_results", Array(
            ("topic", String("utf-8")),
            ("partition_result", Array(
                ("partition_id", Int32), ("error_code", Int16), ("error_message", String("utf-8")))))),
    )  # fmt: skip


class ElectLeadersRequest_v1(RequestStruct):
    API_KEY = 43
    API_VERSION = 1
    RESPONSE_TYPE = ElectLeadersResponse_v1
    SCHEMA = Schema(
        ("election_type", Int8),
        ("topic_partitions", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))),
        ("timeout_ms", Int32),
    )


class ElectLeadersRequest(Request[ElectLeadersRequest_v1]):
    """Make the first of each partition's copies its leader."""

    API_KEY = 43

    def __init__(self, partitions: dict[str, list[int]]) -> None:
        self._partitions = partitions

    def build(self, request_struct_class: type[ElectLeadersRequest_v1]) -> ElectLeadersRequest_v1:
        return request_struct_class(PREFERRED, list(self._partitions.items()), TIMEOUT_MS)


def move_leaders(settings: Settings, by: int) -> None:
    """Every partition's leader, those of the group's own topic too, goes `by` places on in its list of copies."""
    asyncio.run(_move(settings, by))


async def _move(settings: Settings, by: int) -> None:
    async with running(Admin(**client_options(settings)), settings) as admin:
        topics = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
        orders = {
            name: {p["partition"]: _turned(p["replicas"], by) for p in partitions}
            for name, partitions in topics.items()
        }
        wanted = [
            (name, [(number, order, {}) for number, order in parts.items()], {}) for name, parts in orders.items()
        ]
        await admin._send_request(AlterPartitionReassignmentsRequest(TIMEOUT_MS, wanted, {}))
        await admin._send_request(ElectLeadersRequest({name: list(parts) for name, parts in orders.items()}))


def _turned(replicas: Sequence[int], by: int) -> list[int]:
    return [*replicas[by % len(replicas) :], *replicas[: by % len(replicas)]]


def deny_write(settings: Settings, topic: str, host: str) -> None:
    """Take from whoever comes from `host` the right to write to a topic."""
    # Where there is any rule for a topic, what is not allowed is denied: so everything is, to everybody, first.
    asyncio.run(_rule(settings, CreateAclsRequest, [_allowed(topic), _denied(topic, host)]))


def allow_write(settings: Settings, topic: str, host: str) -> None:
    """Give it back."""
    asyncio.run(_rule(settings, DeleteAclsRequest, [_denied(topic, host), _allowed(topic)]))


def _allowed(topic: str) -> tuple[object, ...]:
    return TOPIC, topic, LITERAL, EVERYBODY, "*", EVERYTHING, ALLOW


def _denied(topic: str, host: str) -> tuple[object, ...]:
    return TOPIC, topic, LITERAL, EVERYBODY, host, int(Operation.WRITE), DENY


async def _rule(settings: Settings, request: Any, rules: Sequence[tuple[object, ...]]) -> None:
    async with running(Admin(**client_options(settings)), settings) as admin:
        for rule in rules:
            await admin._send_request(request(*rule))
