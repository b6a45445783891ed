"""The topic of retained scores, followed into a cache on this machine: what is new since the last time is read.

What was cached is checked before it is built on: the last record of each partition must still be the one that was
read there, else the topic was made anew. A cache older than Kafka keeps tombstones is read anew too, because it may
have missed a withdrawal. A reading that is broken off goes on where it was. Joins no consumer group.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from hashlib import sha256
from pathlib import Path

import numpy as np
from aiokafka.structs import ConsumerRecord

from model.vocabulary import Vocabulary
from ops.kafka_io import read_ranges, topic_ranges
from ops.local.jars import cache_dir
from ops.thresholds_scores import RetainedScores
from ops.thresholds_store import ROW, SCORED, UNUSABLE, WITHDRAWN, ScoreStore, track_hash
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.core.float16 import MINUS_ZERO, ONE_BITS
from streamer.settings import Settings

CHUNK_RECORDS = 8_192
COMMIT_RECORDS = 131_072  # between two moments from which a broken-off reading goes on
OFFSETS_MAX = 20_000_000  # of a topic; older ones are left out. 8 GB with 200 tags
CACHE_S = 20 * 3600  # Kafka keeps tombstones for 24 hours where nobody says otherwise
WASTE_ROWS = 250_000  # superseded rows that are never worth a new reading

OnProgress = Callable[[int, int], None]  # offsets read, and to read


async def follow(
    settings: Settings, vocabulary: Vocabulary, on_progress: OnProgress = lambda _done, _total: None
) -> RetainedScores:
    """The retained scores of now.

    Raises:
        TagstreamError: Kafka cannot be reached, or has no such topic.
        OpsError: the cache folder cannot be written.
    """
    async with running(Admin(**client_options(settings)), settings) as admin:
        cluster = (await admin.describe_cluster()).get("cluster_id") or settings.kafka_bootstrap
    identity = f"{cluster}|{settings.topic_scores}|{vocabulary.fingerprint}"
    store = ScoreStore(_folder(identity), identity, len(vocabulary.tags))
    with store.writing():
        await _catch_up(settings, store, vocabulary, on_progress)
        stored = store.reader()
    return await asyncio.to_thread(RetainedScores, vocabulary.tags, stored)


def _folder(identity: str) -> Path:
    return cache_dir() / "scores" / sha256(identity.encode()).hexdigest()[:16]


async def _catch_up(settings: Settings, store: ScoreStore, vocabulary: Vocabulary, on_progress: OnProgress) -> None:
    there = {number: _bounded(mine) for number, mine in (await topic_ranges(settings, settings.topic_scores)).items()}
    now_ms = int(time.time() * 1000)
    anew = not _may_go_on(store, there, now_ms)
    if anew:
        store.clear()
    if not await _read(settings, store, vocabulary, there, on_progress):
        store.clear()
        anew = True
        await _read(settings, store, vocabulary, there, on_progress)
    store.meta.positions = {number: mine.stop for number, mine in there.items()}
    store.meta.read_at_ms = now_ms
    if anew:
        store.meta.rows_at_first = store.meta.rows
    store.commit()


def _bounded(mine: range) -> range:
    return range(max(mine.start, mine.stop - OFFSETS_MAX), mine.stop)


def _may_go_on(store: ScoreStore, there: Mapping[int, range], now_ms: int) -> bool:
    """Whether what is cached can be added to."""
    meta = store.meta
    fresh = now_ms - meta.read_at_ms < CACHE_S * 1000
    within = all(there[n].start <= place <= there[n].stop for n, place in meta.positions.items() if n in there)
    lean = meta.rows <= 2 * meta.rows_at_first + WASTE_ROWS
    return fresh and within and lean and set(meta.positions) == set(there)


async def _read(
    settings: Settings, store: ScoreStore, vocabulary: Vocabulary, there: Mapping[int, range], on_progress: OnProgress
) -> bool:
    """Append what is new; False where what was cached is of another topic of the same name."""
    meta = store.meta
    known = {number: place for number, place in meta.last.items() if number in there}
    # from the last record that is known, to see that it is still there
    ranges = {n: range(known[n][0] if n in known else mine.start, mine.stop) for n, mine in there.items()}
    if all(meta.positions.get(n) == mine.stop and n in known for n, mine in there.items() if mine):
        return True
    total, done, committed = sum(map(len, ranges.values())), 0, 0
    chunk: list[ConsumerRecord] = []
    reading = _Reading(store, vocabulary)
    async with aclosing(read_ranges(settings, settings.topic_scores, ranges)) as records:
        async for record in records:
            place = known.get(record.partition)
            if place is not None and record.offset <= place[0]:
                if record.offset == place[0] and _hash_of(record) != place[1]:
                    return False
                continue
            chunk.append(record)
            if len(chunk) == CHUNK_RECORDS:
                reading.take(chunk)
                done += len(chunk)
                on_progress(min(done, total), total)
                chunk = []
                if done - committed >= COMMIT_RECORDS:
                    _commit_broken_off(store, there)
                    committed = done
    reading.take(chunk)
    on_progress(total, total)
    return True


def _commit_broken_off(store: ScoreStore, there: Mapping[int, range]) -> None:
    """What is read so far counts, should the rest not come."""
    meta = store.meta
    meta.positions = {n: meta.last[n][0] + 1 if n in meta.last else mine.start for n, mine in there.items()}
    meta.read_at_ms = meta.read_at_ms or int(time.time() * 1000)
    meta.rows_at_first = max(meta.rows_at_first, meta.rows)
    store.commit()


def _hash_of(record: ConsumerRecord) -> int:
    return int.from_bytes(track_hash(record.key or b""), "little")


class _Reading:
    """Turns records into rows of the store."""

    def __init__(self, store: ScoreStore, vocabulary: Vocabulary) -> None:
        self._store = store
        self._fingerprint = vocabulary.fingerprint.encode()
        self._bytes = 2 * len(vocabulary.tags)
        self._models = _Numbered(store.meta.models)
        self._thresholds = _Numbered(store.meta.thresholds)

    def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Append these records; those without a key are nobody's."""
        records = [record for record in records if record.key is not None]
        if not records:
            return
        described = [self._describe(record) for record in records]
        keys = [record.key or b"" for record in records]
        rows = np.zeros(len(records), ROW)
        rows["track"] = np.frombuffer(b"".join(map(track_hash, keys)), "<u8")
        rows["at_ms"] = [record.timestamp for record in records]
        rows["offset"] = [record.offset for record in records]
        rows["partition"] = [record.partition for record in records]
        state, model, thresholds, offset, row = map(list, zip(*described, strict=True))
        rows["state"], rows["model"], rows["thresholds"] = state, model, thresholds
        rows["input_offset"], rows["input_row"] = offset, row
        blank = bytes(self._bytes)
        values = b"".join(
            record.value or blank if one == SCORED else blank for record, one in zip(records, state, strict=True)
        )
        bits = np.frombuffer(values, "<u2").reshape(len(records), -1)
        bits = np.where(bits == MINUS_ZERO, np.uint16(0), bits)  # -0.0 is 0
        bad = (bits > ONE_BITS).any(axis=1)  # not a number in [0, 1]: somebody else's
        rows["state"][bad] = UNUSABLE
        self._store.append(rows, keys, bits)
        for record, track in zip(records, rows["track"].tolist(), strict=True):
            self._store.meta.last[record.partition] = (record.offset, track)

    def _describe(self, record: ConsumerRecord) -> tuple[int, int, int, int, int]:
        """State, model, thresholds, and the input's offset and row."""
        if record.value is None:
            return WITHDRAWN, 0, 0, -1, 0
        headers = dict(record.headers)
        if headers.get("vocabulary") != self._fingerprint or len(record.value) != self._bytes:
            return UNUSABLE, 0, 0, -1, 0
        _, _, offset, row = (b"///" + headers.get("source", b"")).rsplit(b"/", 3)
        model = self._models.number(headers.get("model", b""))
        return SCORED, model, self._thresholds.number(headers.get("thresholds", b"")), _whole(offset), _whole(row)


def _whole(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 10 else -1


class _Numbered:
    """Texts that occur over and over, by number; `names` grows."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._numbers = {name.encode(): number for number, name in enumerate(names)}

    def number(self, text: bytes) -> int:
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self._names)
            self._names.append(text.decode("utf-8", "replace"))
        return found
