"""Faults of what the workers stand on: brokers, Redis, and the network in between."""

from tests.fault.lab.cluster import move_leaders
from tests.fault.lab.fault import NODES, Fault, kind


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
