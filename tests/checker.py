"""What a stream must have kept, read back from Kafka by somebody who took no part in it.

For every input offset: decided or dead-lettered at least once, never both; scores retained, and those that the model
gives; duplicates recognisable by their decision-id; order kept per track, the newest last in both compacted topics;
withdrawals followed; dead letters untouched; written to the partition number it came from; reproducible from the
retained scores and a valid stored table; and no offset ever committed before its outputs were in the log.

What is read is in `tests.evidence`, what must hold of it in `tests.checks` and `tests.checks_content`. What does not
hold is a `Violation` that names its kind.
"""

import asyncio
import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import partition_count
from streamer.core.errors import TagstreamError
from streamer.core.layout import Layout
from streamer.settings import Settings
from tests.checks import (
    check_accounts,
    check_commits,
    check_dead_letters,
    check_identities,
    check_order,
    check_places,
)
from tests.checks_content import Offline, Score, Table, check_reproducible, check_scores, check_tables, offline
from tests.evidence import Evidence, Offsets, Output, Sample, gather

SAMPLE_S = 0.25


@dataclass
class Report:
    """What was found; `decisions` for the tests that look closer."""

    inputs: int
    decided: int
    dead: int
    duplicates: int
    commits_sampled: int
    decisions: list[Output] = field(repr=False)
    found: Evidence = field(repr=False)
    duplicates_by_partition: Counter[int] = field(default_factory=Counter)
    withdrawn: int = 0
    redecided: int = 0  # decisions that a re-decide run has made anew
    unfinished: int = 0  # decisions whose worker ended before it retained the scores; decided again since

    def line(self) -> str:
        """For people."""
        return (
            f"in {self.inputs:,} = decided {self.decided:,} + dead {self.dead:,} + withdrawn {self.withdrawn:,}; "
            f"duplicates {self.duplicates:,}; unfinished {self.unfinished:,}; re-decided {self.redecided:,}; "
            f"longest pause {self.longest_pause_s():.2f} s; commits sampled {self.commits_sampled}"
        )

    def longest_pause_s(self, since_ms: float = 0, until_ms: float = math.inf) -> float:
        """The longest time without a new decision inside this span of time; a re-decision is none."""
        times = sorted(d.at_ms for d in self.decisions if since_ms <= d.at_ms <= until_ms and not d.redecided)
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
        self.samples: list[Sample] = []
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
            async with self._connected() as look:
                self.samples.append(await look())

        asyncio.run(once())

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                async with self._connected() as look:
                    while not self._stop.is_set():
                        self.samples.append(await look())
                        await asyncio.sleep(SAMPLE_S)
            except (KafkaError, TagstreamError, OSError, TimeoutError):
                await asyncio.sleep(SAMPLE_S)  # no broker or no group yet: some tests want it so

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Callable[[], Awaitable[Sample]]]:
        """Takes samples over connections that stay: they are many, and the machine is to test the workers."""
        ours, options = self._settings, client_options(self._settings)
        outputs = ours.topic_tags, ours.topic_scores, ours.topic_deadletter
        async with running(Admin(**options), ours) as admin, running(AIOKafkaConsumer(**options), ours) as consumer:
            places = [TopicPartition(name, n) for name in outputs for n in range(await partition_count(ours, name))]

            async def look() -> Sample:
                committed = await admin.list_consumer_group_offsets(ours.group)
                ends = await consumer.end_offsets(places)  # after what is committed: what is missing then was missing
                return {tp: meta.offset for tp, meta in committed.items() if meta.offset >= 0}, ends

            yield look


async def end_offsets(settings: Settings, topics: Sequence[str]) -> Offsets:
    """Where each partition of these topics ends now."""
    partitions = [TopicPartition(name, n) for name in topics for n in range(await partition_count(settings, name))]
    async with running(AIOKafkaConsumer(**client_options(settings)), settings) as consumer:
        return await consumer.end_offsets(partitions)


def check(
    settings: Settings,
    layout: Layout,
    samples: Sequence[Sample],
    tables: Mapping[str, Table],
    *,
    models_dir: Path | None = None,
    written: Collection[str] | None = None,
    permitted: Mapping[str, str] | None = None,
) -> Report:
    """Read all of it and hold it against the contract.

    Args:
        settings: of the stream.
        layout: its vocabulary.
        samples: what a `Sampler` saw while it ran.
        tables: the stored tables by version, those that Redis has lost meanwhile included.
        models_dir: where whole artefacts of the models are, if not (or not whole any more) in the stream's folder.
        written: every thresholds version that follows from what was written, where the test knows them all
            (`checks_content.effective` and `version_of` say which): a worker that decides under another made it up.
        permitted: prefixes of keys whose events a refusing output topic may turn into dead letters, and the only
            `error.code` that these may have, as in `{"large-": "output-refused"}`.

    Raises:
        Violation: naming its kind.
    """
    found = asyncio.run(gather(settings))
    score = offline(settings.models_dir if models_dir is None else models_dir)
    return judge(found, layout, samples, tables, score=score, written=written, permitted=permitted)


def judge(
    found: Evidence,
    layout: Layout,
    samples: Sequence[Sample],
    tables: Mapping[str, Table],
    *,
    score: Score,
    written: Collection[str] | None = None,
    permitted: Mapping[str, str] | None = None,
) -> Report:
    """`check` without Kafka and files: the rough before the fine, so that the first violation says the most."""
    check_accounts(found, permitted or {})
    check_dead_letters(found)
    check_places(found)
    check_tables(layout, found, tables, written)
    check_identities(found)
    firsts = check_order(found)
    check_commits(found, firsts, samples)
    wanted = Offline(layout, found, score)
    check_scores(found, wanted)
    unfinished = check_reproducible(layout, found, tables, wanted)
    first_hand = [out for out in found.decisions if not out.redecided]
    surplus = Counter(out.partition for out in first_hand)
    surplus.subtract(Counter(source[0] for source in {out.source for out in first_hand}))
    outputs = [out.source for out in [*first_hand, *found.dead]]
    return Report(
        inputs=len(found.inputs),
        decided=len({d.source for d in found.decisions}),
        dead=len({d.source for d in found.dead}),
        duplicates=len(outputs) - len(set(outputs)),
        commits_sampled=len(samples),
        decisions=found.decisions,
        found=found,
        duplicates_by_partition=surplus,
        redecided=len(found.decisions) - len(first_hand),
        withdrawn=sum(event.body is None for event in found.inputs.values()),
        unfinished=unfinished,
    )
