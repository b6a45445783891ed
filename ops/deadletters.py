"""Dead letters as the tools see them: parsed from their records, chosen by filters, counted in groups.

A dead letter's headers are the event's own and then, beginning with `error.code`, those that the worker added; so an
upstream's own `source` or `worker` header is never taken for ours, nor lost in a replay.
Pure: reads and sends nothing.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappush, heappushpop
from typing import Any

import orjson
from aiokafka.structs import ConsumerRecord

from ops.errors import OpsError
from streamer.adapters.kafka_sink import OMITTED_HEADER
from streamer.core.source import Source

Headers = list[tuple[str, bytes]]

FIRST_ADDED_HEADER = "error.code"
NO_CODE = "(no code)"
MAX_FIELDS = 1_000  # different ones counted per code: a field may hold a name out of a hostile event
OTHER_FIELDS = "(others)"

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RELATIVE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_NUMBER = re.compile(r"[0-9]{1,18}")
_INDEX = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter; texts are as they came and must go through `printable` before a terminal sees them."""

    record: ConsumerRecord
    original: Headers  # the event's own
    added: dict[str, str]  # the worker's; empty where another program wrote the record

    @classmethod
    def parse(cls, record: ConsumerRecord) -> "Letter":
        """Any record of the dead-letter topic."""
        headers = list(record.headers)
        begins = [index for index, (name, _) in enumerate(headers) if name == FIRST_ADDED_HEADER]
        split = begins[-1] if begins else len(headers)
        added = {name: (value or b"").decode("utf-8", "backslashreplace") for name, value in headers[split:]}
        return cls(record, headers[:split], added)

    @property
    def place(self) -> str:
        """The letter's own coordinates, as `deadletter show` takes them."""
        return f"{self.record.topic}/{self.record.partition}/{self.record.offset}"

    @property
    def code(self) -> str:
        """Its `error.code`."""
        return self.added.get(FIRST_ADDED_HEADER) or NO_CODE

    @property
    def field(self) -> str:
        """Its `error.field`; empty where the whole event is meant."""
        return self.added.get("error.field", "")

    @property
    def source(self) -> Source | None:
        """Where its event stands; None where the header does not say."""
        return Source.parse(self.added.get("source", ""))

    @property
    def attempt(self) -> int:
        """How often the event has been tried: 1 and up."""
        text = self.added.get("attempt", "")
        return int(text) if _NUMBER.fullmatch(text) else 1

    @property
    def omitted_bytes(self) -> str | None:
        """How many bytes of value were left out; None where the value is here."""
        return self.added.get(OMITTED_HEADER)

    def is_of_track(self, name: str) -> bool:
        """Whether the key, or without a key the event's track_id, is `name`."""
        if self.record.key is not None:
            return self.record.key == name.encode()
        try:
            event = orjson.loads(self.record.value or b"")
        except orjson.JSONDecodeError:
            return False
        return isinstance(event, dict) and event.get("track_id") == name


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant; what is None or empty does not matter. Times in ms since the epoch."""

    codes: frozenset[str] = frozenset()
    field: str | None = None  # this one and what is in it: genres.tags takes genres.tags[17]
    since_ms: int | None = None
    until_ms: int | None = None
    source_partition: int | None = None
    key: str | None = None
    worker: str | None = None
    attempt_max: int | None = None

    def wants(self, letter: Letter) -> bool:
        """Whether a letter passes every filter."""
        at_ms, source = letter.record.timestamp, letter.source
        return (
            (not self.codes or letter.code in self.codes)
            and (self.since_ms is None or at_ms >= self.since_ms)
            and (self.until_ms is None or at_ms < self.until_ms)
            and (self.field is None or _is_in(letter.field, self.field))
            and (self.source_partition is None or (source is not None and source.partition == self.source_partition))
            and (self.worker is None or letter.added.get("worker") == self.worker)
            and (self.attempt_max is None or letter.attempt <= self.attempt_max)
            and (self.key is None or letter.is_of_track(self.key))
        )


def _is_in(path: str, field_asked: str) -> bool:
    return path == field_asked or path.startswith((f"{field_asked}.", f"{field_asked}["))


def moment_ms(text: str, now_ms: int) -> int:
    """The time that `2h` (ago), `2026-11-22` or `2026-11-22T09:45Z` means; without a zone it is UTC.

    Raises:
        OpsError: for anything else.
    """
    relative = _RELATIVE.fullmatch(text.strip().removesuffix(" ago"))
    if relative:
        return max(0, now_ms - int(float(relative[1]) * _SECONDS[relative[2]] * 1000))
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise OpsError(
            f"{text!r} is no time: write 2026-11-22T09:45Z, or 90s, 15m, 2h or 7d for so long ago."
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1000))


@dataclass
class Group:
    """The dead letters of one code: how many, when, of which fields, and the newest of them."""

    keep: int
    count: int = 0
    first_ms: int = 2**63
    last_ms: int = -1
    fields: Counter[str] = field(default_factory=Counter)
    _newest: list[tuple[tuple[int, int, int], dict[str, Any]]] = field(default_factory=list)

    def add(self, letter: Letter, describe: Callable[[ConsumerRecord], dict[str, Any]]) -> None:
        """Count a letter, and keep what `describe` makes of it while it is among the `keep` newest."""
        record = letter.record
        self.count += 1
        self.first_ms, self.last_ms = min(self.first_ms, record.timestamp), max(self.last_ms, record.timestamp)
        name = _INDEX.sub("", letter.field)
        self.fields[name if name in self.fields or len(self.fields) < MAX_FIELDS else OTHER_FIELDS] += 1
        age = (record.timestamp, record.partition, record.offset)
        if len(self._newest) < self.keep:
            heappush(self._newest, (age, describe(record)))
        elif self._newest and age > self._newest[0][0]:
            heappushpop(self._newest, (age, describe(record)))

    def examples(self) -> list[dict[str, Any]]:
        """The newest first."""
        return [seen for _, seen in sorted(self._newest, key=lambda entry: entry[0], reverse=True)]


def by_count(groups: dict[str, Group]) -> Sequence[tuple[str, Group]]:
    """The largest group first."""
    return sorted(groups.items(), key=lambda item: (-item[1].count, item[0]))
