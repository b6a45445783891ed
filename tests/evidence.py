"""What a stream left behind, read back from Kafka, and the name of every way in which it may be wrong.

Contents are kept once, however often they occur: a load has few different bodies, so hundreds of thousands of records
fit, and whatever depends on contents alone is checked once for each that differs.
"""

import asyncio
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import orjson
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from streamer.adapters.kafka_client import client_options, running
from streamer.adapters.kafka_topics import partition_count
from streamer.core.errors import TagstreamError
from streamer.core.events import ARROW_CONTENT_TYPE
from streamer.settings import Settings

COMMITS_TOPIC = "__consumer_offsets"
BAD_KEY = "bad-"  # keys of events that can never be decided
SHOWN = 5
READ_MAX_S = 300.0
POLL_MS = 200

Source = tuple[int, int, int]  # partition, offset and row of the input; the row is 0 where a track came alone
Offsets = dict[TopicPartition, int]
Sample = tuple[Offsets, Offsets]  # what was committed and, read after it, where the output topics ended


class Kind(StrEnum):
    """What a violation is called: a test of a broken worker names the check that must see it."""

    LOST = "lost"  # neither decided nor dead-lettered; a withdrawal without its tombstone
    TWICE = "decided and dead-lettered"
    STRANGE = "output of nothing"  # of an input that was never produced
    WRONGLY_DEAD = "wrongly dead-lettered"  # or decided, where it can never be
    CHANGED = "dead letter changed"
    MALFORMED = "malformed"
    MISPLACED = "misplaced"  # another partition or key than its input's
    WRONG_ID = "wrong decision-id"
    OUT_OF_ORDER = "out of order"
    NOT_NEWEST = "not the newest"  # what compaction would keep of a track is not of its newest input
    COMMITTED_EARLY = "committed early"  # before its outputs were in the log
    COMMIT_WENT_BACK = "commit went back"
    NO_SCORES = "no scores retained"
    WRONG_SCORES = "wrong scores"  # not what the model it names gives for the input
    BAD_TABLE = "bad table"  # a stored table that is not whole, not valid, not canonical or not its own hash
    UNKNOWN_TABLE = "unknown table"  # one that is not stored
    UNWRITTEN_TABLE = "unwritten table"  # one that follows from nothing that anybody wrote
    NOT_REDECIDED = "not re-decided"  # not what the live table gives, after a run
    NOT_REPRODUCIBLE = "not reproducible"


class Violation(AssertionError):
    """The contract is broken; `kind` says how."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Input(NamedTuple):
    """One record of the input topic, or one row of a bulk message: that is told as the event it stands for."""

    key: str
    body: bytes | None  # the value without `lead`; None for a withdrawal
    headers: tuple[tuple[str, bytes], ...] = ()
    has_lead: bool = True
    in_bulk: bool = False

    @property
    def value(self) -> bytes | None:
        """As it was produced, or would have been alone."""
        return self.body if self.body is None or not self.has_lead else lead(self.key) + self.body


class Output(NamedTuple):
    """One decision or score record as found in its topic."""

    source: Source
    partition: int
    position: int  # its own offset
    at_ms: int
    track: str
    model: str
    thresholds: str
    identity: str
    content: bytes  # scores: the value; decisions: their tags and scores as JSON
    redecided: str = ""  # the run, in a re-decision only
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Tombstone(NamedTuple):
    """A null value in one of the compacted topics: it tells nothing but its key."""

    partition: int
    position: int
    track: str


class DeadLetter(NamedTuple):
    """One record of the dead-letter topic."""

    source: Source
    partition: int
    position: int
    key: str
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def code(self) -> str:
        """Why: the last header of that name, as an event may bring one of its own."""
        return dict(self.headers).get("error.code", b"").decode("utf-8", "replace")


@dataclass
class Evidence:
    """Everything the topics hold, in the order of each partition."""

    topics: tuple[str, str, str, str] = ("in", "tags", "scores", "dead")
    inputs: dict[Source, Input] = field(default_factory=dict)
    decisions: list[Output] = field(default_factory=list)
    scores: list[Output] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    gone_tags: list[Tombstone] = field(default_factory=list)
    gone_scores: list[Tombstone] = field(default_factory=list)
    commits: dict[int, list[int]] | None = None  # by input partition, as Kafka's own log has them; None if not readable


def lead(key: str) -> bytes:
    """What the value of an event begins with; what comes after it is one of few bodies."""
    return b'{"track_id":' + orjson.dumps(key)


def few(strange: Sequence[object] | set) -> str:
    """How many, and the first of them."""
    return f"{len(strange)}, the first {sorted(strange)[:SHOWN]}"  # type: ignore[type-var]


async def gather(settings: Settings) -> Evidence:
    """Read all four topics, and the group's commits."""
    names = settings.topic_probabilities, settings.topic_tags, settings.topic_scores, settings.topic_deadletter
    found, pool = Evidence(topics=names), {}
    await asyncio.gather(
        _each(settings, names[0], lambda record: _keep_input(found, pool, record)),
        _each(settings, names[1], lambda record: _keep_decision(found, pool, record)),
        _each(settings, names[2], lambda record: _keep_scores(found, pool, record)),
        _each(settings, names[3], lambda record: found.dead.append(_dead_letter(record, names[0]))),
    )
    with suppress(TagstreamError, KafkaError):  # who may read only the stream's own topics goes by what was sampled
        commits: dict[int, list[int]] = {}
        await _each(settings, COMMITS_TOPIC, lambda record: _keep_commit(commits, settings, record))
        found.commits = commits
    return found


def _keep_commit(commits: dict[int, list[int]], settings: Settings, record: ConsumerRecord) -> None:
    """A record of Kafka's own topic of offsets: of keys the versions 0 and 1 are commits."""
    if record.value is None or struct.unpack_from(">h", record.key)[0] > 1:
        return
    group, at = _short_string(record.key, 2)
    topic, at = _short_string(record.key, at)
    if (group, topic) == (settings.group, settings.topic_probabilities):
        (partition,) = struct.unpack_from(">i", record.key, at)
        commits.setdefault(partition, []).append(struct.unpack_from(">q", record.value, 2)[0])


def _short_string(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">h", data, at)
    return data[at + 2 : at + 2 + length].decode(), at + 2 + length


async def _each(settings: Settings, topic: str, keep) -> None:
    """Hand every record of now to `keep`: a slow broker is waited for, since what is not read would pass for lost."""
    consumer = AIOKafkaConsumer(
        **client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest", max_poll_records=2_000
    )
    partitions = [TopicPartition(topic, number) for number in range(await partition_count(settings, topic))]
    async with running(consumer, settings):
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        async with asyncio.timeout(READ_MAX_S):
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    for record in records:
                        if record.offset < ends[tp]:
                            keep(record)


def _keep_input(found: Evidence, pool: dict[bytes, bytes], record: ConsumerRecord) -> None:
    if (table := bulk_rows(record.key, record.value, record.headers)) is not None:
        for row, (key, body) in enumerate(bulk_events(table)):
            event = Input(key, pool.setdefault(body, body), tuple(record.headers), in_bulk=True)
            found.inputs[record.partition, record.offset, row] = event
        return
    key, value = _text(record.key), record.value
    start = lead(key)
    has_lead = value is not None and value.startswith(start)
    body = value[len(start) :] if has_lead else value
    body = None if body is None else pool.setdefault(body, body)
    found.inputs[record.partition, record.offset, 0] = Input(key, body, tuple(record.headers), has_lead)


def bulk_rows(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> pa.Table | None:
    """The tracks of a bulk message; None of what is none, or is broken as a whole, which its key says then."""
    if ("content-type", ARROW_CONTENT_TYPE.encode()) not in headers or _text(key).startswith(BAD_KEY):
        return None
    with pa.ipc.open_stream(pa.py_buffer(value)) as stream:
        return stream.read_all()


def bulk_events(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Of each row its track, and its numbers as the body of an event."""
    for row in table.to_pylist():
        key, lists = row.pop("track_id"), {}
        for name, numbers in row.items():
            of_class, of_list = name.split(".")
            lists.setdefault(of_class, {})[of_list] = numbers
        yield key, b"," + orjson.dumps(lists)[1:]


def row_of_letter(letter: "DeadLetter") -> tuple[str, bytes]:
    """The one row that the dead letter of a bulk row holds, told as an event.

    Raises:
        Violation: where it holds something else.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(letter.value)) as stream:
            ((key, body),) = bulk_events(stream.read_all())
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise Violation(Kind.CHANGED, f"{letter.source}: no Arrow stream of one row: {error!r}") from None
    return key, body


def _keep_decision(found: Evidence, pool: dict[bytes, bytes], record: ConsumerRecord) -> None:
    if record.value is None:
        found.gone_tags.append(Tombstone(record.partition, record.offset, _text(record.key)))
        return
    try:
        body = orjson.loads(record.value)
        origin = body["source"]
        source = origin["partition"], origin["offset"], origin["row"]
        content = orjson.dumps((body["tags"], body["scores"]))
        told = origin["topic"], body["track_id"], body["model"], body["thresholds"]
        out = _output(record, source, pool.setdefault(content, content))
        if "redecided" in body:
            change = tuple(body["added"]), tuple(body["removed"])
            out = out._replace(redecided=body["redecided"], added=change[0], removed=change[1])
    except (ValueError, KeyError, TypeError) as error:
        raise Violation(Kind.MALFORMED, f"decision {record.partition}/{record.offset}: {error!r}") from None
    wanted = found.topics[0], out.track, out.model, out.thresholds
    if told != wanted:
        raise Violation(Kind.MALFORMED, f"decision {record.partition}/{record.offset} says {told}, not {wanted}")
    found.decisions.append(out)


def _keep_scores(found: Evidence, pool: dict[bytes, bytes], record: ConsumerRecord) -> None:
    if record.value is None:
        found.gone_scores.append(Tombstone(record.partition, record.offset, _text(record.key)))
        return
    source = _source(dict(record.headers), found.topics[0], record)
    found.scores.append(_output(record, source, pool.setdefault(record.value, record.value)))


def _dead_letter(record: ConsumerRecord, topic: str) -> DeadLetter:
    headers = tuple(record.headers)
    source = _source(dict(headers), topic, record)
    return DeadLetter(source, record.partition, record.offset, _text(record.key), record.value, headers)


def _source(headers: Mapping[str, bytes], topic: str, record: ConsumerRecord) -> Source:
    try:
        named, partition, offset, row = headers["source"].decode().rsplit("/", 3)
        if named != topic:
            raise ValueError(f"{named} is not {topic}")
        return int(partition), int(offset), int(row)
    except (KeyError, ValueError) as error:
        where = f"{record.topic}/{record.partition}/{record.offset}"
        raise Violation(Kind.MALFORMED, f"the source of {where}: {error!r}") from None


def _output(record: ConsumerRecord, source: Source, content: bytes) -> Output:
    headers = {name: value.decode() for name, value in record.headers}
    return Output(
        source, record.partition, record.offset, record.timestamp, _text(record.key),
        headers.get("model", ""), headers.get("thresholds", ""), headers.get("decision-id", ""), content,
    )  # fmt: skip


def _text(key: bytes | None) -> str:
    return (key or b"").decode("utf-8", "backslashreplace")
