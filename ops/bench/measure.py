"""One run of one system: started on its core, watched from outside until all is published and committed, read back.

The figures come from Kafka and from the operating system, not from the system under test: the end offsets of its
output topic, the committed offsets of its group, the CPU seconds of its process.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ops.bench.environment import ForeignLoad, cpu_s
from ops.bench.peers import Lane, Start
from ops.bench.systems.job import COMMITTED_FILE
from ops.errors import OpsError
from ops.kafka_io import read_topic
from ops.local.process import LocalProcess
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.settings import Settings

POLL_INTERVAL_S = 0.02
STALL_TIMEOUT_S = 60.0  # without one more output or commit: it will not end
TERMINATE_TIMEOUT_S = 15.0
LOG_TAIL_CHARACTERS = 2_000


@dataclass(frozen=True)
class Run:
    """What one run did between its first and its last output; that all was committed then has been waited for."""

    events_per_s: float
    cpu_us_per_event: float
    services_cpu_us_per_event: float  # of our own Kafka and Redis
    seconds: float
    outputs: int
    foreign_cores: float  # kept busy meanwhile by what has nothing to do with the run


@dataclass(frozen=True)
class _Moment:
    at_s: float
    outputs: int
    cpu_s: float
    services_s: float


class _PeerProcess(LocalProcess):
    """A system's process, guarded: it ends with this one, even when that is killed."""

    title = "the system under test"

    def __init__(self, start: Start, folder: Path) -> None:
        super().__init__(folder=folder, die_with_parent=True)
        self._start = start

    def command(self) -> list[str]:
        return self._start.command

    def environment(self) -> dict[str, str] | None:
        return self._start.full_environment()


@contextmanager
def launched(starts: Sequence[Start], folder: Path, core: int | None) -> Iterator[list[_PeerProcess]]:
    """The system's processes, kept on `core` if one is given, ended with the block."""
    processes = [_PeerProcess(start, folder / f"process-{number}") for number, start in enumerate(starts, 1)]
    try:
        for process in processes:
            process.start()
            if core is not None and process.pid is not None:
                os.sched_setaffinity(process.pid, [core])  # before it has threads: they inherit it
        yield processes
    finally:
        for process in processes:
            process.terminate(TERMINATE_TIMEOUT_S)


@dataclass(frozen=True)
class Course:
    """What a run is to get through: tracks, and the records they lie in; how its end is seen, and who else is ours."""

    tracks: int
    records: int
    core: int | None = None
    ends: bool = False  # tells by a file that it has committed all, instead of in a consumer group
    services: Sequence[int] = ()  # pids of our Kafka and Redis
    at_first: Callable[[list[int]], None] = lambda _pids: None  # called when the first output is there
    before_end: Callable[[], None] = lambda: None  # called when all is committed, with the processes still there


async def measure(
    settings: Settings, starts: Sequence[Start], lane: Lane, course: Course, on_progress: Callable[[int], None]
) -> Run:
    """Run a system, of one process or of several, over the whole input topic.

    Raises:
        OpsError: when a process ends or none makes progress, with the end of its log.
    """
    tracks = course.tracks
    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False)
    async with running(consumer, settings), running(Admin(**client_options(settings)), settings) as admin:
        partitions = await _partitions(consumer, lane.tags)
        with launched(starts, lane.folder, course.core) as processes:
            pids = [process.pid for process in processes if process.pid]
            foreign = ForeignLoad([*course.services, *pids])
            first: _Moment | None = None
            before = last = _Moment(time.perf_counter(), 0, 0.0, 0.0)
            heard_at, seen = time.monotonic(), (0, 0)
            while True:
                outputs = sum((await consumer.end_offsets(partitions)).values())
                committed = await _committed(admin, lane, course) if outputs else 0
                used_s = sum(map(cpu_s, pids)) or last.cpu_s
                before = before if outputs else last
                if last.outputs < tracks:
                    last = _Moment(time.perf_counter(), outputs, used_s, sum(map(cpu_s, course.services)))
                if first is None and outputs:
                    first, foreign = last, ForeignLoad([*course.services, *pids])
                    course.at_first(pids)
                on_progress(min(outputs, tracks))
                if outputs >= tracks and committed >= course.records:
                    break
                if (outputs, committed) != seen:
                    heard_at, seen = time.monotonic(), (outputs, committed)
                if not (course.ends and (lane.folder / COMMITTED_FILE).exists()):  # else seen in the next round
                    _check_alive(processes, heard_at, f"{outputs:,} of {tracks:,} published, {committed:,} committed")
                await asyncio.sleep(POLL_INTERVAL_S)
            foreign_cores = foreign.cores()
            course.before_end()
        # So few events that all were out at the first look: then from the look before it.
        return _figures(first if first and first.outputs < last.outputs else before, last, foreign_cores)


def _figures(first: _Moment, last: _Moment, foreign_cores: float) -> Run:
    seconds, outputs = last.at_s - first.at_s, last.outputs - first.outputs
    if outputs <= 0 or seconds <= 0:
        raise OpsError("the run was over before it could be timed: give it more --events.")
    return Run(
        events_per_s=outputs / seconds,
        cpu_us_per_event=(last.cpu_s - first.cpu_s) / outputs * 1e6,
        services_cpu_us_per_event=(last.services_s - first.services_s) / outputs * 1e6,
        seconds=seconds,
        outputs=last.outputs,
        foreign_cores=foreign_cores,
    )


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.end_offsets([TopicPartition(topic, 0)])  # makes the client learn the topic
    return [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]


async def _committed(admin: Admin, lane: Lane, course: Course) -> int:
    if course.ends:
        return course.records if (lane.folder / COMMITTED_FILE).exists() else 0
    try:
        offsets = await admin.list_consumer_group_offsets(lane.group)
    except KafkaError:
        return 0  # the group's coordinator is not there yet
    return sum(max(0, o.offset) for partition, o in offsets.items() if partition.topic == lane.source)


def _check_alive(processes: Sequence[_PeerProcess], heard_at: float, progress: str) -> None:
    ended = [process for process in processes if not process.is_running()]
    if ended or time.monotonic() - heard_at > STALL_TIMEOUT_S:
        tail = (ended or processes)[0].log_path.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:].strip()
        what = "ended by itself" if ended else f"made no progress for {STALL_TIMEOUT_S:.0f} s"
        raise OpsError(f"the system under test {what} with {progress}: {tail}")


async def read_decisions(settings: Settings, lane: Lane) -> dict[str, frozenset[str]]:
    """The last decision of every track: its tags."""
    decided: dict[str, frozenset[str]] = {}
    async for record in read_topic(settings, lane.tags, from_start=True, follow=False):
        if record.value is not None:
            decision = orjson.loads(record.value)
            decided[decision["track_id"]] = frozenset(tag for names in decision["tags"].values() for tag in names)
    return decided
