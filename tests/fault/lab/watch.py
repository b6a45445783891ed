"""Reads along while the stream runs: every record of the four topics, and each commit as it is seen.

An offset that is committed before its outputs are in the log, or a stream that no longer moves, is found while it
happens, with what was seen, and ends the run. What it has read is also where the figures of the report come from.
"""

import asyncio
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from streamer.adapters.kafka_client import client_options, running
from streamer.core.errors import TagstreamError
from tests.evidence import Source, bulk_rows
from tests.harness import PARTITIONS, Stream

POLL_MS = 100
MAX_POLL_RECORDS = 2_000
STALLED_S = 90.0  # without a commit while there is something to decide; no fault lasts that long

Place = tuple[str, int, int]  # topic, partition and offset of an output


@dataclass
class Seen:
    """One input and what has come of it so far."""

    at_ms: int
    withdrawn: bool
    done_ms: int = 0  # its first decision or dead letter; 0: none yet
    places: dict[str, Place] = field(default_factory=dict)  # by topic, the first


class Watch:
    """Runs in a thread of its own from `start` to `stop`; `violation` says what was seen, empty while all is well."""

    def __init__(self, stream: Stream) -> None:
        self.violation = ""
        self.inputs: dict[Source, Seen] = {}
        self.commits: list[tuple[float, int]] = []  # wall ms, committed offsets in all
        self._stream = stream
        self._names = stream.settings
        self._ends: dict[TopicPartition, int] = defaultdict(int)  # read up to
        self._early: dict[Source, list[tuple[int, Place]]] = defaultdict(list)  # outputs read before their input
        self._rows: dict[tuple[int, int], int] = {}  # by partition and offset: how many tracks came in a bulk message
        self._samples_done = 0
        self._checked: dict[int, int] = defaultdict(int)  # partition -> offsets held against a commit
        self._moved: dict[int, tuple[int, float]] = {}  # partition -> committed, since when
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Read what there is and end."""
        self._stop.set()
        self._thread.join(60)

    def decided(self) -> int:
        """Inputs that have come to something."""
        return sum(1 for seen in list(self.inputs.values()) if seen.done_ms)

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except BaseException as error:
            self.violation = self.violation or f"the laboratory's own watch failed: {error!r}"

    async def _follow(self) -> None:
        while not self._stop.is_set():
            consumer = AIOKafkaConsumer(
                **client_options(self._names), enable_auto_commit=False, auto_offset_reset="earliest",
                max_poll_records=MAX_POLL_RECORDS,
            )  # fmt: skip
            try:
                async with running(consumer, self._names):
                    await self._read(consumer)
            except (KafkaError, TagstreamError, OSError, TimeoutError):
                await asyncio.sleep(0.5)  # no broker just now

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        ours = self._names
        topics = (ours.topic_probabilities, ours.topic_tags, ours.topic_scores, ours.topic_deadletter)
        partitions = [TopicPartition(name, number) for name in topics for number in range(PARTITIONS)]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, self._ends[partition])
        while not self._stop.is_set():
            found = await consumer.getmany(timeout_ms=POLL_MS)
            for partition, records in found.items():
                for record in records:
                    self._take(partition.topic, record)
                self._ends[partition] = records[-1].offset + 1
            self._hold_commits()
            self._look_for_a_stall()

    def _take(self, topic: str, record: ConsumerRecord) -> None:
        if topic == self._names.topic_probabilities:
            table = bulk_rows(record.key, record.value, record.headers)
            if table is not None:
                self._rows[record.partition, record.offset] = table.num_rows
            for row in range(1 if table is None else table.num_rows):
                source = record.partition, record.offset, row
                seen = self.inputs[source] = Seen(record.timestamp, withdrawn=record.value is None)
                for at_ms, place in self._early.pop(source, ()):
                    _note(seen, at_ms, place, topic_scores=self._names.topic_scores)
        elif record.value is not None or topic == self._names.topic_deadletter:  # a tombstone names no source
            source = _source(topic == self._names.topic_tags, record)
            place = topic, record.partition, record.offset
            if source in self.inputs:
                _note(self.inputs[source], record.timestamp, place, topic_scores=self._names.topic_scores)
            else:
                self._early[source].append((record.timestamp, place))

    def _hold_commits(self) -> None:
        """Each commit once, as soon as everything has been read that was in the log when it was seen."""
        samples = self._stream.sampler.samples
        while self._samples_done < len(samples) and not self.violation:
            committed, ends = samples[self._samples_done]
            if any(self._ends[tp] < end for tp, end in ends.items()):
                return
            if any(self._ends[TopicPartition(self._names.topic_probabilities, tp.partition)] < offset
                   for tp, offset in committed.items()):  # fmt: skip
                return
            self._samples_done += 1
            self.commits.append((time.time() * 1000, sum(committed.values())))
            for tp, offset in committed.items():
                for number in range(self._checked[tp.partition], offset):
                    for row in range(self._rows.get((tp.partition, number), 1)):
                        self._hold((tp.partition, number, row), offset, ends)
                self._checked[tp.partition] = max(self._checked[tp.partition], offset)

    def _hold(self, source: Source, committed: int, ends: dict[TopicPartition, int]) -> None:
        seen = self.inputs[source]
        if seen.withdrawn:
            return
        ours = self._names
        there = {topic for topic, partition, offset in seen.places.values()
                 if offset < ends[TopicPartition(topic, partition)]}  # fmt: skip
        if not (ours.topic_deadletter in there or {ours.topic_tags, ours.topic_scores} <= there):
            what = "nothing" if not there else " and ".join(sorted(there))
            self.violation = (
                f"partition {source[0]} was committed to {committed} with only {what} of offset {source[1]} row "
                f"{source[2]} in the log (ends {ends}, its outputs so far {seen.places})"
            )

    def _look_for_a_stall(self) -> None:
        now_s = time.monotonic()
        for partition in range(PARTITIONS):
            committed = self._checked[partition]
            waiting = committed < self._ends[TopicPartition(self._names.topic_probabilities, partition)]
            before, since_s = self._moved.get(partition, (-1, now_s))
            if committed != before or not waiting:
                self._moved[partition] = committed, now_s
            elif now_s - since_s > STALLED_S and not self.violation:
                self.violation = f"partition {partition} stands at {committed} for {STALLED_S:g} s with events waiting"


def _note(seen: Seen, at_ms: int, place: Place, *, topic_scores: str) -> None:
    seen.places.setdefault(place[0], place)
    if not seen.done_ms and place[0] != topic_scores:
        seen.done_ms = at_ms


def _source(is_decision: bool, record: ConsumerRecord) -> Source:
    if is_decision:
        named = orjson.loads(record.value)["source"]
        return named["partition"], named["offset"], named["row"]
    text = [value for name, value in record.headers if name == "source"][-1].decode()
    _, partition, offset, row = text.rsplit("/", 3)
    return int(partition), int(offset), int(row)
