"""Which dead letters a replay sends, and how it is remembered that they were sent. Pure.

What was replayed is remembered in Kafka itself, as the committed offsets of the group `<group>-deadletter-replay`: the
offset says that every letter below it was replayed, the text beside it (Kafka keeps 4,096 characters) which ones above
it were, as a compressed bitmap. So any choice of letters can be replayed in any order, and none of them twice.
Kafka forgets the commits of an idle group after 7 days (`offsets.retention.minutes`). A letter is never older than its
replay, so for letters of the last 7 days the memory is always there; older ones are replayed only when asked for.
"""

import base64
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from ops.deadletters import Letter
from ops.errors import OpsError
from streamer.core.source import Source

MAX_METADATA_CHARACTERS = 4_096  # Kafka's default of offset.metadata.max.bytes
FORMAT = "1"


class Skip(StrEnum):
    """Why a letter that the filters want is not replayed."""

    REPLAYED_BEFORE = "replayed-before"
    MAX_ATTEMPTS = "max-attempts"
    VALUE_OMITTED = "value-omitted"
    NO_SOURCE = "no-source"  # nothing says which partition it came from
    OTHER_TOPIC = "other-topic"  # it came from a topic, or a partition, that the input is not
    SAME_SOURCE = "same-source"  # another letter of the same event is chosen: workers deliver at least once
    OVER_LIMIT = "over-limit"


class Done:
    """Which letters of one partition were replayed, of those that the topic held when this was made."""

    def __init__(self, kept: range) -> None:
        self._start = kept.start
        self._flags = np.zeros(len(kept), dtype=bool)

    def __contains__(self, offset: int) -> bool:
        index = offset - self._start
        return 0 <= index < len(self._flags) and bool(self._flags[index])

    def mark(self, offset: int, replayed: bool = True) -> None:
        """Remember, or forget, that the letter was replayed."""
        self._flags[offset - self._start] = replayed

    def committed(self, run: str) -> tuple[int, str]:
        """What to commit: the offset, and the text that names the run and the letters replayed above the offset."""
        pending = np.flatnonzero(~self._flags)
        below = int(pending[0]) if len(pending) else len(self._flags)
        above = np.flatnonzero(self._flags[below:])
        bits = np.packbits(self._flags[below : below + int(above[-1]) + 1]).tobytes() if len(above) else b""
        packed = base64.b85encode(zlib.compress(bits, 9)).decode() if bits else ""
        return self._start + below, f"{FORMAT}:{run}:{packed}"

    @classmethod
    def read(cls, kept: range, offset: int, text: str) -> "Done | None":
        """What a commit says; None where it is not one of ours, or of a topic that was made anew since."""
        done, parts = cls(kept), text.split(":", 2)
        if offset > kept.stop or (text and (len(parts) != 3 or parts[0] != FORMAT)):
            return None
        done._flags[: max(0, offset - kept.start)] = True
        if not text:  # set by hand, with Kafka's own tools
            return done
        try:
            most_bytes = (kept.stop - offset) // 8 + 1
            bits = zlib.decompressobj().decompress(base64.b85decode(parts[2]), most_bytes) if parts[2] else b""
        except (ValueError, zlib.error):
            return None
        flags = np.unpackbits(np.frombuffer(bits, dtype=np.uint8)).astype(bool)
        first = offset - kept.start  # negative where the topic has dropped letters since
        flags, first = flags[max(0, -first) :], max(0, first)
        room = done._flags[first : first + len(flags)]
        room |= flags[: len(room)]
        return done


class Target(NamedTuple):
    """Where replayed events go."""

    topic: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What a replay leaves out, whatever the filters want."""

    max_attempts: int
    again: bool = False  # also what was replayed before
    limit: int | None = None  # the oldest so many


class _Chosen(NamedTuple):
    at_ms: int
    partition: int
    offset: int
    code: str


class Plan:
    """The letters to replay, chosen one by one in a first reading; a second one sends them."""

    def __init__(self, target: Target, rules: Rules, done: Mapping[int, Done]) -> None:
        self.skipped: Counter[Skip] = Counter()
        self.target = target
        self.done = done
        self._rules = rules
        self._chosen: dict[Source, _Chosen] = {}
        self._sent_sources: set[Source] = set()

    def add(self, letter: Letter) -> None:
        """Take a letter in, or count why not."""
        why_not = self._why_not(letter)
        if why_not is not None:
            self.skipped[why_not] += 1
            return
        source, record = letter.source, letter.record
        assert source is not None  # a letter without one was skipped
        if source in self._chosen:
            self.skipped[Skip.SAME_SOURCE] += 1
        self._chosen[source] = _Chosen(record.timestamp, record.partition, record.offset, letter.code)

    def _why_not(self, letter: Letter) -> Skip | None:
        source = letter.source
        if source is None:
            return Skip.NO_SOURCE
        if source.topic != self.target.topic or source.partition >= self.target.partitions:
            return Skip.OTHER_TOPIC
        if not self._rules.again and letter.record.offset in self.done[letter.record.partition]:
            self._sent_sources.add(source)
            return Skip.REPLAYED_BEFORE
        if letter.attempt >= self._rules.max_attempts:
            return Skip.MAX_ATTEMPTS
        if letter.omitted_bytes is not None:
            return Skip.VALUE_OMITTED
        return None

    def finish(self) -> "Chosen":
        """All letters have been added: what is to be sent."""
        for source in self._sent_sources & self._chosen.keys():
            del self._chosen[source]
            self.skipped[Skip.SAME_SOURCE] += 1
        letters = sorted(self._chosen.values())
        if self._rules.limit is not None and len(letters) > self._rules.limit:
            self.skipped[Skip.OVER_LIMIT] += len(letters) - self._rules.limit
            letters = letters[: self._rules.limit]
        return Chosen(letters)


class Chosen:
    """The letters that a replay sends."""

    def __init__(self, letters: list[_Chosen]) -> None:
        self.total = len(letters)
        self.codes: dict[str, dict[str, int]] = {}
        self.offsets: dict[int, set[int]] = defaultdict(set)
        for letter in letters:
            code = self.codes.setdefault(letter.code, {"count": 0, "first_ms": letter.at_ms, "last_ms": letter.at_ms})
            code["count"] += 1
            code["last_ms"] = max(code["last_ms"], letter.at_ms)
            self.offsets[letter.partition].add(letter.offset)

    def spans(self) -> dict[int, range]:
        """From the first to the last of them, by partition."""
        return {partition: range(min(mine), max(mine) + 1) for partition, mine in self.offsets.items()}


def prepare(chosen: Chosen, done: Mapping[int, Done]) -> None:
    """Count the chosen letters as not replayed, after a look at whether Kafka can remember it once they are.

    Raises:
        OpsError: when they lie scattered among too many others: beyond 26,000 letters of a partition at worst, where
            every other one is chosen at random; several times as many where most are, or few.
    """
    for partition, offsets in chosen.offsets.items():
        for offset in offsets:
            done[partition].mark(offset)
        _, text = done[partition].committed("x" * 8)
        for offset in offsets:
            done[partition].mark(offset, replayed=False)
        if len(text) > MAX_METADATA_CHARACTERS:
            raise OpsError(
                f"the {len(offsets):,} letters chosen in partition {partition} lie scattered among too many others for "
                "Kafka to remember which were replayed: choose fewer (--limit, --until) or also the others (no --code)."
            )
