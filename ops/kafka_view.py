"""Kafka records as people and machines may see them: one dict, or a few lines of text, per record.

Dead letters hold whatever the world sent, and track ids are the world's too: every text that reaches a terminal
goes through `printable`, so that nothing in it can move the cursor, colour the screen or reorder the line.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord

from streamer.core.layout import CLASSES
from streamer.settings import Settings

PREVIEW_BYTES = 120
NAME_CHARACTERS = 80  # of a key or a place, in a line for people
MESSAGE_CHARACTERS = 400
TOP_SCORES = 8
YEAR_10000_MS = 253_402_300_800_000


class Kind(StrEnum):
    """What the records of a topic are."""

    PROBABILITIES = "probabilities"
    TAGS = "tags"
    SCORES = "scores"
    DEADLETTER = "deadletter"
    OTHER = "other"


def topic_of(settings: Settings, name: str) -> tuple[str, Kind]:
    """The topic that a person means by `tags` or by its full name, and what it holds."""
    named = {
        Kind.PROBABILITIES: settings.topic_probabilities,
        Kind.TAGS: settings.topic_tags,
        Kind.SCORES: settings.topic_scores,
        Kind.DEADLETTER: settings.topic_deadletter,
    }
    for kind, topic in named.items():
        if name in (kind.value, topic):
            return topic, kind
    return name, Kind.OTHER


def printable(text: str) -> str:
    """`text` with control characters, bidirectional marks and the like as visible escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def text_of(value: bytes | None) -> str:
    """Bytes as printable text; those that are not UTF-8 become escapes."""
    return printable((value or b"").decode("utf-8", "backslashreplace"))


def preview(value: bytes | None, limit_bytes: int = PREVIEW_BYTES) -> str:
    """The first bytes of a value, printable, with its size where it was clipped."""
    if value is None:
        return "null"
    if len(value) <= limit_bytes:
        return text_of(value)
    return f"{text_of(value[:limit_bytes])}... ({len(value):,} bytes)"


def describe(
    record: ConsumerRecord, kind: Kind, tags_of_model: Callable[[str], Sequence[str]] | None = None
) -> dict[str, Any]:
    """A record as one JSON-able dict; what cannot be parsed is shown as a preview instead.

    `tags_of_model` gives the tags of a model version in their order, or none where it is not known here.
    """
    headers = {text_of(name.encode()): text_of(value) for name, value in record.headers}
    key = None if record.key is None else text_of(record.key)
    seen: dict[str, Any] = {
        "kind": kind.value,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": key,
        "track_id": key,
        "headers": headers,
        "bytes": len(record.value or b""),
    }
    if kind is Kind.DEADLETTER:
        return seen | {
            "code": headers.get("error.code"),
            "message": headers.get("error.message"),
            "field": headers.get("error.field"),
            "source": headers.get("source"),
            "preview": preview(record.value),
        }
    if record.value is None:
        return seen | {"tombstone": True}
    if kind is Kind.SCORES:
        names = tags_of_model(headers.get("model", "")) if tags_of_model else ()
        return seen | _describe_scores(record.value, names)
    return seen | _describe_json(record.value)


def _describe_scores(value: bytes, names: Sequence[str]) -> dict[str, Any]:
    if len(value) % 2:
        return {"preview": preview(value)}
    scores = np.frombuffer(value, dtype="<f2")
    top = np.argsort(-scores, kind="stable")[:TOP_SCORES]
    seen = {"n_scores": len(scores), "top": [[int(column), float(scores[column])] for column in top]}
    if len(names) != len(scores):
        return seen
    return seen | {"top_tags": [[names[column], float(scores[column])] for column in top]}


def _describe_json(value: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {"preview": preview(value)}
    if not isinstance(parsed, dict):
        return {"preview": preview(value)}
    track_id = parsed.get("track_id")
    return {"value": parsed} | ({"track_id": printable(track_id)} if isinstance(track_id, str) else {})


def tags_of(seen: Mapping[str, Any]) -> set[str]:
    """Every tag of a described decision; empty for anything else."""
    value = seen.get("value")
    tags = value.get("tags") if isinstance(value, dict) else None
    if not isinstance(tags, dict):
        return set()
    return {tag for names in tags.values() if isinstance(names, list) for tag in names if isinstance(tag, str)}


def render(seen: Mapping[str, Any]) -> str:
    """A described record as lines for a terminal."""
    place = f"{seen['partition']}/{seen['offset']}"
    head = f"{_time_of(seen['timestamp_ms'])}  {place:>12}  {_cut(seen['track_id'] or '(no key)')}"
    if seen.get("tombstone"):
        return f"{head}  withdrawn"
    kind = Kind(seen["kind"])
    if kind is Kind.DEADLETTER:
        where = f" at {seen['field']}" if seen["field"] else ""
        why = _cut(f"{seen['code']}{where}: {seen['message']}", MESSAGE_CHARACTERS)
        return f"{head}  {why}  (from {_cut(str(seen['source']))})\n    {seen['preview']}"
    if kind is Kind.SCORES and "n_scores" in seen:
        return f"{head}  {_scores_line(seen)}"
    if kind is Kind.TAGS and tags_are_well_formed(seen):
        return _decision_lines(head, seen["value"])
    return f"{head}  {seen.get('preview') or preview(orjson.dumps(seen.get('value')))}"


def _cut(text: str, most: int = NAME_CHARACTERS) -> str:
    """What the world sent can be as long as a message: a line for people is not."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def _time_of(timestamp_ms: int) -> str:
    if not 0 <= timestamp_ms < YEAR_10000_MS:  # a producer's word: what is no date must not stop the view
        return "-" * 12
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]


def _scores_line(seen: Mapping[str, Any]) -> str:
    headers = seen["headers"]
    if "top_tags" in seen:
        top = ", ".join(f"{printable(name)} {score:.2f}" for name, score in seen["top_tags"])
    else:
        top = "  ".join(f"#{column} {score:.2f}" for column, score in seen["top"])
    names = "  ".join(f"{name} {headers.get(name, '?')}" for name in ("model", "thresholds", "source"))
    return f"{seen['n_scores']} scores: {top}  [{names}]"


def tags_are_well_formed(seen: Mapping[str, Any]) -> bool:
    """Whether a record of the tags topic has a decision's shape; somebody else may have written there."""
    value = seen.get("value")
    return isinstance(value, dict) and isinstance(value.get("tags"), dict) and isinstance(value.get("scores"), dict)


def _decision_lines(head: str, decision: Mapping[str, Any]) -> str:
    source = decision.get("source")
    source = source if isinstance(source, dict) else {}
    came_from = "/".join(str(source.get(part, "?")) for part in ("topic", "partition", "offset", "row"))
    names = f"model {decision.get('model')}  thresholds {decision.get('thresholds')}  from {came_from}"
    lines = [f"{head}  [{printable(names)}]"]
    for class_name in CLASSES:
        tags = decision["tags"].get(class_name)
        if isinstance(tags, list) and tags:
            shown = ", ".join(f"{tag} {_score_text(decision['scores'].get(str(tag)))}" for tag in tags)
            lines.append(f"    {class_name:<12}{printable(shown)}")
    return "\n".join(lines if len(lines) > 1 else [*lines, "    (no tags)"])


def _score_text(score: object) -> str:
    return f"{score:.2f}" if isinstance(score, int | float) else "?"
