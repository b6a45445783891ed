"""Kafka: the brokers, what they let us do, and whether the four topics keep what the contract promises."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from aiokafka.protocol.admin import ApiVersionRequest

from ops.doctor.finding import Broken, Finding, fail, failing, ok, skip, warn
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_rights import require, worker_rights
from streamer.adapters.kafka_topic_contract import Topic, find_problems, plan_topics
from streamer.adapters.kafka_topics import read_topics
from streamer.adapters.kafka_words import KafkaRefuses
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

CONNECT_S = 5.0
HOUR_MS, DAY_MS = 3_600_000, 24 * 3_600_000
REPLAY_LOOKS_BACK_MS = 7 * DAY_MS  # of `deadletter replay`, unless it is told
FETCH = 1
# The newest version of Fetch that a broker speaks tells its age; it does not say its own version.
SINCE = {11: "2.3", 12: "2.7", 13: "3.1", 15: "3.5", 16: "3.7", 17: "3.9", 18: "4.1"}
MEND_ADDRESS = "check TAGSTREAM_KAFKA_BOOTSTRAP and the broker (`tagstream local up` starts one to try with)"
MEND_RIGHTS = "docs/security.md has the commands that give exactly what is needed"


async def check_kafka(settings: Settings) -> AsyncIterator[Finding]:
    """All of it, as it is found; ends where no broker answers or lets us in."""
    try:
        with failing("kafka", MEND_ADDRESS, TagstreamError):
            async with running(Admin(**client_options(settings)), settings) as admin:
                cluster = await admin.describe_cluster()
                yield ok("kafka", f"{len(cluster['brokers'])} broker(s) at {settings.kafka_bootstrap}")
                yield await _version(admin)
                async for finding in _advertised(cluster["brokers"]):
                    yield finding
                await _check_rights(admin, settings)
                yield ok("kafka rights", "all that a worker needs")
                described = await admin.describe_topics()
            topics = await read_topics(settings, ())
    except Broken as broken:
        yield broken.finding
        return
    for finding in (*topic_findings(settings, topics, len(cluster["brokers"])), *copies_findings(topics, described)):
        yield finding


async def _version(admin: Admin) -> Finding:
    answer: Any = await admin._send_request(ApiVersionRequest())
    newest = {key: highest for key, _lowest, highest in answer.api_versions}.get(FETCH, 0)
    known = [since for version, since in SINCE.items() if version <= newest]
    if not known:
        return warn("kafka version", "older than Kafka 2.3", "upgrade it: such brokers do not tell a client its rights")
    return ok("kafka version", f"speaks as Kafka {known[-1]} or newer does")


async def _advertised(brokers: list[Mapping[str, Any]]) -> AsyncIterator[Finding]:
    """A cluster often answers at its bootstrap address and advertises others that only it can reach."""
    for broker in brokers:
        where = f"{broker['host']}:{broker['port']}"
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(broker["host"], broker["port"])
            writer.close()
        except (OSError, TimeoutError) as error:
            what = f"broker {broker['node_id']} advertises {where}, not to be reached from here ({error or 'silence'})"
            yield fail("kafka brokers", what, "set the broker's advertised.listeners to an address that clients reach")


async def _check_rights(admin: Admin, settings: Settings) -> None:
    """Without rights topics cannot be told from such as do not exist, so nothing more is asked."""
    with failing("kafka rights", MEND_RIGHTS, KafkaRefuses):
        await require(admin, settings, worker_rights(settings))


def topic_findings(settings: Settings, topics: Mapping[str, Topic], brokers: int) -> Iterator[Finding]:
    """Against the contract, and against what an operator would regret."""
    problems = find_problems(settings, topics)
    for problem in problems:
        yield (fail if problem.fatal else warn)("topics", problem.what, problem.remedy)
    for topic in topics.values():
        if topic.replication < 2 <= brokers:
            what = f"the topic {topic.name} has one copy on {brokers} brokers: what that one loses is lost"
            yield warn("topics", what, f"kafka-reassign-partitions gives {topic.name} more copies")
    yield from _retention(settings, topics)
    if not problems and topics:
        source = topics[settings.topic_probabilities]
        yield ok(
            "topics",
            f"{len(topics)}, {source.partitions} partitions, {source.replication} copies, as the contract has them",
        )


def _retention(settings: Settings, topics: Mapping[str, Topic]) -> Iterator[Finding]:
    """What is deleted before it was read, or before somebody could replay it, is lost."""
    least = {
        settings.topic_probabilities: (DAY_MS, "events that workers could not read within a day would be lost"),
        settings.topic_deadletter: (REPLAY_LOOKS_BACK_MS, "`deadletter replay` looks back a week"),
    }
    wanted = {plan.name: plan.config.get("retention.ms", "") for plan in plan_topics(settings, 1)}
    for name, (least_ms, why) in least.items():
        config = (topics[name].config or {}) if name in topics else {}
        kept_ms = int(config.get("retention.ms", -1))
        alter = f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config"
        if 0 <= kept_ms < least_ms:
            yield warn(
                "topics", f"{name} keeps {kept_ms / HOUR_MS:.1f} h: {why}", f"{alter} retention.ms={wanted[name]}"
            )
        if int(config.get("retention.bytes", -1)) >= 0:
            what = f"{name} is cut at {int(config['retention.bytes']):,} bytes a partition, however old that is"
            yield warn("topics", what, f"{alter} retention.bytes=-1, or make sure that it lasts through an outage")


def copies_findings(topics: Mapping[str, Topic], described: list[Mapping[str, Any]]) -> Iterator[Finding]:
    """Partitions without a leader stop; with too few copies in sync nothing is acknowledged."""
    found = {topic["topic"]: topic["partitions"] for topic in described}
    for name, topic in topics.items():
        needed = int((topic.config or {}).get("min.insync.replicas", "1"))
        leaderless = [one["partition"] for one in found[name] if one["leader"] < 0]
        refusing = [one["partition"] for one in found[name] if len(one["isr"]) < needed]
        behind = [one["partition"] for one in found[name] if len(one["isr"]) < len(one["replicas"])]
        bring = "bring the missing brokers back (their logs say why they are away)"
        if leaderless:
            yield fail("kafka copies", f"{name} has no leader for partitions {_few(leaderless)}", bring)
        elif refusing:
            what = f"{name}: fewer than {needed} copies in sync of partitions {_few(refusing)}: nothing is acknowledged"
            yield fail("kafka copies", what, bring)
        elif behind:
            yield warn("kafka copies", f"{name}: copies of partitions {_few(behind)} are behind", bring)
    if not topics:
        yield skip("kafka copies", "there are no topics yet")


def _few(numbers: list[int]) -> str:
    return ", ".join(map(str, sorted(numbers)[:8])) + (", ..." if len(numbers) > 8 else "")
