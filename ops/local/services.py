"""Kafka and Redis together: started side by side, handed out by address, ended together.

with start_services(data_dir=folder, die_with_parent=True) as services:
    services.kafka_bootstrap, services.redis_url
    services.brokers[0].kill(); services.brokers[0].start(); services.brokers[0].wait_ready()
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from ops.errors import OpsError
from ops.local.jars import kafka_jars
from ops.local.kafka import KafkaBroker, Node, brokers_seen_by, new_cluster_id
from ops.local.process import POLL_INTERVAL_S, READY_TIMEOUT_S, LocalProcess, free_ports
from ops.local.redis import RedisServer

KAFKA_VARIABLE = "TAGSTREAM_KAFKA_BOOTSTRAP"
REDIS_VARIABLE = "TAGSTREAM_REDIS_URL"


@dataclass
class Services:
    """Addresses of a Kafka and a Redis, and handles on those of their processes that are ours."""

    kafka_bootstrap: str = ""  # empty: Kafka was not asked for
    redis_url: str = ""  # empty: Redis was not asked for
    brokers: list[KafkaBroker] = field(default_factory=list)  # empty: somebody else's Kafka
    redis: RedisServer | None = None  # None: somebody else's Redis

    @property
    def processes(self) -> list[LocalProcess]:
        """Every process of ours."""
        return [*self.brokers, *([self.redis] if self.redis else [])]

    def environment(self) -> dict[str, str]:
        """The settings that point a tagstream process at these services."""
        addresses = {KAFKA_VARIABLE: self.kafka_bootstrap, REDIS_VARIABLE: self.redis_url}
        return {name: value for name, value in addresses.items() if value}

    def start(self, on_started: Callable[[], None] = lambda: None) -> None:
        """Start those of our processes that do not run, without waiting; calls `on_started` after each."""
        waiting = [process for process in self.processes if not process.is_running()]
        if not waiting:
            return
        with ThreadPoolExecutor(len(waiting)) as threads:
            for start in [threads.submit(_start_and_tell, process, on_started) for process in waiting]:
                start.result()

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when Redis answers and every broker sees every other one."""
        deadline = time.monotonic() + timeout_s
        for process in self.processes:
            process.wait_ready(max(1.0, deadline - time.monotonic()))
        everyone = {broker.node.node_id for broker in self.brokers}
        for broker in self.brokers if len(everyone) > 1 else []:
            while not everyone <= brokers_seen_by(broker.port):
                if time.monotonic() >= deadline:
                    raise OpsError(f"the brokers did not find each other within {timeout_s:.0f} s: {broker.log_tail()}")
                time.sleep(POLL_INTERVAL_S)

    def stop(self, *, graceful: bool = False) -> None:
        """End every process of ours, at once or in good order. Their data stay where they are."""
        if not self.processes:
            return
        with ThreadPoolExecutor(len(self.processes)) as threads:
            ends = [threads.submit(process.terminate if graceful else process.kill) for process in self.processes]
        for end in ends:
            end.result()

    def __enter__(self) -> "Services":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _start_and_tell(process: LocalProcess, on_started: Callable[[], None]) -> None:
    process.start()
    on_started()


def plan_services(
    *, data_dir: Path, die_with_parent: bool, brokers: int = 1, kafka: bool = True, redis: bool = True
) -> Services:
    """Choose ports and folders; nothing runs yet."""
    if brokers < 1:
        raise OpsError("a Kafka has at least one broker.")
    count = brokers if kafka else 0
    ports = free_ports(2 * count + int(redis))
    nodes = [Node(i + 1, ports[2 * i], ports[2 * i + 1]) for i in range(count)]
    redis_port = ports[-1] if redis else None
    return make_services(data_dir, nodes, new_cluster_id(), redis_port, die_with_parent=die_with_parent)


def make_services(
    data_dir: Path,
    nodes: Sequence[Node],
    cluster_id: str,
    redis_port: int | None,
    *,
    die_with_parent: bool,
    broker_settings: Mapping[str, object] = {},
) -> Services:
    """Handles on services at known ports; nothing runs yet. `broker_settings` win over our own."""
    services = Services()
    for node in nodes:
        broker = KafkaBroker(
            folder=data_dir / f"kafka-{node.node_id}", node=node, nodes=nodes, cluster_id=cluster_id,
            die_with_parent=die_with_parent, overrides=broker_settings,
        )  # fmt: skip
        services.brokers.append(broker)
    services.kafka_bootstrap = ",".join(broker.bootstrap for broker in services.brokers)
    if redis_port is not None:
        services.redis = RedisServer(folder=data_dir / "redis", port=redis_port, die_with_parent=die_with_parent)
        services.redis_url = services.redis.url
    return services


def start_services(
    *, data_dir: Path, die_with_parent: bool, brokers: int = 1, kafka: bool = True, redis: bool = True
) -> Services:
    """Start a Kafka and a Redis of our own and return when both answer.

    With `die_with_parent` they end with this process, even when it is killed; else they outlive it. The data
    in `data_dir` are the caller's to delete.
    """
    if kafka:
        kafka_jars()  # the one long step, with its progress note, before anything runs
    services = plan_services(
        data_dir=Path(data_dir), die_with_parent=die_with_parent, brokers=brokers, kafka=kafka, redis=redis
    )
    try:
        services.start()
        services.wait_ready()
    except BaseException:
        services.stop()
        raise
    return services


def services_from_environment_or_start(
    *, data_dir: Path, die_with_parent: bool, brokers: int = 1, kafka: bool = True, redis: bool = True
) -> Services:
    """The services that the environment names; those that it does not name are started (`start_services`)."""
    kafka_bootstrap = os.environ.get(KAFKA_VARIABLE, "") if kafka else ""
    redis_url = os.environ.get(REDIS_VARIABLE, "") if redis else ""
    services = start_services(
        data_dir=data_dir, die_with_parent=die_with_parent, brokers=brokers,
        kafka=kafka and not kafka_bootstrap, redis=redis and not redis_url,
    )  # fmt: skip
    services.kafka_bootstrap = services.kafka_bootstrap or kafka_bootstrap
    services.redis_url = services.redis_url or redis_url
    return services
