"""What the faults happen to: brokers and Redis behind proxies, workers that are kept up, and a steady load.

Workers see Kafka and Redis through the proxies only; load, checker and nemesis go straight to them, so that a fault
of the network is a fault of the workers' network.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from model.registry import Registry
from ops.local.jars import kafka_jars
from ops.local.kafka import KafkaBroker, Listener, Node, new_cluster_id
from ops.local.process import free_ports
from ops.local.redis import RedisServer
from ops.local.services import Services, make_services
from ops.local.worker import WorkerProcess
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.core.errors import TagstreamError
from tests.fault.lab.lab_worker import CONTROL_VARIABLE
from tests.harness import TUNED, Artefacts, Stream, eventually

WITHDRAW_EVERY = 41  # events
RESTART_AFTER_S = 1.0  # of a worker that has ended, as an orchestrator would
WATCH_S = 0.1
TABLES_S = 0.5
OPERATE_S = 0.5
SIGTERM_S = 30.0
IN_SYNC_S = 90.0
READY_S = 90.0  # on a machine that others use too
WORKERS_HOST = "127.0.0.2"  # where brokers see the workers come from, and nobody else: by it they are told apart
# Everybody may do everything until a fault says otherwise. Controllers log in: they vote before there are any rules.
BROKER_SETTINGS = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    "super.users": "User:controller",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
    "listener.name.controller.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="controller" password="lab" user_controller="lab";'
    ),
}


@dataclass(frozen=True)
class Size:
    """How much of a world."""

    brokers: int = 3
    workers: int = 3
    rate: float = 300.0  # events a second
    tracks: int = 1_000
    bulk_rate: float = 150.0  # further events a second, in bulk messages
    bulk_tracks: int = 300  # of the same tracks; so few that a message has each more than once


@dataclass
class Exit:
    """One end of a worker's process."""

    worker: str
    at_ms: float
    code: int | None
    asked: bool  # by a fault: SIGTERM or SIGKILL
    said: str


class LabWorker(WorkerProcess):
    """A worker that obeys a control file; see lab_worker."""

    @property
    def control(self) -> Path:
        """Where its orders are."""
        return self.folder / "control.json"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.fault.lab.lab_worker", *self._arguments]

    def environment(self) -> dict[str, str]:
        root = str(Path(__file__).parents[3])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        return {**super().environment(), CONTROL_VARIABLE: str(self.control), "PYTHONPATH": path}


@dataclass
class Slot:
    """A place for one worker, kept filled while it is `wanted`."""

    worker: LabWorker
    wanted: bool = True
    lock: threading.RLock = field(default_factory=threading.RLock)  # held by whoever ends or starts its process
    asked: bool = False
    down_since: float | None = None

    def end(self, how: Callable[[], None]) -> None:
        """End its process on purpose; the supervisor starts it again where it is wanted."""
        with self.lock:
            self.asked = True
            how()


class World:
    """Everything of one run; `start` it, let faults happen, `heal` what is left, `verify`, `close`."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder, self.size = folder, size
        self.exits: list[Exit] = []
        self.slots: list[Slot] = []
        self.own_failure: BaseException | None = None  # of the laboratory, not of what it tests
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._side_task, args=(work, every_s), daemon=True)
                         for work, every_s in ((self._supervise, WATCH_S), (self._remember, TABLES_S))]  # fmt: skip
        kafka_jars()
        from tests.fault.lab.proxy import Proxy

        ports = free_ports(4 * size.brokers + 2)
        each = [ports[4 * i : 4 * i + 4] for i in range(size.brokers)]
        nodes = [Node(i + 1, a, b, (Listener("PROXIED", c, d),)) for i, (a, b, c, d) in enumerate(each)]
        self.services: Services = make_services(
            folder / "services", nodes, new_cluster_id(), ports[-2], die_with_parent=True,
            broker_settings=BROKER_SETTINGS,
        )  # fmt: skip
        self.broker_proxies = [Proxy(d, c, WORKERS_HOST) for _, _, c, d in each]
        self.redis_proxy = Proxy(ports[-1], ports[-2])
        self.stream: Stream

    # Beginning and end

    def start(self) -> None:
        """Everything up, the load running."""
        self.services.start()
        self.services.wait_ready()
        artefacts = Artefacts.make(self.folder / "artefacts")
        replication = min(3, self.size.brokers)
        self.stream = Stream(
            self.services.kafka_bootstrap, self.services.redis_url, self.folder, artefacts, replication=replication
        )
        self.stream.worker_settings |= {
            "kafka_bootstrap": ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.broker_proxies),
            "redis_url": f"redis://127.0.0.1:{self.redis_proxy.port}/0",
        }
        self.stream.install(artefacts.second)
        self.stream.known_tables |= self.tuned_tables()
        for number in range(self.size.workers):
            self.add_slot(f"w{number}")
        for thread in self._threads:
            thread.start()
        eventually(self.all_ready, READY_S, "the workers are ready", self.workers_say)
        self.take_snapshot()
        self.stream.load(rate=self.size.rate, tracks=self.size.tracks, withdraw_every=WITHDRAW_EVERY)
        if self.size.bulk_rate:
            self.stream.load_in_bulk(rate=self.size.bulk_rate, tracks=self.size.bulk_tracks)

    def add_slot(self, name: str) -> Slot:
        """A further worker; the supervisor starts it."""
        worker = LabWorker(name, self.stream.worker_settings, folder=self.folder / f"worker-{name}")
        self.stream.workers[name] = worker
        slot = Slot(worker)
        self.slots.append(slot)
        return slot

    def all_ready(self) -> bool:
        """Whether every worker that is wanted is ready."""
        if self.own_failure:
            raise self.own_failure
        return all(slot.worker.answers() for slot in self.slots if slot.wanted)

    def workers_say(self) -> dict[str, object]:
        """Health of each, for a failure's text."""
        return {slot.worker.name: slot.worker.health() or slot.worker.log_tail() for slot in self.slots}

    def close(self) -> None:
        """End all of it; the folder stays."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(10)
        if hasattr(self, "stream"):
            with contextlib.redirect_stdout(None):
                self.stream.close()
        for proxy in (*self.broker_proxies, self.redis_proxy):
            proxy.close()
        self.services.stop()

    # Side tasks

    def _side_task(self, work: Callable[[], None], every_s: float) -> None:
        try:
            while not self._stop.wait(every_s):
                work()
        except Exception as error:
            self.own_failure = error

    def _supervise(self) -> None:
        """Start what is wanted and does not run; note every end."""
        for slot in list(self.slots):
            if not slot.lock.acquire(blocking=False):
                continue  # somebody is ending it just now
            try:
                self._keep_up(slot)
            finally:
                slot.lock.release()

    def _keep_up(self, slot: Slot) -> None:
        worker = slot.worker
        if worker.is_running():
            return
        if worker.pid is not None and slot.down_since is None:
            worker.wait_exit(5)
            self.exits.append(Exit(worker.name, time.time() * 1000, worker.exit_code, slot.asked, last_error(worker)))
            slot.down_since, slot.asked = time.monotonic(), False
        waited = slot.down_since is None or time.monotonic() - slot.down_since >= RESTART_AFTER_S
        if slot.wanted and waited:
            slot.down_since = None
            worker.start()

    def _remember(self) -> None:
        """Keep every table as soon as it is in Redis, which a later fault may empty."""
        with contextlib.suppress(redis.RedisError):
            self.remember_tables()

    def remember_tables(self) -> None:
        """Read the tables that are not known yet; raises redis.RedisError while Redis is away."""
        stream = self.stream
        with redis.Redis.from_url(self.services.redis_url, decode_responses=True, socket_timeout=2) as client:
            for version in Registry(stream.models_dir).versions():
                name = stream.keys.tables(version)
                for missing in set(client.hkeys(name)) - stream.known_tables.keys():
                    if text := client.hget(name, missing):
                        stream.known_tables[missing] = json.loads(text)

    # Handles for the faults

    @property
    def redis(self) -> RedisServer:
        """The server behind the proxy."""
        assert self.services.redis is not None
        return self.services.redis

    @property
    def brokers(self) -> list[KafkaBroker]:
        """All of them."""
        return self.services.brokers

    def slot(self, number: object) -> Slot:
        """One of the first, permanent slots."""
        assert isinstance(number, int)
        return self.slots[number % self.size.workers]

    def take_snapshot(self) -> None:
        """Copy Redis's data as they are now (an append-only file is whole at any moment): an old backup, later."""
        shutil.copytree(self.redis.folder, self.folder / "redis-snapshot")

    def restore_snapshot(self) -> None:
        """Put the copy in the place of the data; only while Redis is stopped."""
        self.redis.clear_data()
        shutil.copytree(
            self.folder / "redis-snapshot", self.redis.folder, dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(self.redis.log_path.name),
        )  # fmt: skip

    def bring_back(self, broker: KafkaBroker) -> None:
        """Start a broker that is down, and wait until it takes part again and no copy is behind."""
        if not broker.is_running():
            broker.start()
        broker.wait_ready()
        eventually(self.in_sync, IN_SYNC_S, "all replicas are in sync")

    def in_sync(self) -> bool:
        """Whether no partition of ours lacks a copy."""
        try:
            return asyncio.run(self._in_sync())
        except TagstreamError:
            return False

    async def _in_sync(self) -> bool:
        async with running(Admin(**client_options(self.stream.settings)), self.stream.settings) as admin:
            topics = await admin.describe_topics()
        partitions = [partition for topic in topics for partition in topic["partitions"]]
        return all(p["leader"] >= 0 and len(p["isr"]) == len(p["replicas"]) for p in partitions)

    def operate(self, work: Callable[[], None]) -> None:
        """Do an operator's work on Kafka, as soon as it is there: another fault may have taken it away just now."""
        until_s = time.monotonic() + IN_SYNC_S
        while True:
            try:
                return work()
            except (TagstreamError, KafkaError):
                if time.monotonic() > until_s:
                    raise
                time.sleep(OPERATE_S)

    def set_topic_config(self, topic: str, config: dict[str, str]) -> None:
        """Replace all of a topic's own settings."""

        async def alter() -> None:
            settings = self.stream.settings
            async with running(Admin(**client_options(settings)), settings) as admin:
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)])

        self.operate(lambda: asyncio.run(alter()))

    def tuned_tables(self) -> dict[str, dict[str, str]]:
        """The tables that the artefacts carry: a worker that has never seen Redis decides under them."""
        import hashlib

        table = {tag: f"{TUNED:.6f}" for tag in self.stream.layout.tags}
        canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return {hashlib.sha256(canonical.encode()).hexdigest()[:12]: table}


def last_error(worker: WorkerProcess) -> str:
    """Why it ended, in its own words: its last error, else whatever it wrote last."""
    told, last = "", ""
    for line in worker.log().splitlines()[-200:]:
        try:
            entry = json.loads(line)
        except ValueError:
            last = line or last
            continue
        last = entry.get("message", "")
        if entry.get("level") == "error" and entry.get("logger", "").startswith("streamer."):
            trace = entry.get("traceback", "").strip().splitlines()[-1:]
            told = ": ".join([last, *trace])
    return (told or last)[:400]
