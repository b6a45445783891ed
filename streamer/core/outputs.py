"""What goes out: the records of the output topics, their headers and their order.

Pure: turns encoded decisions and scores into records; sends nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from streamer.core.batch import REJECTED, Span
from streamer.core.bulk import source_row
from streamer.core.events import JSON_CONTENT_TYPE, MAX_TRACK_ID_CHARACTERS, Code, Rejected
from streamer.core.ids import decision_ids, source_text, source_texts
from streamer.core.packed import Packed

Headers = list[tuple[str, bytes]]


class OutputRecord(NamedTuple):
    """One record to publish. A None value is a tombstone; a None timestamp is 'now'."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int | None


@dataclass(frozen=True, slots=True)
class HeaderPlan:
    """The headers of all records of one span for one topic: `before`, then `own_name` with its own value, `after`."""

    before: Headers
    own_name: str
    after: Headers

    def headers(self, own: bytes) -> Headers:
        """Of one record."""
        return [*self.before, (self.own_name, own), *self.after]


@dataclass(slots=True)
class OutputColumns(Sequence[OutputRecord]):
    """The records of one span for one topic, column by column: an object per record would cost more than its bytes."""

    plan: HeaderPlan  # of what is no tombstone
    keys: Packed  # [N]
    values: Packed  # [N]; None is a tombstone
    own: Packed  # [N] the own header's value; of a tombstone anything
    timestamps_ms: NDArray[np.int64]  # [N]; -1 is now

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> OutputRecord: ...

    @overload
    def __getitem__(self, at: slice) -> list[OutputRecord]: ...

    def __getitem__(self, at: int | slice) -> OutputRecord | list[OutputRecord]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        value, time_ms = self.values[at], int(self.timestamps_ms[at])
        headers = [] if value is None else self.plan.headers(self.own[at] or b"")
        return OutputRecord(self.keys[at], value, headers, None if time_ms < 0 else time_ms)


class Stamp(NamedTuple):
    """Under what a micro-batch was decided: the coordinates that every one of its outputs carries."""

    topic: str
    model: str
    thresholds: str
    vocabulary: str


def content_type(headers: Sequence[tuple[str, bytes]]) -> str:
    """The event's content type without parameters, lower case; JSON where no header says otherwise."""
    for name, value in headers:
        if name.lower() == "content-type" and value is not None:
            return value.decode("utf-8", "replace").partition(";")[0].strip().lower()
    return JSON_CONTENT_TYPE


def utc_text(wall_ms: float) -> str:
    """RFC 3339 in UTC with milliseconds: 2026-11-22T09:45:00.123Z."""
    moment = datetime.fromtimestamp(int(wall_ms) / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def check_withdrawal(key: bytes | None) -> None:
    """A null value withdraws the track named by its key.

    Raises:
        Rejected: without a key, or with one that cannot be a track id.
    """
    if key is None:
        raise Rejected(Code.EMPTY_VALUE, "the value is null and there is no key: nothing to withdraw")
    try:
        characters = len(key.decode("utf-8"))
    except UnicodeDecodeError:
        raise Rejected(Code.BAD_TRACK_ID, "the key of a withdrawal is not UTF-8", "key") from None
    if not 1 <= characters <= MAX_TRACK_ID_CHARACTERS:
        raise Rejected(
            Code.BAD_TRACK_ID,
            f"the key of a withdrawal has {characters} characters, a track id has 1 to {MAX_TRACK_ID_CHARACTERS}",
            "key",
        )


def decision_headers(stamp: Stamp) -> HeaderPlan:
    """Of the decision topic."""
    after = [("model", stamp.model.encode()), ("thresholds", stamp.thresholds.encode())]
    return HeaderPlan([("content-type", JSON_CONTENT_TYPE.encode())], "decision-id", after)


def scores_headers(stamp: Stamp) -> HeaderPlan:
    """Of the scores topic."""
    names = {"model": stamp.model, "vocabulary": stamp.vocabulary, "thresholds": stamp.thresholds}
    return HeaderPlan([(name, text.encode()) for name, text in names.items()], "source", [])


def span_outputs(span: Span, stamp: Stamp, decisions: Packed, scores: Packed) -> tuple[OutputColumns, OutputColumns]:
    """The records for the decision topic and for the scores topic of one span, in offset order.

    `decisions` [B] and the bytes of the `scores` [B] are those of the whole micro-batch, by row.
    """
    runs = span.runs
    rows, offsets, source_rows, timestamps_ms = (
        np.concatenate([getattr(run, name) for run in runs] or [np.empty(0, np.int64)])
        for name in ("rows", "offsets", "source_rows", "timestamps_ms")
    )
    keys = Packed.joined([run.keys for run in runs])
    if (rows == REJECTED).any():
        outgoing = np.flatnonzero(rows != REJECTED)
        rows, offsets, source_rows = rows[outgoing], offsets[outgoing], source_rows[outgoing]
        keys, timestamps_ms = keys.take(outgoing), timestamps_ms[outgoing]
    identities = decision_ids(stamp.topic, span.partition, offsets, source_rows, stamp.model, stamp.thresholds)
    sources = source_texts(stamp.topic, span.partition, offsets, source_rows)
    now = np.full(len(rows), -1, np.int64)
    return (
        OutputColumns(decision_headers(stamp), keys, decisions.take(rows), identities, now),
        OutputColumns(scores_headers(stamp), keys, scores.take(rows), sources, timestamps_ms),
    )


def dead_letters(span: Span, topic: str, worker: str, failed_at: str) -> list[OutputRecord]:
    """The records for the dead-letter topic: key and value as they came, the reasons in the headers.

    Their time is now: kept by the event's own, the dead letter of an old event would be gone within minutes.
    """
    letters = []
    for record, why in span.dead:
        source = source_text(topic, span.partition, record.offset, source_row(record))
        headers = deadletter_headers(record.headers, why, source, worker, failed_at)
        letters.append(OutputRecord(record.key, record.value, headers, None))
    return letters


def deadletter_headers(
    original: Sequence[tuple[str, bytes]], why: Rejected, source: str, worker: str, failed_at: str
) -> Headers:
    """The original headers, then the reasons; `attempt` counts on from a replayed dead letter's."""
    previous = [value for name, value in original if name == "attempt" and value is not None]
    attempt = int(previous[-1]) + 1 if previous and previous[-1].isdigit() and len(previous[-1]) < 10 else 1
    added = {
        "error.code": str(why.code),
        "error.message": why.message,
        "error.field": why.field,
        "source": source,
        "worker": worker,
        "failed_at": failed_at,
        "attempt": str(attempt),
    }
    kept = [(name, value) for name, value in original if name != "attempt"]
    # a lone surrogate may reach a message through a name in the event: it must not stop the dead letter
    return kept + [(name, text.encode("utf-8", "backslashreplace")) for name, text in added.items()]
