"""Faults of what flows: models, thresholds, events, and topics that refuse."""

import itertools
import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from redis.exceptions import RedisError

from model.errors import ModelError
from ops.errors import OpsError
from ops.redecide import Redecisions
from streamer.core.errors import TagstreamError
from tests.fault.lab.cluster import allow_write, deny_write
from tests.fault.lab.fault import Fault, kind
from tests.fault.lab.poison import poison_events
from tests.fault.lab.world import WORKERS_HOST, World

SMALL_BATCHES_BYTES = 20_000
TAG_CONFIG = {"cleanup.policy": "compact"}
MOVED_TAGS = 20  # of 200
ASK_S = 0.2
HEAL_S = 60.0


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


class Redecided(Fault):
    """Thresholds changed and the past re-decided, again and again; every third run is called off in the middle."""

    kind = kind("thresholds changed and re-decided", "serving", 6, 12, heal_s=2, seed=tuple(range(100)))

    def inject(self, world, how):
        self.stop = threading.Event()
        self.pool = ThreadPoolExecutor(1)
        self.asking = self.pool.submit(self._again_and_again, world, random.Random(how["seed"]))

    def heal(self, world, how):
        """What was asked for last goes on: the workers need nobody for that."""
        self.stop.set()
        self.asking.result(HEAL_S)
        self.pool.shutdown()

    def _again_and_again(self, world: World, rng: random.Random) -> None:
        runs, tags = Redecisions(world.stream.settings), world.stream.layout.tags
        for number in itertools.count():
            if self.stop.is_set():
                return
            with suppress(OpsError, ModelError, TagstreamError, RedisError):  # what it needs may be away just now
                _edit(world, {tag: rng.choice(("0.2", "0.4", "0.6", "off")) for tag in rng.sample(tags, MOVED_TAGS)})
                run = runs.begin(runs.look_up(), "chaos", dry_run=False)
                if number % 3 == 2:
                    self.stop.wait(rng.uniform(0, 1))
                    runs.cancel()
                while not self.stop.wait(ASK_S) and (now := runs.newest(run.entry)) is not None and not now.is_over:
                    pass
            self.stop.wait(ASK_S)


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
