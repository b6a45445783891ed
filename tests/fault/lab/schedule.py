"""When which fault happens: drawn from a seed before anything runs, so that a failed run can be had again.

Pure: knows the kinds of faults by their names and needs only, not how they are done.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

FIRST_FAULT_S = 4.0  # the stream is seen without faults first
CALM_END_S = 6.0
PART = 7  # how many kinds further the next seed begins


@dataclass(frozen=True)
class Pace:
    """How close together faults come."""

    quiet_s: tuple[float, float]  # after each round: recovery is measured here
    in_a_round: tuple[int, ...]  # how many faults, drawn from
    longest: float = 1.0  # share of the longest time that a fault may last


PACES = {
    "usual": Pace((8.0, 14.0), (1, 1, 1, 2, 2, 3)),  # half of the rounds have more than one
    "alone": Pace((8.0, 14.0), (1,)),  # so that recovery from each can be told
    "dense": Pace((0.5, 1.5), (4, 5, 5), longest=0.1),  # what is broken overlaps, and much of it fits into a minute
}


@dataclass(frozen=True)
class Kind:
    """A kind of fault. Of two that share one of their `touches` only one is there at a time."""

    name: str
    touches: frozenset[str]
    shortest_s: float = 0.0  # 0 and 0: it is over as soon as it has happened
    longest_s: float = 0.0
    brokers: int = 1  # the least there must be
    heal_s: float = 0.0  # about what it takes to undo it
    parameters: Mapping[str, Sequence[object]] = field(default_factory=dict)  # name -> what is chosen from


@dataclass(frozen=True)
class Entry:
    """One fault: from `at_s` after the beginning, for `duration_s`."""

    at_s: float
    fault: str
    parameters: dict[str, object]
    duration_s: float

    def as_json(self) -> dict[str, object]:
        """For the report."""
        return asdict(self)


def make_schedule(
    seed: int, duration_s: float, kinds: Sequence[Kind], brokers: int, pace: Pace = PACES["usual"]
) -> list[Entry]:
    """Rounds of faults with quiet in between; each kind once before any comes a second time."""
    rng = random.Random(seed)
    bag = _Bag(rng, seed, [kind for kind in kinds if kind.brokers <= brokers])
    entries: list[Entry] = []
    round_s = FIRST_FAULT_S
    while True:
        chosen = bag.take(rng.choice(pace.in_a_round))
        new = [_entry(rng, kind, round_s, pace, first=index == 0) for index, kind in enumerate(chosen)]
        ends_s = max(entry.at_s + entry.duration_s + kind.heal_s for entry, kind in zip(new, chosen, strict=True))
        if ends_s + CALM_END_S > duration_s:
            return entries
        entries += sorted(new, key=lambda entry: entry.at_s)
        round_s = round(ends_s + rng.uniform(*pace.quiet_s), 1)


def _entry(rng: random.Random, kind: Kind, round_s: float, pace: Pace, *, first: bool) -> Entry:
    at_s = round_s if first else round_s + rng.uniform(0, 5)
    parameters = {name: rng.choice(choices) for name, choices in kind.parameters.items()}
    longest_s = kind.shortest_s + pace.longest * (kind.longest_s - kind.shortest_s)
    return Entry(round(at_s, 1), kind.name, parameters, round(rng.uniform(kind.shortest_s, longest_s), 1))


class _Bag:
    """Kinds in random order; filled again when it is empty, so that none is left out by chance.

    Each seed begins with another part of the kinds, so that a series of short runs sees all of them.
    """

    def __init__(self, rng: random.Random, seed: int, kinds: Sequence[Kind]) -> None:
        self._rng, self._kinds = rng, list(kinds)
        turned = random.Random(0).sample(self._kinds, len(kinds)) * 2
        start, part = seed * PART % len(kinds), PART
        ordered = turned[start : start + len(kinds)]
        self._left = rng.sample(ordered[:part], min(part, len(kinds))) + rng.sample(ordered[part:], len(ordered[part:]))

    def take(self, count: int) -> list[Kind]:
        """At most `count` that do not get in each other's way."""
        chosen: list[Kind] = []
        for _ in range(count):
            if not self._left:
                self._left = self._rng.sample(self._kinds, len(self._kinds))
            taken = frozenset[str]().union(*(kind.touches for kind in chosen))
            free = next((kind for kind in self._left if not kind.touches & taken), None)
            if free is None:
                break
            self._left.remove(free)
            chosen.append(free)
        return chosen
