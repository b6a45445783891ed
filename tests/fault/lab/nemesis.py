"""Makes the schedule happen: each fault in a thread of its own, so that a slow one does not hold up the others."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.fault.lab.faults import BY_NAME, Fault
from tests.fault.lab.schedule import Entry
from tests.fault.lab.world import World

LOOK_S = 0.1


class Violation(AssertionError):
    """A promise of the contract was seen broken while the stream ran."""


@dataclass
class Happened:
    """A fault as it really was. `healed_ms` is when it was over; of one that lasts no time, when it was done."""

    entry: Entry
    injected_ms: float = 0.0
    healed_ms: float = 0.0
    trouble: str = ""  # the laboratory's own, in doing or undoing it

    @property
    def name(self) -> str:
        """The kind's name."""
        return self.entry.fault


class Nemesis:
    """Runs one schedule on one world."""

    def __init__(self, world: World, schedule: Sequence[Entry], tell: Callable[[str], None]) -> None:
        self.happened = [Happened(entry) for entry in schedule]
        self._world, self._tell = world, tell
        touches = sorted({one for fault in BY_NAME.values() for one in fault.kind.touches})
        self._locks = {touched: threading.Lock() for touched in touches}  # a heal that takes long delays its next
        self._stop = threading.Event()

    def run(self, duration_s: float, violation: Callable[[], str]) -> None:
        """Return after `duration_s` with every fault healed; raises as soon as something is wrong, all healed too."""
        began_s = time.monotonic()
        threads = [threading.Thread(target=self._one, args=(one, began_s), daemon=True) for one in self.happened]
        for thread in threads:
            thread.start()
        try:
            while time.monotonic() < began_s + duration_s or any(thread.is_alive() for thread in threads):
                self._look(violation)
                time.sleep(LOOK_S)
            self._look(violation)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(120)

    def _look(self, violation: Callable[[], str]) -> None:
        if seen := violation():
            raise Violation(seen)
        if self._world.own_failure:
            raise self._world.own_failure
        for one in self.happened:
            if one.trouble:
                raise RuntimeError(f"the laboratory could not do its part: {one.trouble}")

    def _one(self, one: Happened, began_s: float) -> None:
        fault = BY_NAME[one.name]()
        if self._stop.wait(max(0.0, began_s + one.entry.at_s - time.monotonic())):
            return
        with ExitStack() as held:
            for touched in sorted(fault.kind.touches):
                held.enter_context(self._locks[touched])
            if not self._stop.is_set():
                self._do(fault, one, began_s)

    def _do(self, fault: Fault, one: Happened, began_s: float) -> None:
        how = one.entry.parameters
        try:
            one.injected_ms = time.time() * 1000
            self._tell(f"{time.monotonic() - began_s:6.1f} s  {one.name} {how or ''} for {one.entry.duration_s:g} s")
            fault.inject(self._world, how)
            self._stop.wait(one.entry.duration_s)
        except Exception as error:
            one.trouble = f"{one.name}: {error!r}"
        finally:
            with contextlib.ExitStack() as end:
                end.callback(self._healed, one)
                try:
                    fault.heal(self._world, how)
                except Exception as error:
                    one.trouble = one.trouble or f"{one.name}, healing: {error!r}"

    @staticmethod
    def _healed(one: Happened) -> None:
        one.healed_ms = time.time() * 1000
