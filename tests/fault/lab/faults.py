"""Every fault the laboratory knows: how it is done to the world, and how it is undone.

A fault whose kind lasts no time is over once `inject` returns. `heal` must leave the world whole, whatever happened.
"""

import shutil
import time
from functools import partial
from typing import Any, ClassVar

from ops.local.process import wait_until
from tests.fault.lab.cluster import allow_write, deny_write, move_leaders
from tests.fault.lab.lab_worker import write_control
from tests.fault.lab.poison import poison_events
from tests.fault.lab.schedule import Kind
from tests.fault.lab.world import SIGTERM_S, WORKERS_HOST, Slot, World

SLOTS = {"slot": tuple(range(12))}  # modulo the number of workers
NODES = {"node": tuple(range(3))}  # modulo the number of brokers
MET_S = 25.0  # the longest wait until a worker serves, or has met an injected failure
SMALL_BATCHES_BYTES = 20_000
TAG_CONFIG = {"cleanup.policy": "compact"}

Parameters = dict[str, Any]


class Fault:
    """One kind; stateless but for what `inject` leaves for `heal`."""

    kind: ClassVar[Kind]

    def inject(self, world: World, how: Parameters) -> None:
        """Do it."""

    def heal(self, world: World, how: Parameters) -> None:
        """Undo it."""


def kind(name: str, touches: str, shortest_s: float = 0, longest_s: float = 0, **more: Any) -> Kind:
    """A `Kind`, with what it touches in one string; what is neither `brokers` nor `heal_s` is a parameter."""
    apart = {field: more.pop(field) for field in ("brokers", "heal_s") if field in more}
    return Kind(name, frozenset(touches.split()), shortest_s, longest_s, parameters=more, **apart)


# Workers


def _serving(world: World, how: Parameters) -> Slot:
    """The slot that is meant, as soon as its worker has partitions: a fault of one that only starts says little."""
    slot = world.slot(how["slot"])
    wait_until(slot.worker.answers, MET_S)
    return slot


class WorkerKilled(Fault):
    kind = kind("worker kill -9", "workers", heal_s=8, **SLOTS)

    def inject(self, world, how):
        slot = _serving(world, how)
        slot.end(slot.worker.kill)


class WorkerTerminated(Fault):
    kind = kind("worker SIGTERM", "workers", **SLOTS)

    def inject(self, world, how):
        slot = _serving(world, how)
        slot.end(lambda: slot.worker.terminate(SIGTERM_S))


class Zombie(Fault):
    """Stopped beyond its session timeout: its partitions have another owner when it wakes up."""

    kind = kind("worker frozen beyond its session (zombie)", "workers", 9, 14, **SLOTS)

    def inject(self, world, how):
        _serving(world, how).worker.pause()

    def heal(self, world, how):
        world.slot(how["slot"]).worker.resume()


class ShortFreeze(Fault):
    kind = kind("worker frozen within its session", "workers", 2, 4, **SLOTS)
    inject, heal = Zombie.inject, Zombie.heal


class WorkerJoins(Fault):
    """One more than there should be, for a while."""

    kind = kind("worker joins, then leaves", "workers", 12, 18, heal_s=4)

    def inject(self, world, how):
        guest = next((slot for slot in world.slots[world.size.workers :]), None) or world.add_slot("guest")
        guest.wanted = True

    def heal(self, world, how):
        guest = world.slots[world.size.workers]
        guest.wanted = False
        guest.end(lambda: guest.worker.terminate(SIGTERM_S))


class WorkerLeaves(Fault):
    kind = kind("worker leaves, then comes back", "workers", 8, 14, heal_s=6, **SLOTS)

    def inject(self, world, how):
        slot = _serving(world, how)
        slot.wanted = False
        slot.end(lambda: slot.worker.terminate(SIGTERM_S))

    def heal(self, world, how):
        world.slot(how["slot"]).wanted = True


class AllWorkersKilled(Fault):
    kind = kind("all workers kill -9", "workers", heal_s=14)

    def inject(self, world, how):
        for slot in world.slots:
            slot.end(slot.worker.kill)


# Brokers


class BrokerKilled(Fault):
    kind = kind("broker kill -9", "kafka", 1, 4, heal_s=8, **NODES)

    def inject(self, world, how):
        self._of(world, how).kill()

    def heal(self, world, how):
        world.bring_back(self._of(world, how))

    @staticmethod
    def _of(world, how):
        return world.brokers[how["node"] % len(world.brokers)]


class BrokerStopped(BrokerKilled):
    kind = kind("broker clean stop", "kafka", 2, 5, heal_s=8, **NODES)

    def inject(self, world, how):
        self._of(world, how).terminate(20)


class BrokerFrozen(BrokerKilled):
    kind = kind("broker frozen", "kafka", 4, 8, heal_s=3, **NODES)

    def inject(self, world, how):
        self._of(world, how).pause()

    def heal(self, world, how):
        self._of(world, how).resume()
        super().heal(world, how)


class BrokerGone(BrokerKilled):
    kind = kind("one of three brokers gone", "kafka", 15, 25, brokers=3, heal_s=10, **NODES)


class TwoBrokersGone(Fault):
    """Nothing can be acknowledged: everything must wait, nothing may be lost."""

    kind = kind("two of three brokers gone", "kafka kafka-network topics", 8, 14, brokers=3, heal_s=12, **NODES)

    def inject(self, world, how):
        for broker in self._of(world, how):
            broker.kill()

    def heal(self, world, how):
        for broker in self._of(world, how):
            if not broker.is_running():
                broker.start()
        for broker in self._of(world, how):
            world.bring_back(broker)

    @staticmethod
    def _of(world, how):
        return [world.brokers[(how["node"] + n) % 3] for n in range(2)]


class LeadersMoved(Fault):
    kind = kind("leaders moved", "kafka", brokers=3, by=(1, 2))

    def inject(self, world, how):
        world.operate(lambda: move_leaders(world.stream.settings, how["by"]))


# Network


class KafkaCut(Fault):
    """Between the workers and one broker; the brokers see each other."""

    kind = kind("network to a broker cut", "kafka-network", 4, 12, **NODES)

    def inject(self, world, how):
        self._of(world, how).cut()

    def heal(self, world, how):
        self._of(world, how).heal()

    @staticmethod
    def _of(world, how):
        return world.broker_proxies[how["node"] % len(world.broker_proxies)]


class KafkaSilent(KafkaCut):
    kind = kind("network to a broker silent", "kafka-network", 4, 12, **NODES)

    def inject(self, world, how):
        self._of(world, how).freeze()


class KafkaSlow(KafkaCut):
    kind = kind("network to all brokers slow", "kafka-network", 8, 14, delay_s=(0.05, 0.1, 0.3))

    def inject(self, world, how):
        for proxy in world.broker_proxies:
            proxy.slow(how["delay_s"])

    def heal(self, world, how):
        for proxy in world.broker_proxies:
            proxy.heal()


class AllKafkaCut(KafkaSlow):
    kind = kind("network to all brokers cut", "kafka-network", 3, 10)

    def inject(self, world, how):
        for proxy in world.broker_proxies:
            proxy.cut()


class RedisCut(Fault):
    kind = kind("network to Redis cut", "redis-network", 4, 12)

    def inject(self, world, how):
        world.redis_proxy.cut()

    def heal(self, world, how):
        world.redis_proxy.heal()


class RedisSilent(RedisCut):
    kind = kind("network to Redis silent", "redis-network", 4, 12)

    def inject(self, world, how):
        world.redis_proxy.freeze()


class RedisSlow(RedisCut):
    kind = kind("network to Redis slow", "redis-network", 8, 14, delay_s=(0.05, 0.3, 1.0))

    def inject(self, world, how):
        world.redis_proxy.slow(how["delay_s"])


# Redis itself


class RedisKilled(Fault):
    kind = kind("Redis kill -9", "redis", 1, 6)

    def inject(self, world, how):
        world.redis.kill()

    def heal(self, world, how):
        world.redis.start()
        world.redis.wait_ready()


class RedisFrozen(Fault):
    kind = kind("Redis frozen", "redis", 4, 10)

    def inject(self, world, how):
        world.redis.pause()

    def heal(self, world, how):
        world.redis.resume()


class RedisEmptied(Fault):
    kind = kind("Redis emptied", "redis")

    def inject(self, world, how):
        world.remember_tables()
        world.stream.redis.flushall()


class RedisOlder(RedisKilled):
    kind = kind("Redis replaced by an older snapshot", "redis", 1, 3)

    def inject(self, world, how):
        world.remember_tables()
        world.redis.terminate()
        world.restore_snapshot()


# Models and thresholds, by a raw Redis client as anybody might


class ModelSwitched(Fault):
    kind = kind("model switched", "redis serving")

    def inject(self, world, how):
        stream = world.stream
        now = stream.redis.get(stream.keys.model)
        first, second = stream.artefacts.first, stream.artefacts.second
        stream.redis.set(stream.keys.model, first if now == second else second)


class ModelCorrupted(Fault):
    """One byte of its weights is another when it is named: the model in use must stay."""

    kind = kind("model corrupted during a switch", "redis serving", 4, 8)

    def inject(self, world, how):
        stream = world.stream
        self.before = stream.redis.get(stream.keys.model)
        weights = stream.install(stream.artefacts.broken) / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-3] ^= 0x55
        weights.write_bytes(content)
        stream.redis.set(stream.keys.model, stream.artefacts.broken)

    def heal(self, world, how):
        stream = world.stream
        stream.redis.set(stream.keys.model, self.before or stream.artefacts.first)
        shutil.rmtree(stream.models_dir / stream.artefacts.broken)


class ThresholdsEdited(Fault):
    kind = kind("thresholds edited", "redis serving", value=("0.3", "off", "0.05", "0.7"), tags=(1, 40, 200))

    def inject(self, world, how):
        _edit(world, dict.fromkeys(world.stream.layout.tags[: how["tags"]], how["value"]))


class ThresholdsInvalid(Fault):
    """One bad field beside a good one: refused whole until it is mended."""

    kind = kind("thresholds invalid", "redis serving", 4, 8, value=("1.5", "nan", "none", "", "-0.1"))

    def inject(self, world, how):
        tags = world.stream.layout.tags
        _edit(world, {tags[3]: how["value"], tags[4]: "0.777"})

    def heal(self, world, how):
        _edit(world, {world.stream.layout.tags[3]: "0.5"})


def _edit(world: World, fields: dict[str, str]) -> None:
    stream = world.stream
    model = stream.redis.get(stream.keys.model) or stream.artefacts.first
    stream.redis.hset(stream.keys.live(model), mapping=fields)


# Scorer


class ScorerRaises(Fault):
    """Lasts until the worker has met it so many times; it ends the worker each time."""

    kind = kind("scorer raises", "scorer", times=(1, 1, 2), heal_s=8, **SLOTS)
    order: ClassVar[str] = "raise"

    def inject(self, world, how):
        control = world.slot(how["slot"]).worker.control
        write_control(control, {self.order: True, "times": how["times"]})
        wait_until(lambda: not control.exists(), MET_S)

    def heal(self, world, how):
        write_control(world.slot(how["slot"]).worker.control, None)


class ScorerOutOfMemory(ScorerRaises):
    kind = kind("CUDA out of memory", "scorer", times=(1, 2, 12), heal_s=8, **SLOTS)
    order = "oom"


class ScorerSlow(Fault):
    kind = kind("scorer slow", "scorer", 8, 14, slow_s=(0.2, 1.0, 4.0), **SLOTS)

    def inject(self, world, how):
        write_control(world.slot(how["slot"]).worker.control, {"slow_s": how["slow_s"]})

    def heal(self, world, how):
        write_control(world.slot(how["slot"]).worker.control, None)


# Events and topics


class Poison(Fault):
    kind = kind("poison events", "input", count=(20, 100, 300), seed=tuple(range(100)))

    def inject(self, world, how):
        name = f"p{time.monotonic_ns()}"
        world.stream.send(partial(poison_events, world.stream.bodies, name, how["count"], how["seed"]))


class OutputRefused(Fault):
    """Kafka refuses batches of more than a few decisions as too large, for a while."""

    kind = kind("output topic refuses large batches", "topics", 6, 12)

    def inject(self, world, how):
        self._set(world, {"max.message.bytes": str(SMALL_BATCHES_BYTES)})

    def heal(self, world, how):
        self._set(world, {})

    @staticmethod
    def _set(world, more):
        durable = {"min.insync.replicas": "2"} if world.size.brokers >= 3 else {}
        world.set_topic_config(world.stream.settings.topic_tags, TAG_CONFIG | durable | more)


class WriteRightRevoked(Fault):
    """Workers end by name, with nothing committed that was not written, and are back when they have it again."""

    kind = kind("right to write decisions revoked", "topics", 6, 10, heal_s=8)

    def inject(self, world, how):
        settings = world.stream.settings
        world.operate(lambda: deny_write(settings, settings.topic_tags, WORKERS_HOST))

    def heal(self, world, how):
        settings = world.stream.settings
        world.operate(lambda: allow_write(settings, settings.topic_tags, WORKERS_HOST))


ALL: tuple[type[Fault], ...] = (
    WorkerKilled, WorkerTerminated, Zombie, ShortFreeze, WorkerJoins, WorkerLeaves, AllWorkersKilled,
    BrokerKilled, BrokerStopped, BrokerFrozen, BrokerGone, TwoBrokersGone, LeadersMoved,
    KafkaCut, KafkaSilent, KafkaSlow, AllKafkaCut, RedisCut, RedisSilent, RedisSlow,
    RedisKilled, RedisFrozen, RedisEmptied, RedisOlder,
    ModelSwitched, ModelCorrupted, ThresholdsEdited, ThresholdsInvalid,
    ScorerRaises, ScorerOutOfMemory, ScorerSlow, Poison, OutputRefused, WriteRightRevoked,
)  # fmt: skip
BY_NAME = {fault.kind.name: fault for fault in ALL}
