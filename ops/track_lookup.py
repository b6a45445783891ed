"""One track, looked up where it is: its last decision, its retained scores, and the event that they came from.

Topics are read backwards from their ends in growing pieces, one partition first (where the track's key belongs), so a
track of lately is found at once and an old one costs one reading of a partition. Joins no group, writes nothing.
"""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from aiokafka.partitioner import murmur2
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from model.vocabulary import Vocabulary
from ops.deadletters import Letter
from ops.errors import OpsError
from ops.kafka_io import read_ranges, topic_ranges
from streamer.adapters.arrow_events import ArrowEventDecoder
from streamer.adapters.json_events import JsonEventDecoder
from streamer.core.events import ARROW_CONTENT_TYPE, MAX_TRACK_ID_CHARACTERS, Rejected
from streamer.core.layout import Layout
from streamer.core.outputs import content_type
from streamer.core.source import Source
from streamer.settings import Settings

FIRST_OFFSETS = 2_000  # of the first piece from a partition's end
GROWTH = 5  # each further piece is so many times as long
LOOKS = 3  # at a track that is decided anew while it is looked up
LETTERS_MAX = 20  # dead letters of one track that are told


@dataclass(frozen=True)
class Track:
    """What the topics hold of one track; None where they hold nothing (any more)."""

    track_id: str
    decision: Mapping[str, Any] | None  # as published
    decision_headers: Mapping[str, str]
    decided_at_ms: int | None  # when Kafka got it
    withdrawn: bool
    scores: NDArray[np.float16] | None  # [T]
    model: str  # of the scores
    thresholds: str  # the version they were last published under
    vocabulary: str  # fingerprint
    source: Source | None
    event_at_ms: int | None
    letters: tuple[Letter, ...]  # dead letters with this key, newest first; looked for only where nothing else is


async def look_up(settings: Settings, track_id: str) -> Track:
    """A track by its id.

    Raises:
        OpsError: it is no track id.
        TagstreamError: Kafka cannot be reached, or a topic is missing.
    """
    if not 1 <= len(track_id) <= MAX_TRACK_ID_CHARACTERS:
        raise OpsError(f"a track id has 1 to {MAX_TRACK_ID_CHARACTERS} characters, this has {len(track_id):,}.")
    key = track_id.encode("utf-8", "surrogatepass")
    for _ in range(LOOKS):
        decided = await newest(settings, settings.topic_tags, key)
        # outputs of a track share a partition number: where its decision is, its scores are
        scored = await newest(settings, settings.topic_scores, key, decided.partition if decided else None)
        decision, headers = _decision(decided), _texts(scored)
        if decision is None or source_of(decision) == headers.get("source"):
            break  # else a newer event of the track came between the two readings
    letters: tuple[Letter, ...] = ()
    if decided is None and scored is None:
        letters = await _letters_of(settings, track_id)
    return Track(
        track_id=track_id,
        decision=decision,
        decision_headers=_texts(decided),
        decided_at_ms=decided.timestamp if decided else None,
        withdrawn=decided is not None and decided.value is None,
        scores=_scores(scored),
        model=headers.get("model", "") or str((decision or {}).get("model", "")),
        thresholds=headers.get("thresholds", "") or str((decision or {}).get("thresholds", "")),
        vocabulary=headers.get("vocabulary", ""),
        source=Source.parse(headers.get("source", "")),
        event_at_ms=scored.timestamp if scored else None,
        letters=letters,
    )


def source_of(decision: Mapping[str, Any]) -> str:
    """Where the event of a decision was, as headers write it; empty where it does not say."""
    source = decision.get("source")
    if not isinstance(source, Mapping):
        return ""
    return "/".join(str(source.get(part, "")) for part in ("topic", "partition", "offset", "row"))


async def newest(settings: Settings, topic: str, key: bytes, first: int | None = None) -> ConsumerRecord | None:
    """The newest record of a key, tombstones included; looked for in partition `first` before all others."""
    there = await topic_ranges(settings, topic)
    home = (murmur2(key) & 0x7FFFFFFF) % len(there) if first is None else first
    for partition in sorted(there, key=lambda number: number != home):
        stop, length = there[partition].stop, FIRST_OFFSETS
        while stop > there[partition].start:
            start = max(there[partition].start, stop - length)
            found = await _last_of(settings, topic, {partition: range(start, stop)}, key)
            if found is not None:
                return found
            stop, length = start, length * GROWTH
    return None


async def _last_of(settings: Settings, topic: str, ranges: Mapping[int, range], key: bytes) -> ConsumerRecord | None:
    found = None
    async with aclosing(read_ranges(settings, topic, ranges)) as records:
        async for record in records:
            if record.key == key:
                found = record
    return found


async def _letters_of(settings: Settings, track_id: str) -> tuple[Letter, ...]:
    found: list[Letter] = []
    there = await topic_ranges(settings, settings.topic_deadletter)
    async with aclosing(read_ranges(settings, settings.topic_deadletter, there)) as records:
        async for record in records:
            letter = Letter.parse(record)
            if letter.is_of_track(track_id):
                found.append(letter)
    return tuple(sorted(found, key=lambda letter: -letter.record.timestamp)[:LETTERS_MAX])


async def probabilities_of(settings: Settings, vocabulary: Vocabulary, source: Source) -> NDArray[np.float64] | None:
    """`[F]` what upstream said, of the event at `source`; None where the topic no longer holds it.

    Raises:
        OpsError: what is there is no event of this vocabulary.
        TagstreamError: Kafka cannot be reached, or a topic is missing.
    """
    there = (await topic_ranges(settings, source.topic)).get(source.partition, range(0))
    if source.offset not in there:
        return None
    place = {source.partition: range(source.offset, source.offset + 1)}
    async with aclosing(read_ranges(settings, source.topic, place)) as records:
        async for record in records:
            return _probabilities(record, Layout.build(vocabulary.fingerprint, vocabulary.classes), source)
    return None


def _probabilities(record: ConsumerRecord, layout: Layout, source: Source) -> NDArray[np.float64]:
    rows = np.zeros((1, layout.n_inputs), np.float64)
    try:
        if content_type(record.headers) == ARROW_CONTENT_TYPE:
            bulk = ArrowEventDecoder(layout).decode(record.value or b"")
            if source.row >= len(bulk):
                raise OpsError(f"the message at {source} has {len(bulk):,} rows.")
            bulk.fill(layout, source.row, rows)
        else:
            JsonEventDecoder(layout).decode(record.key, record.value or b"", rows[0])
    except Rejected as error:
        raise OpsError(
            f"the event at {source} cannot be read under this model's vocabulary: {error.message}."
        ) from None
    return rows[0]


def _texts(record: ConsumerRecord | None) -> dict[str, str]:
    headers = record.headers if record is not None else ()
    return {name: (value or b"").decode("utf-8", "backslashreplace") for name, value in headers}


def _decision(record: ConsumerRecord | None) -> Mapping[str, Any] | None:
    if record is None or record.value is None:
        return None
    try:
        value = orjson.loads(record.value)
    except orjson.JSONDecodeError:
        return None  # somebody else wrote there
    return value if isinstance(value, dict) else None


def _scores(record: ConsumerRecord | None) -> NDArray[np.float16] | None:
    if record is None or record.value is None or len(record.value) % 2:
        return None
    return np.frombuffer(record.value, "<f2")
