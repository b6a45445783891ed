"""What a stream must have kept, read back from Kafka by somebody who took no part in it.

For every input offset: decided or dead-lettered at least once, never both; scores retained; duplicates recognisable
by their decision-id; order kept per track; written to the partition number it came from; reproducible from the
retained scores and the table it names; and no offset ever committed before its outputs were in the log.
"""

import asyncio
import hashlib
import json
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from ops.kafka_io import read_topic
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import partition_count
from streamer.core.errors import TagstreamError
from streamer.core.layout import Layout
from streamer.settings import Settings

SAMPLE_S = 0.25
BAD_KEY = "bad-"

Source = tuple[int, int]  # partition and offset of the input
Offsets = dict[TopicPartition, int]


class Output(NamedTuple):
    """One decision, score record or dead letter as found in its topic."""

    source: Source
    partition: int
    position: int  # its own offset
    at_ms: int
    track: str
    model: str
    thresholds: str
    identity: str
    content: bytes | frozenset[str]


@dataclass
class Evidence:
    """Everything the topics hold, in the order of each partition."""

    inputs: dict[Source, str]  # -> key
    decisions: list[Output]
    scores: list[Output]
    dead: list[Output]


@dataclass
class Report:
    """What was found; `decisions` for the tests that look closer."""

    inputs: int
    decided: int
    dead: int
    duplicates: int
    commits_sampled: int
    decisions: list[Output] = field(repr=False)
    duplicates_by_partition: Counter[int] = field(default_factory=Counter)

    def line(self) -> str:
        """For people."""
        return (
            f"in {self.inputs:,} = decided {self.decided:,} + dead {self.dead:,}; duplicates {self.duplicates:,}; "
            f"longest pause {self.longest_pause_s():.2f} s; commits sampled {self.commits_sampled}"
        )

    def longest_pause_s(self, since_ms: float = 0, until_ms: float = math.inf) -> float:
        """The longest time without a new decision inside this span of time."""
        times = sorted(d.at_ms for d in self.decisions if since_ms <= d.at_ms <= until_ms)
        edges = [*([since_ms] if since_ms else []), *times, *([until_ms] if until_ms < math.inf else [])]
        return max((b - a for a, b in pairwise(edges)), default=0) / 1000

    def versions(self) -> set[tuple[str, str]]:
        """The pairs of model and thresholds version that decisions name."""
        return {(d.model, d.thresholds) for d in self.decisions}

    def turns(self, partition: int) -> list[tuple[str, str]]:
        """The pairs that one partition was decided under, in order, each as often as it was turned to."""
        turns: list[tuple[str, str]] = []
        for d in self.decisions:
            if d.partition == partition and (not turns or turns[-1] != (d.model, d.thresholds)):
                turns.append((d.model, d.thresholds))
        return turns

    def first_ms(self, thresholds: str, partitions: Sequence[int]) -> int:
        """When the first decision under these thresholds was made in one of these partitions."""
        return min(d.at_ms for d in self.decisions if d.thresholds == thresholds and d.partition in partitions)


class Sampler:
    """Reads, while the stream runs, what is committed and *then* how far the output topics reach."""

    def __init__(self, settings: Settings) -> None:
        self.samples: list[tuple[Offsets, Offsets]] = []
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def sample_once(self) -> None:
        """One sample now, from the caller's thread."""

        async def once() -> None:
            async with running(Admin(**client_options(self._settings)), self._settings) as admin:
                self.samples.append(await self._sample(admin))

        asyncio.run(once())

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                async with running(Admin(**client_options(self._settings)), self._settings) as admin:
                    while not self._stop.is_set():
                        self.samples.append(await self._sample(admin))
                        await asyncio.sleep(SAMPLE_S)
            except (KafkaError, TagstreamError, OSError, TimeoutError):
                await asyncio.sleep(SAMPLE_S)  # no broker or no group yet: some tests want it so

    async def _sample(self, admin: Admin) -> tuple[Offsets, Offsets]:
        ours = self._settings
        committed = await admin.list_consumer_group_offsets(ours.group)
        ends = await end_offsets(ours, [ours.topic_tags, ours.topic_scores, ours.topic_deadletter])
        return {tp: meta.offset for tp, meta in committed.items() if meta.offset >= 0}, ends


async def end_offsets(settings: Settings, topics: Sequence[str]) -> Offsets:
    """Where each partition of these topics ends now."""
    partitions = [TopicPartition(name, n) for name in topics for n in range(await partition_count(settings, name))]
    async with running(AIOKafkaConsumer(**client_options(settings)), settings) as consumer:
        return await consumer.end_offsets(partitions)


def check(
    settings: Settings,
    layout: Layout,
    samples: Sequence[tuple[Offsets, Offsets]],
    tables: Mapping[str, Mapping[str, str]],
) -> Report:
    """Read all of it and hold it against the contract."""
    found = asyncio.run(_gather(settings))
    _check_accounts(found)
    _check_places(found)
    _check_identities(settings, found)
    _check_order(found)
    _check_commits(settings, found, samples)
    _check_reproducible(layout, found, tables)
    outputs = [*found.decisions, *found.dead]
    surplus = Counter(out.partition for out in found.decisions)
    surplus.subtract(Counter(source[0] for source in {out.source for out in found.decisions}))
    return Report(
        inputs=len(found.inputs),
        decided=len({d.source for d in found.decisions}),
        dead=len({d.source for d in found.dead}),
        duplicates=len(outputs) - len({out.source for out in outputs}),
        commits_sampled=len(samples),
        decisions=found.decisions,
        duplicates_by_partition=surplus,
    )


async def _gather(settings: Settings) -> Evidence:
    names = settings.topic_probabilities, settings.topic_tags, settings.topic_scores, settings.topic_deadletter
    inputs, tags, scores, dead = await asyncio.gather(*(_all(settings, name) for name in names))
    decisions = []
    for record in tags:
        body = orjson.loads(record.value)
        source = body["source"]
        assert source["topic"] == settings.topic_probabilities, f"a decision of a foreign source: {source}"
        named = frozenset(tag for tags_of_class in body["tags"].values() for tag in tags_of_class)
        out = _output(record, (source["partition"], source["offset"]), body["track_id"], named)
        assert (out.model, out.thresholds) == (body["model"], body["thresholds"]), f"header and body differ: {out}"
        decisions.append(out)
    return Evidence(
        {(record.partition, record.offset): record.key.decode() for record in inputs},
        decisions,
        [_output(record, _source(record), record.key.decode(), record.value) for record in scores],
        [_output(record, _source(record), record.key.decode(), record.value) for record in dead],
    )


async def _all(settings: Settings, topic: str) -> list[ConsumerRecord]:
    return [record async for record in read_topic(settings, topic, from_start=True, follow=False)]


def _source(record: ConsumerRecord) -> Source:
    _, partition, offset, row = dict(record.headers)["source"].decode().rsplit("/", 3)
    assert row == "0", f"row {row} of a JSON message"
    return int(partition), int(offset)


def _output(record: ConsumerRecord, source: Source, track: str, content: bytes | frozenset[str]) -> Output:
    headers = {name: value.decode() for name, value in record.headers}
    return Output(
        source, record.partition, record.offset, record.timestamp, track,
        headers.get("model", ""), headers.get("thresholds", ""), headers.get("decision-id", ""), content,
    )  # fmt: skip


def _check_accounts(found: Evidence) -> None:
    decided, dead = {d.source for d in found.decisions}, {d.source for d in found.dead}
    lost = sorted(set(found.inputs) - decided - dead)
    assert not lost, f"{len(lost)} of {len(found.inputs)} events were LOST, the first {lost[:5]}"
    both = sorted(decided & dead)
    assert not both, f"{len(both)} events were both decided and dead-lettered, the first {both[:5]}"
    strange = sorted((decided | dead) - set(found.inputs))
    assert not strange, f"{len(strange)} outputs of events that were never produced, the first {strange[:5]}"
    bad = {source for source, key in found.inputs.items() if key.startswith(BAD_KEY)}
    assert dead == bad, f"{len(bad)} broken events but {len(dead)} dead letters; differing: {sorted(dead ^ bad)[:5]}"


def _check_places(found: Evidence) -> None:
    for out in [*found.decisions, *found.scores]:
        assert out.partition == out.source[0], f"source {out.source} was written to partition {out.partition}"
    for out in [*found.decisions, *found.scores, *found.dead]:
        assert out.track == found.inputs[out.source], f"{out.source} is {found.inputs[out.source]}, not {out.track}"


def _check_identities(settings: Settings, found: Evidence) -> None:
    """Equal for the same source, model and thresholds, different for any other: recomputed from the contract."""
    for d in found.decisions:
        text = f"{settings.topic_probabilities}|{d.source[0]}|{d.source[1]}|0|{d.model}|{d.thresholds}|"
        wanted = hashlib.sha256(text.encode()).hexdigest()[:16]
        assert d.identity == wanted, f"decision-id of {d.source} is {d.identity}, not {wanted}"


def _check_order(found: Evidence) -> None:
    """Per track: each new one is later than all before, what steps back is a duplicate, and the last is the newest."""
    by_track: dict[tuple[int, str], list[int]] = defaultdict(list)
    for d in found.decisions:
        by_track[d.partition, d.track].append(d.source[1])
    for (partition, track), offsets in by_track.items():
        seen: set[int] = set()
        for offset in offsets:
            assert offset in seen or offset > max(seen, default=-1), f"{track} in {partition} out of order: {offsets}"
            seen.add(offset)
        assert offsets[-1] == max(offsets), f"the last decision of {track} in {partition} is not the newest: {offsets}"


def _check_commits(settings: Settings, found: Evidence, samples: Sequence[tuple[Offsets, Offsets]]) -> None:
    """Every offset below a committed one had all its outputs in the log when the commit was seen."""
    needs: dict[Source, list[tuple[TopicPartition, int]]] = defaultdict(list)
    for topic, outputs in (
        (settings.topic_tags, found.decisions),
        (settings.topic_scores, found.scores),
        (settings.topic_deadletter, found.dead),
    ):
        first: dict[Source, Output] = {}
        for out in outputs:
            first.setdefault(out.source, out)
        for source, out in first.items():
            needs[source].append((TopicPartition(topic, out.partition), out.position))
    reached: dict[tuple[int, int], Offsets] = {}  # (partition, committed) -> what had to be there
    for partition in {source[0] for source in needs}:
        ends: Offsets = {}
        for offset in sorted(source[1] for source in needs if source[0] == partition):
            for where, position in needs[partition, offset]:
                ends[where] = max(ends.get(where, 0), position + 1)
            reached[partition, offset + 1] = dict(ends)
    before: Offsets = {}
    for committed, ends in samples:
        for tp, offset in committed.items():
            assert offset >= before.get(tp, 0), f"the commit of {tp} went back from {before[tp]} to {offset}"
            before[tp] = offset
            for where, end in reached[tp.partition, offset].items() if offset else ():
                assert ends[where] >= end, f"{tp} was committed to {offset} with {where} at {ends[where]} of {end}"


def _check_reproducible(layout: Layout, found: Evidence, tables: Mapping[str, Mapping[str, str]]) -> None:
    """The retained scores of the same source and model under the table a decision names give its tags."""
    retained = {(out.source, out.model, out.thresholds): out.content for out in found.scores}
    groups: dict[tuple[str, str], list[Output]] = defaultdict(list)
    for d in found.decisions:
        assert (d.source, d.model, d.thresholds) in retained, f"no scores retained for {d.source} under {d.model}"
        groups[d.model, d.thresholds].append(d)
    names = np.array(layout.tags)
    for (model, version), decisions in groups.items():
        assert version in tables, f"decided under table {version}, which is not in :tables ({sorted(tables)})"
        canonical = json.dumps(tables[version], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(canonical.encode()).hexdigest()[:12] == version, f"table {version} is not its own hash"
        limits = np.array([math.inf if (text := tables[version][tag]) == "off" else float(text) for tag in names])
        rows = b"".join(retained[d.source, model, version] for d in decisions)  # type: ignore[misc]
        wins = np.frombuffer(rows, "<f2").reshape(len(decisions), -1).astype(np.float64) >= limits  # [B, T]
        for d, row in zip(decisions, wins, strict=True):
            assert d.content == frozenset(names[row].tolist()), f"{d.source} does not follow from table {version}"
