"""The local Kafka and Redis are real ones: they keep data through kill -9 and end with their parent."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ops.local.jars import kafka_jars
from ops.local.process import free_ports, wait_until
from ops.local.redis import RedisServer
from ops.local.services import Services
from tests.fixtures_services import OwnServices

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


async def create_topic(bootstrap: str, name: str, *, copies: int = 1, **config: str) -> None:
    """A topic of one partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topic = NewTopic(name, num_partitions=1, replication_factor=copies, topic_configs=config)
        response = await admin.create_topics([topic])
        assert response.topic_errors[0][1] == 0, response
    finally:
        await admin.close()


async def min_in_sync(bootstrap: str, topic: str) -> str:
    """What the brokers apply to the topic, set there or not."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (response,) = await admin.describe_configs([resource])
        return {entry[0]: entry[1] for entry in response.resources[0][4]}["min.insync.replicas"]
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_request_size=16 << 20
    ) as producer:
        await producer.send_and_wait(topic, value)


async def consume_all(bootstrap: str, topic: str) -> list[bytes]:
    """Every value of partition 0."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_bytes=16 << 20) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        values: list[bytes] = []
        while len(values) < end:
            values.append((await consumer.getone()).value)
        return values


async def test_a_message_of_nearly_10_mib_goes_through(kafka_bootstrap: str) -> None:
    await create_topic(kafka_bootstrap, "local-large", **{"max.message.bytes": str(10 << 20)})
    value = os.urandom((10 << 20) - 1024)
    await produce(kafka_bootstrap, "local-large", value)
    assert await consume_all(kafka_bootstrap, "local-large") == [value]


async def test_an_unknown_topic_is_not_created_by_asking(kafka_bootstrap: str) -> None:
    async with AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap) as consumer:
        assert "local-nobody-made-this" not in await consumer.topics()
        consumer.assign([TopicPartition("local-nobody-made-this", 0)])
        assert "local-nobody-made-this" not in await consumer.topics()


def test_redis_answers(redis_url: str) -> None:
    assert redis.Redis.from_url(redis_url).ping()


async def test_kill_9_and_restart_keep_port_and_data(own_services: OwnServices) -> None:
    services = own_services()
    assert services.redis is not None
    broker = services.brokers[0]
    await create_topic(broker.bootstrap, "kept")
    await produce(broker.bootstrap, "kept", b"before")
    redis.Redis.from_url(services.redis_url).set("kept", "before")

    old_pids = [broker.pid, services.redis.pid]
    broker.kill()
    services.redis.kill()
    assert not any(psutil.pid_exists(pid) for pid in old_pids if pid)

    services.start()
    services.wait_ready()
    assert broker.pid not in old_pids
    assert await consume_all(services.kafka_bootstrap, "kept") == [b"before"]
    assert redis.Redis.from_url(services.redis_url).get("kept") == b"before"


def test_redis_can_lose_its_data(own_services: OwnServices) -> None:
    services = own_services(kafka=False)
    assert services.redis is not None and services.kafka_bootstrap == ""
    redis.Redis.from_url(services.redis_url).set("lost", "soon")
    services.redis.terminate()
    services.redis.clear_data()
    services.redis.start()
    services.redis.wait_ready()
    assert redis.Redis.from_url(services.redis_url).get("lost") is None


async def test_three_brokers_replicate_and_survive_one(own_services: OwnServices) -> None:
    services = own_services(brokers=3, redis=False)
    await create_topic(services.kafka_bootstrap, "replicated", copies=3)
    await produce(services.kafka_bootstrap, "replicated", b"one")
    services.brokers[0].kill()
    await produce(services.kafka_bootstrap, "replicated", b"two")
    assert await consume_all(services.kafka_bootstrap, "replicated") == [b"one", b"two"]
    assert await min_in_sync(services.kafka_bootstrap, "replicated") == "2"


PARENT = """
import subprocess, sys, time
from pathlib import Path
from ops.local.services import start_services
services = start_services(data_dir=Path(sys.argv[1]), die_with_parent=True)
# A child that outlives its parent and would hold inherited pipes open.
bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(*(process.pid for process in services.processes), bystander.pid, flush=True)
time.sleep(600)
"""


def test_a_parent_killed_with_9_takes_both_along(services: Services, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    *pids, bystander = (int(pid) for pid in parent.stdout.readline().split())
    try:
        assert len(pids) == 2 and all(psutil.pid_exists(pid) for pid in pids)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), timeout_s=10)
    finally:
        parent.stdout.close()
        os.kill(bystander, signal.SIGKILL)


@pytest.fixture
def tagstream_local(tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs `tagstream local ... --json` of a user of its own: their jars are ours, their state is not."""
    (tmp_path / kafka_jars().name).symlink_to(kafka_jars())
    environment = {**os.environ, "TAGSTREAM_CACHE_DIR": str(tmp_path)}
    environment.pop("TAGSTREAM_KAFKA_BOOTSTRAP", None)
    environment.pop("TAGSTREAM_REDIS_URL", None)

    def run(*arguments: str) -> dict[str, Any]:
        # Waits for the end of its pipes too: a detached server that held one would make this time out.
        done = subprocess.run(
            [str(Path(sys.executable).with_name("tagstream")), "local", *arguments, "--json"],
            env=environment, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    yield run
    run("down")


async def test_local_up_stays_and_down_takes_all_away(
    tagstream_local: Callable[..., dict[str, Any]], services: Services, tmp_path: Path
) -> None:
    assert tagstream_local("status") == {"up": False, "processes": []}
    addresses = tagstream_local("up")
    assert set(addresses) == {"kafka", "redis"}
    redis.Redis.from_url(addresses["redis"]).set("kept", "yes")
    await create_topic(addresses["kafka"], "kept")

    assert tagstream_local("up") == addresses, "a second up returns the same"
    status = tagstream_local("status")
    assert status["up"] and {row["name"] for row in status["processes"]} == {"kafka-1", "redis"}

    redis_pid = next(row["pid"] for row in status["processes"] if row["name"] == "redis")
    os.kill(redis_pid, signal.SIGKILL)
    assert wait_until(lambda: not redis_answers(addresses["redis"]), timeout_s=10)
    assert tagstream_local("up") == addresses, "what has ended is started again with its data"
    assert redis.Redis.from_url(addresses["redis"]).get("kept") == b"yes"

    assert tagstream_local("down") == {"ended": ["Kafka", "Redis"]}
    assert not redis_answers(addresses["redis"])
    assert not (tmp_path / "local" / "data").exists()
    assert tagstream_local("down") == {"ended": []}


def test_down_finds_what_was_never_written_down(tagstream_local: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    orphan = RedisServer(folder=tmp_path / "local" / "data" / "redis", port=free_ports(1)[0], die_with_parent=False)
    orphan.start()
    try:
        assert tagstream_local("down") == {"ended": ["redis-server"]}
        assert not orphan.is_running()
    finally:
        orphan.kill()


def redis_answers(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url).ping())
    except redis.ConnectionError:
        return False
