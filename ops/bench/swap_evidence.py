"""What the decisions of a run say about its swaps: how soon each worker decided by each table, and whether wholly.

A micro-batch is told by its worker and its `decided_at`, which all of its decisions share. Each decision is held
against its retained scores and the table that it names. Knows decisions, scores and tables; knows no Kafka.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from streamer.core.thresholds import ThresholdTable


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision as it was read from the topic."""

    worker: str
    partition: int  # with the offset: its input
    offset: int
    version: str
    at_ms: float
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Swap:
    """One table that was written, and when, just before."""

    version: str
    written_ms: float


def at_ms(text: str) -> float:
    """The moment of a `decided_at`."""
    return datetime.fromisoformat(text).timestamp() * 1000


def latencies_ms(swaps: Sequence[Swap], decided: Sequence[Decided]) -> dict[str, list[float | None]]:
    """By worker, for each swap the time from its write to the worker's first decision by it; None where it has none.

    `decided_at` is in whole milliseconds, rounded down, so the end of that millisecond counts.
    """
    first: dict[tuple[str, str], float] = {}
    for one in decided:
        key = one.worker, one.version
        first[key] = min(one.at_ms, first.get(key, one.at_ms))
    found: dict[str, list[float | None]] = {}
    for worker in sorted({one.worker for one in decided}):
        times = [first.get((worker, swap.version)) for swap in swaps]
        found[worker] = [
            None if time is None else max(0.0, time + 1 - swap.written_ms)
            for time, swap in zip(times, swaps, strict=True)
        ]
    return found


def mixed_batches(decided: Sequence[Decided]) -> int:
    """How many micro-batches name more than one table, and how often a partition went back to an earlier one."""
    batches: dict[tuple[str, float], set[str]] = defaultdict(set)
    turns: dict[int, list[str]] = defaultdict(list)
    for one in decided:
        batches[one.worker, one.at_ms].add(one.version)
        if not turns[one.partition] or turns[one.partition][-1] != one.version:
            turns[one.partition].append(one.version)
    went_back = sum(len(versions) - len(set(versions)) for versions in turns.values())
    return sum(len(versions) > 1 for versions in batches.values()) + went_back


def unexplained(
    decided: Sequence[Decided],
    scores: Mapping[tuple[int, int], NDArray[np.float16]],
    tables: Mapping[str, ThresholdTable],
) -> int:
    """How many decisions are not what their retained scores `[T]` (by input) give under the table they name."""
    wrong = 0
    by_version: dict[str, list[Decided]] = defaultdict(list)
    for one in decided:
        if one.version in tables and (one.partition, one.offset) in scores:
            by_version[one.version].append(one)
        else:
            wrong += 1
    for version, mine in by_version.items():
        table = tables[version]
        number = {tag: place for place, tag in enumerate(table.tags)}
        kept = np.stack([scores[one.partition, one.offset] for one in mine])
        wanted = kept.astype(np.float64) >= table.values  # [B, T]
        named = np.zeros_like(wanted)
        for row, one in enumerate(mine):
            named[row, [number[tag] for tag in one.tags]] = True
        wrong += int((wanted != named).any(axis=1).sum())
    return wrong
