"""What must hold of accounts, places, ids, order and commits: functions of the evidence that raise `Violation`."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from aiokafka import TopicPartition

from tests.evidence import (
    BAD_KEY,
    DeadLetter,
    Evidence,
    Input,
    Kind,
    Output,
    Sample,
    Source,
    Tombstone,
    Violation,
    few,
    row_of_letter,
)

Firsts = dict[Source, tuple[int, int]]  # source -> partition and offset of the first output that it has

ADDED_HEADERS = {"error.code", "error.message", "error.field", "source", "worker", "failed_at", "attempt"}


def check_accounts(found: Evidence, permitted: Mapping[str, str]) -> None:
    """Every event is decided or dead-lettered, none both, and nothing comes from nowhere.

    `permitted`: prefixes of keys that may be dead-lettered though they are whole, and the code that they must carry.
    """
    events = {source for source, event in found.inputs.items() if event.body is not None}
    decided, dead = {d.source for d in found.decisions}, {d.source for d in found.dead}
    _none(Kind.STRANGE, (decided | dead | {s.source for s in found.scores}) - events, "outputs of no event")
    lost = events - decided - dead
    _none(Kind.LOST, lost, f"of {len(events)} events were lost")
    _none(Kind.TWICE, decided & dead, "events were both decided and dead-lettered")
    bad = {source for source in events if found.inputs[source].key.startswith(BAD_KEY)}
    _none(Kind.WRONGLY_DEAD, bad - dead, "broken events were decided")
    wrongly = {d.source for d in found.dead if d.source not in bad and not _is_permitted(d, permitted)}
    _none(Kind.WRONGLY_DEAD, wrongly, "whole events were dead-lettered")
    _none(Kind.STRANGE, {s.source for s in found.scores} & bad, "scores of broken events")


def _none(kind: Kind, strange: set, what: str) -> None:
    if strange:
        raise Violation(kind, f"{what}: {few(strange)}")


def _is_permitted(letter: DeadLetter, permitted: Mapping[str, str]) -> bool:
    return any(letter.key.startswith(prefix) and letter.code == code for prefix, code in permitted.items())


def check_dead_letters(found: Evidence) -> None:
    """Key, value and headers as they came, and then the reasons; of a row of a bulk message that row, and its track."""
    for letter in found.dead:
        event = found.inputs[letter.source]
        original = tuple(header for header in event.headers if header[0] != "attempt")
        same = letter.value == event.value
        if event.in_bulk:
            same = row_of_letter(letter) == (event.key, event.body)
        if letter.key != event.key or not same:
            raise Violation(
                Kind.CHANGED, f"{letter.source}: {letter.key} {letter.value!r} was {event.key} {event.value!r}"
            )
        if letter.headers[: len(original)] != original:
            raise Violation(Kind.CHANGED, f"{letter.source}: the headers {letter.headers} began as {original}")
        added = dict(letter.headers[len(original) :])
        if set(added) != ADDED_HEADERS or not (added["error.code"] and added["error.message"] and added["worker"]):
            raise Violation(Kind.CHANGED, f"{letter.source}: the reasons are {added}")


def check_places(found: Evidence) -> None:
    """Written to the partition number it came from, under the key of its input."""
    for out in [*found.decisions, *found.scores]:
        if out.partition != out.source[0]:
            raise Violation(Kind.MISPLACED, f"source {out.source} was written to partition {out.partition}")
        if out.track != found.inputs[out.source].key:
            raise Violation(Kind.MISPLACED, f"{out.source} is {found.inputs[out.source].key}, not {out.track}")


def check_identities(found: Evidence) -> None:
    """Equal for the same source, model and thresholds, different for any other: recomputed from the contract."""
    for d in found.decisions:
        partition, offset, row = d.source
        text = f"{found.topics[0]}|{partition}|{offset}|{row}|{d.model}|{d.thresholds}|{d.redecided}"
        wanted = hashlib.sha256(text.encode()).hexdigest()[:16]
        if d.identity != wanted:
            raise Violation(Kind.WRONG_ID, f"decision-id of {d.source} is {d.identity}, not {wanted}")


# Order ---------------------------------------------------------------------------------------------------------------


class Track:
    """What one key was given, and how far one compacted topic has followed. Ranks count from 0 along the inputs."""

    __slots__ = ("gone", "highest", "inputs", "last", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[tuple[int, bool]] = []  # offset, and whether it is a withdrawal
        self.highest = -1
        self.last = -1
        self.gone = -1  # the newest withdrawal that was followed

    def event(self, rank: int) -> bool:
        """The output of this input came; whether it is the first of it."""
        if rank > self.highest + 1:
            raise Violation(
                Kind.OUT_OF_ORDER,
                f"{self.name}: offset {self.inputs[rank][0]} came before {self.inputs[self.highest + 1][0]}",
            )
        first = rank > self.highest
        self.highest, self.last = max(self.highest, rank), rank
        return first

    def tombstone(self) -> int:
        """A tombstone came: the offset of the withdrawal that it is the first of, or -1.

        It names no source. Taken for the next withdrawal where one is next, for a repeated one otherwise: no true
        history is refused for that.
        """
        if self.highest + 1 < len(self.inputs) and self.inputs[self.highest + 1][1]:
            self.highest = self.last = self.gone = self.highest + 1
            return self.inputs[self.last][0]
        if self.gone < 0:
            raise Violation(Kind.STRANGE, f"{self.name}: a tombstone that nobody asked for yet")
        self.last = self.gone
        return -1


def check_order(found: Evidence) -> tuple[Firsts, Firsts]:
    """Per track, in tags and in scores: each new one follows the one before, and the last is of the newest input.

    What steps back is a duplicate. Returns where each input first shows in tags and in scores.
    """
    tags = _walk(found, "tags", found.decisions, found.gone_tags)
    scores = _walk(found, "scores", found.scores, found.gone_scores)
    _check_agreement(found)
    return tags, scores


def _walk(found: Evidence, topic: str, outputs: Sequence[Output], stones: Sequence[Tombstone]) -> Firsts:
    tracks: dict[tuple[int, str], Track] = {}
    ranks: dict[Source, int] = {}
    dead = {letter.source for letter in found.dead}
    for source in sorted(found.inputs.keys() - dead):
        event: Input = found.inputs[source]
        track = tracks.setdefault((source[0], event.key), Track(f"{event.key} in {topic}/{source[0]}"))
        ranks[source] = len(track.inputs)
        track.inputs.append((source[1], event.body is None))
    firsts: Firsts = {}
    for out in sorted([*outputs, *stones], key=lambda out: (out.partition, out.position)):
        track = tracks.get((out.partition, out.track))
        if isinstance(out, Output):
            if out.redecided and track is not None and ranks.get(out.source) != track.highest:
                raise Violation(
                    Kind.OUT_OF_ORDER, f"{track.name}: run {out.redecided} re-decided {out.source}, not the newest"
                )
            if out.source in ranks and track is not None and track.event(ranks[out.source]):
                firsts[out.source] = out.partition, out.position
        elif track is None:
            raise Violation(Kind.STRANGE, f"a tombstone of {out.track} in {topic}/{out.partition}")
        elif (offset := track.tombstone()) >= 0:
            firsts[out.partition, offset, 0] = out.partition, out.position
    _check_ends(tracks)
    return firsts


def _check_ends(tracks: Mapping[tuple[int, str], Track]) -> None:
    for track in tracks.values():
        newest = len(track.inputs) - 1
        if track.highest < newest:
            missing, is_withdrawal = track.inputs[track.highest + 1]
            kind = Kind.LOST if is_withdrawal else Kind.NO_SCORES  # a decision that is missing was told before
            raise Violation(kind, f"{track.name}: nothing of offset {missing}")
        if track.last != newest:
            last, wanted = track.inputs[track.last][0], track.inputs[newest][0]
            raise Violation(Kind.NOT_NEWEST, f"{track.name}: the last is of offset {last}, the newest is {wanted}")


def _check_agreement(found: Evidence) -> None:
    """What compaction would keep of a track in both topics was made together."""
    last_decision, last_scores = newest(found.decisions), newest(found.scores)
    withdrawn = {(stone.partition, stone.track): stone.position for stone in found.gone_tags}
    for track, decision in last_decision.items():
        if withdrawn.get(track, -1) > decision.position:
            continue  # compaction keeps neither: what was under way when the withdrawal came need not be finished
        scores = last_scores.get(track)
        if scores is None or (decision.source, decision.model, decision.thresholds) != (
            scores.source, scores.model, scores.thresholds,
        ):  # fmt: skip
            if scores is not None and scores.source != decision.source:
                continue  # a later event whose decision was refused: its scores may be there
            if scores is not None and decision.redecided and scores.model == decision.model:
                continue  # a re-decision that was broken off in between: `check_redecided` says whether it was finished
            raise Violation(Kind.NO_SCORES, f"{track}: the last decision is {decision}, the last scores are {scores}")


def newest(outputs: Sequence[Output]) -> dict[tuple[int, str], Output]:
    """By partition and track, the last record."""
    last: dict[tuple[int, str], Output] = {}
    for out in outputs:
        before = last.get((out.partition, out.track))
        if before is None or out.position > before.position:
            last[out.partition, out.track] = out
    return last


# Commits -------------------------------------------------------------------------------------------------------------


def check_commits(found: Evidence, firsts: tuple[Firsts, Firsts], samples: Sequence[Sample]) -> None:
    """Every offset below a committed one had all its outputs in the log when the commit was seen; none went back."""
    needed = _needed(found, firsts)
    _check_they_go_on(found, samples)
    for committed, ends in samples:
        for tp, offset in committed.items():
            offsets, columns = needed.get(tp.partition, (np.empty(0, np.int64), {}))
            below = int(np.searchsorted(offsets, offset))
            for where, reach in columns.items() if below else ():
                if ends[where] < reach[below - 1]:
                    raise Violation(
                        Kind.COMMITTED_EARLY,
                        f"{tp} was committed to {offset} with {where} at {ends[where]} of {reach[below - 1]}",
                    )


def _check_they_go_on(found: Evidence, samples: Sequence[Sample]) -> None:
    """By Kafka's own log of commits, where it can be read.

    Answers may go back though no commit does: who coordinates the group anew answers by what it knows to be on all
    copies, which a follower hears a little later.
    """
    commits: dict[object, list[int]] = defaultdict(list)
    if found.commits is not None:
        commits.update(found.commits)
    else:
        for committed, _ in samples:
            for tp, offset in committed.items():
                commits[tp].append(offset)
    for where, offsets in commits.items():
        for before, after in pairwise(offsets):
            if after < before:
                raise Violation(Kind.COMMIT_WENT_BACK, f"the commit of {where} went from {before} to {after}")


def _needed(
    found: Evidence, firsts: tuple[Firsts, Firsts]
) -> dict[int, tuple[np.ndarray, dict[TopicPartition, np.ndarray]]]:
    """By input partition: its offsets [N], and how far each output partition must reach once they are done [N]."""
    _, tags, scores, deadletter = found.topics
    dead: Firsts = {}
    for letter in found.dead:
        dead.setdefault(letter.source, (letter.partition, letter.position))
    by_partition: dict[int, set[int]] = defaultdict(set)
    for partition, offset, _ in found.inputs:
        by_partition[partition].add(offset)
    needed: dict[int, tuple[np.ndarray, dict[TopicPartition, np.ndarray]]] = {
        partition: (np.array(sorted(offsets), np.int64), {}) for partition, offsets in by_partition.items()
    }
    for topic, places in ((tags, firsts[0]), (scores, firsts[1]), (deadletter, dead)):
        pairs: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        for (partition, offset, _), (to, position) in places.items():
            pairs[partition, to].append((offset, position + 1))
        for (partition, to), reached in pairs.items():
            offsets, columns = needed[partition]
            done, ends = np.array(reached, np.int64).T
            column = np.zeros(len(offsets), np.int64)
            np.maximum.at(column, np.searchsorted(offsets, done), ends)  # of a bulk message its last row
            columns[TopicPartition(topic, to)] = np.maximum.accumulate(column)
    return needed
