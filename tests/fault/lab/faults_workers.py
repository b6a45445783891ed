"""Faults of the workers: their processes, and the scorer inside them."""

from typing import ClassVar

from ops.local.process import wait_until
from tests.fault.lab.fault import MET_S, SLOTS, Fault, Parameters, kind
from tests.fault.lab.lab_worker import write_control
from tests.fault.lab.world import SIGTERM_S, Slot, World


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
