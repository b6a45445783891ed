"""What decisions and scores say, against what they were made of: the input, the model, the stored table.

Each different combination of contents is worked out once, apart from the stream: scores by the model's own artefact
offline, tags by comparing numbers here.
"""

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from model.artifact import load
from model.errors import ModelError
from streamer.core.layout import CLASSES, Layout
from tests.checks import newest
from tests.evidence import Evidence, Input, Kind, Output, Source, Violation, few

CANONICAL = re.compile(r"0\.[0-9]{6}|1\.000000|off")
VERSION_CHARACTERS = 12

Table = Mapping[str, str]  # tag -> text
Score = Callable[[str, NDArray[np.float32]], NDArray[np.float16]]  # of a model's version: [B, F] -> [B, T]


def canonical(table: Table) -> str:
    """The very JSON that is hashed."""
    return json.dumps(dict(table), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def version_of(table: Table) -> str:
    """The thresholds version."""
    return hashlib.sha256(canonical(table).encode()).hexdigest()[:VERSION_CHARACTERS]


def effective(tuned: Mapping[str, object], live: Mapping[str, object]) -> dict[str, str]:
    """The table that a live hash means, worked out apart from the product: for whoever writes hashes in a test."""
    texts = {tag: str(live.get(tag, value)) for tag, value in tuned.items()}
    return {tag: text if text == "off" else f"{Decimal(text):.6f}" for tag, text in texts.items()}


def offline(models_dir: Path) -> Score:
    """Scores of an artefact in this folder, loaded and verified here."""

    @cache
    def artifact(version: str):
        try:
            return load(models_dir / version)
        except ModelError as error:
            raise Violation(Kind.WRONG_SCORES, f"decided with a model that is none: {error}") from None

    return lambda version, rows: artifact(version).score(rows)


# Tables --------------------------------------------------------------------------------------------------------------


def check_tables(layout: Layout, found: Evidence, tables: Mapping[str, Table], written: Collection[str] | None) -> None:
    """Each stored table is whole, valid, canonical and its own hash, and decisions name stored ones.

    `written`: the versions that follow from what was written to the live hashes, where the test knows them all.
    """
    whole = set(layout.tags)
    for version, table in tables.items():
        if set(table) != whole:
            raise Violation(Kind.BAD_TABLE, f"{version} is not of the whole vocabulary: {few(set(table) ^ whole)}")
        wrong = {(tag, text) for tag, text in table.items() if not CANONICAL.fullmatch(str(text))}
        if wrong:
            raise Violation(Kind.BAD_TABLE, f"{version} has values that are no thresholds: {few(wrong)}")
        if version_of(table) != version:
            raise Violation(Kind.BAD_TABLE, f"{version} is not its own hash, which is {version_of(table)}")
    named = {d.thresholds for d in found.decisions} | {s.thresholds for s in found.scores}
    if named - set(tables):
        raise Violation(
            Kind.UNKNOWN_TABLE, f"named and not stored: {few(named - set(tables))}; stored: {few(set(tables))}"
        )
    if written is not None and named - set(written):
        raise Violation(Kind.UNWRITTEN_TABLE, f"decided under tables that nobody wrote: {few(named - set(written))}")


# Scores --------------------------------------------------------------------------------------------------------------


class Offline:
    """The scores that each input ought to have, by model; worked out once for each body."""

    def __init__(self, layout: Layout, found: Evidence, score: Score) -> None:
        self._bodies: dict[str, dict[tuple[bytes, bool], NDArray[np.float16]]] = {}
        self._inputs = found.inputs
        wanted: dict[str, dict[tuple[bytes, bool], Input]] = defaultdict(dict)
        for out in [*found.decisions, *found.scores]:
            event = found.inputs[out.source]
            if event.body is not None:
                wanted[out.model].setdefault((event.body, event.has_lead), event)
        for model, events in wanted.items():
            rows = np.stack([_row(layout, event) for event in events.values()])
            self._bodies[model] = dict(zip(events, score(model, rows), strict=True))

    def of(self, source: Source, model: str) -> NDArray[np.float16]:
        """Scores [T]."""
        event = self._inputs[source]
        assert event.body is not None
        return self._bodies[model][event.body, event.has_lead]


def _row(layout: Layout, event: Input) -> NDArray[np.float32]:
    """The probabilities [F] of one event, in array form or by name."""
    body = orjson.loads(event.value or b"")
    row = np.zeros(layout.n_inputs, np.float64)
    for piece in layout.lists:
        if piece.names:
            numbers = body[piece.class_name][piece.list_name]
            row[piece.start : piece.stop] = (
                [numbers[name] for name in piece.names] if isinstance(numbers, dict) else numbers
            )
    return row.astype(np.float32)


def check_scores(found: Evidence, wanted: Offline) -> None:
    """What is retained is what the model gives for the input, within one step of float16."""
    known: set[tuple[int, bytes]] = set()
    for out in found.scores:
        scores = wanted.of(out.source, out.model)
        if (id(scores), out.content) in known:
            continue
        if len(out.content) != 2 * len(scores):
            raise Violation(Kind.MALFORMED, f"the scores of {out.source} have {len(out.content)} bytes")
        kept = np.frombuffer(out.content, "<f2")
        off = np.flatnonzero(~(np.abs(kept.astype(np.float64) - scores) <= _step(kept, scores)))
        if len(off):
            tag = int(off[0])
            first = f"tag {tag} is {kept[tag]}, not {scores[tag]}"
            raise Violation(Kind.WRONG_SCORES, f"{out.source} under {out.model}: {len(off)} of {len(kept)}; {first}")
        known.add((id(scores), out.content))


def _step(one: NDArray[np.float16], other: NDArray[np.float16]) -> NDArray[np.float64]:
    return np.spacing(np.maximum(np.abs(one), np.abs(other))).astype(np.float64)


# Decisions -----------------------------------------------------------------------------------------------------------


class Decider:
    """`score >= threshold` and the order of the contract, once for each different question."""

    def __init__(self, layout: Layout, tables: Mapping[str, Table]) -> None:
        self._tags, self._classes = layout.tags, np.array(layout.tag_class)
        self._limits = {
            version: np.array([math.inf if table[tag] == "off" else float(table[tag]) for tag in layout.tags])
            for version, table in tables.items()
        }
        self._known: dict[tuple[bytes, str, bytes], bool] = {}

    def follows(self, decision: Output, scores: bytes) -> bool:
        """Whether this decision is what these scores and the table it names give."""
        question = (scores, decision.thresholds, decision.content)
        if question not in self._known:
            self._known[question] = orjson.loads(decision.content) == self._decide(scores, decision.thresholds)
        return self._known[question]

    def _decide(self, content: bytes, version: str) -> list[dict]:
        """Tags by class, best first and ties in the order of the vocabulary; and the score of each."""
        scores = np.frombuffer(content, "<f2").astype(np.float64)
        best_first = np.argsort(-scores, kind="stable")
        won = best_first[scores[best_first] >= self._limits[version][best_first]]
        by_class = [won[self._classes[won] == index].tolist() for index in range(len(CLASSES))]
        texts = np.frombuffer(content, "<f2")
        return [
            {name: [self._tags[tag] for tag in tags] for name, tags in zip(CLASSES, by_class, strict=True)},
            {self._tags[tag]: _shortest(texts[tag]) for tags in by_class for tag in tags},
        ]

    def may_follow(self, decision: Output, scores: NDArray[np.float16]) -> bool:
        """The same for scores that may be off by one step: only what is clear is compared."""
        tags = {tag for of_class in orjson.loads(decision.content)[0].values() for tag in of_class}
        decided = np.array([tag in tags for tag in self._tags])
        limits = self._limits[decision.thresholds]
        wrong = (scores.astype(np.float64) >= limits) != decided
        near = np.abs(scores.astype(np.float64) - limits) <= _step(scores, scores)
        return not (wrong & ~near).any()


def _shortest(score: np.float16) -> float:
    return abs(float(np.format_float_positional(score, unique=True)))


def check_redecided(
    layout: Layout,
    found: Evidence,
    tables: Mapping[str, Table],
    live: str,
    *,
    model: str | None = None,
    stored: Collection[str] | None = None,
) -> int:
    """Track by track: what compaction keeps has the tags that the live table gives. Returns how many tracks.

    A run leaves another model's tracks alone, and those whose table is lost: `model` and `stored` say which is whose.
    """
    decider = Decider(layout, tables)
    last_decision, last_scores = newest(found.decisions), newest(found.scores)
    withdrawn = {(stone.partition, stone.track): stone.position for stone in found.gone_tags}
    kept = {track: d for track, d in last_decision.items() if d.position > withdrawn.get(track, -1)}
    checked = 0
    for track, d in kept.items():
        scores = last_scores[track]
        if (model and scores.model != model) or (stored is not None and scores.thresholds not in stored):
            continue
        checked += 1
        if (d.source, d.model, d.thresholds) != (scores.source, scores.model, scores.thresholds):
            raise Violation(Kind.NO_SCORES, f"{track}: the last decision is {d}, the last scores are {scores}")
        if not decider.follows(d._replace(thresholds=live), scores.content):
            raise Violation(Kind.NOT_REDECIDED, f"{track} has not the tags that {live} gives: {d}")
    return checked


def _check_change(d: Output) -> None:
    """A re-decision says what is new about it, and that is in what it decides."""
    tags = {tag for of_class in orjson.loads(d.content)[0].values() for tag in of_class} if d.redecided else set()
    if d.redecided and not (d.added or d.removed):
        raise Violation(Kind.MALFORMED, f"{d.source}: re-decided by {d.redecided}, and nothing has changed")
    if not set(d.added) <= tags or set(d.removed) & tags:
        raise Violation(Kind.MALFORMED, f"{d.source}: decided {tags}, added {d.added}, removed {d.removed}")


def check_reproducible(layout: Layout, found: Evidence, tables: Mapping[str, Table], wanted: Offline) -> int:
    """Every decision follows from retained scores of its source and model and the table it names.

    A worker that ends between a decision and its scores leaves an unfinished attempt: its decision, never committed,
    is followed by another of the same source, and is held against the scores worked out offline. Returns how many.
    """
    retained: dict[tuple[Source, str], set[bytes]] = defaultdict(set)
    for out in found.scores:
        retained[out.source, out.model].add(out.content)
    last_decision, last_scores = newest(found.decisions), newest(found.scores)
    last_of_source = {d.source: d for d in sorted(found.decisions, key=lambda d: (d.partition, d.position))}
    decider, unfinished = Decider(layout, tables), 0
    for d in found.decisions:
        _check_change(d)
        candidates = retained.get((d.source, d.model), set())
        if not candidates:
            unfinished += 1
            if (d.source, last_of_source[d.source].model) not in retained:
                raise Violation(Kind.NO_SCORES, f"no scores retained for {d.source} under {d.model}")
            good = decider.may_follow(d, wanted.of(d.source, d.model))
        else:
            good = any(decider.follows(d, scores) for scores in candidates)
        if not good:
            raise Violation(Kind.NOT_REPRODUCIBLE, f"{d.source} does not follow from table {d.thresholds}: {d}")
    for track, d in last_decision.items():
        kept = last_scores.get(track)
        if kept is not None and kept.source == d.source and not decider.follows(d, kept.content):
            raise Violation(Kind.NOT_REPRODUCIBLE, f"the last decision of {track} is not of its last scores: {d}")
    return unfinished
