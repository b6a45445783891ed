"""What a fault is: how it is done to the world, and how it is undone.

A fault whose kind lasts no time is over once `inject` returns. `heal` must leave the world whole, whatever happened.
"""

from typing import Any, ClassVar

from tests.fault.lab.schedule import Kind
from tests.fault.lab.world import World

SLOTS = {"slot": tuple(range(12))}  # modulo the number of workers
NODES = {"node": tuple(range(3))}  # modulo the number of brokers
MET_S = 25.0  # the longest wait until a worker serves, or has met an injected failure

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
