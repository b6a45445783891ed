"""A re-decide run as the entries of one stream: who asked for it, how far each partition is, and whether it is over.

One entry asks, one may cancel, and of each partition the last entry says how far it is. The stream is the only state:
whoever reads it, a worker that takes a partition over or the command that follows, comes to the same `Run`.

    kind=request   run, dry_run, who, why, model, thresholds, partitions, left
    kind=progress  run, partition, state, worker, model, thresholds, begin, end, position, counts..., error, whole, left
    kind=cancel    run, who

A worker that is killed between a decision and its scores record leaves a decision under a table that no record names.
Under the same table the next walk publishes both again. Under another one it must know of that table: `left` are those
of walks that were killed, until one comes to its end. `whole` says that a walk which did not was ended orderly.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from streamer.core.redecide import Counts

NUMBERS = ("examined", "changed", "other_models", "unexplained", "unreadable")
ENTRIES_MAX = 10_000  # of the stream: a run leaves one for each partition, and one or two more
LEFT_MAX = 16  # as many walks killed under as many tables, in one partition and without one that ended
TAGS_SHOWN_MAX = 1000  # in an entry, by tracks


class State(StrEnum):
    """Of one partition."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(slots=True)
class Progress:
    """How far one partition is: all its records from `position` on have been looked at."""

    partition: int
    state: State = State.RUNNING
    worker: str = ""
    model: str = ""
    thresholds: str = ""
    begin: int = 0
    end: int = 0
    position: int = 0
    counts: Counts = field(default_factory=Counts)
    error: str = ""
    entry: str = ""  # the id of the entry that says so
    whole: bool = False  # ended with nothing half published
    left: tuple[str, ...] = ()  # `label`s of walks that were killed before

    @property
    def share(self) -> float:
        """Of the partition that has been looked at, 0 to 1."""
        if self.state is State.DONE:
            return 1.0
        return (self.end - self.position) / max(1, self.end - self.begin)

    def in_doubt(self) -> tuple[str, ...]:
        """Under what this partition may hold decisions whose scores records name something else."""
        if self.state is not State.RUNNING or self.whole:
            return self.left
        return tuple(dict.fromkeys((*self.left, label(self.model, self.thresholds))))[-LEFT_MAX:]

    def fields(self, run: str) -> dict[str, str]:
        """As an entry."""
        counts = self.counts
        return {
            "kind": "progress",
            "run": run,
            "partition": str(self.partition),
            "state": self.state.value,
            "worker": self.worker,
            "model": self.model,
            "thresholds": self.thresholds,
            "begin": str(self.begin),
            "end": str(self.end),
            "position": str(self.position),
            **{name: str(getattr(counts, name)) for name in NUMBERS},
            "added": json.dumps(dict(counts.added.most_common(TAGS_SHOWN_MAX)), ensure_ascii=False),
            "removed": json.dumps(dict(counts.removed.most_common(TAGS_SHOWN_MAX)), ensure_ascii=False),
            "error": self.error,
            "whole": str(int(self.whole)),
            "left": " ".join(self.left),
        }

    @classmethod
    def parse(cls, entry: str, fields: Mapping[str, str]) -> "Progress":
        """Raises ValueError or KeyError for an entry that no worker has written."""
        counts = Counts(added=_by_tag(fields["added"]), removed=_by_tag(fields["removed"]))
        for name in NUMBERS:
            setattr(counts, name, int(fields[name]))
        numbers = {name: int(fields[name]) for name in ("partition", "begin", "end", "position")}
        texts = {name: fields.get(name, "") for name in ("worker", "model", "thresholds", "error")}
        whole, left = fields.get("whole") == "1", tuple(fields.get("left", "").split()[-LEFT_MAX:])
        known = {"state": State(fields["state"]), "counts": counts, "entry": entry, "whole": whole, "left": left}
        return cls(**numbers, **texts, **known)  # type: ignore[arg-type]


@dataclass(slots=True)
class Run:
    """One request and what has become of it."""

    name: str
    entry: str
    dry_run: bool
    who: str
    why: str
    model: str
    thresholds: str
    partitions: int
    cancelled: bool = False
    cancelled_by: str = ""
    progress: dict[int, Progress] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)  # entries of progress that a later one has overtaken
    left: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # by partition, by runs before this one

    @property
    def is_over(self) -> bool:
        if self.cancelled:
            return True
        ended = [one for one in self.progress.values() if one.state is not State.RUNNING]
        return len(ended) >= self.partitions

    def in_doubt(self) -> dict[int, tuple[str, ...]]:
        """By partition, what a walk that begins now must know of; see above."""
        found = dict(self.left)
        for partition, one in self.progress.items():
            found[partition] = one.left if self.dry_run else one.in_doubt()
        return {partition: left for partition, left in found.items() if left}

    @property
    def counts(self) -> Counts:
        """Of all partitions together."""
        total = Counts()
        for one in self.progress.values():
            total.add(one.counts)
        return total

    @property
    def share(self) -> float:
        """Of the whole that has been looked at, weighed by the partitions' sizes as far as they are known."""
        sizes = {one.partition: max(1, one.end - one.begin) for one in self.progress.values()}
        usual = sum(sizes.values()) / len(sizes) if sizes else 1
        whole = sum(sizes.values()) + usual * max(0, self.partitions - len(sizes))
        return sum(sizes[one.partition] * one.share for one in self.progress.values()) / whole


def label(model: str, thresholds: str) -> str:
    """A model and a table in one word."""
    return f"{model}/{thresholds}"


def _by_tag(text: str) -> Counter[str]:
    return Counter({str(tag): int(tracks) for tag, tracks in json.loads(text).items()})


def newest_run(entries: Iterable[tuple[str, Mapping[str, str]]]) -> Run | None:
    """The run that was asked for last, from entries in their order. What is none of ours is passed over."""
    run: Run | None = None
    for entry, fields in entries:
        kind = fields.get("kind")
        try:
            if kind == "request":
                run = _request(entry, fields)
            elif run is None or fields.get("run") != run.name:
                continue
            elif kind == "cancel":
                run.cancelled, run.cancelled_by = True, fields.get("who", "")
            elif kind == "progress":
                progress = Progress.parse(entry, fields)
                if progress.partition in run.progress:
                    run.stale.append(run.progress[progress.partition].entry)
                run.progress[progress.partition] = progress
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):  # somebody else's hand
            continue
    return run


def _request(entry: str, fields: Mapping[str, str]) -> Run:
    left = {int(partition): tuple(map(str, one)) for partition, one in json.loads(fields.get("left", "{}")).items()}
    return Run(
        fields["run"], entry, fields["dry_run"] == "1", fields.get("who", ""), fields.get("why", ""),
        fields["model"], fields["thresholds"], int(fields["partitions"]), left=left,
    )  # fmt: skip
