"""What a re-decision publishes: a decision with what is new about it, and then the scores record anew.

The decision is the live one of the same scores and table, with three fields more and a `decision-id` of its own run;
the scores record is the one that was read, byte for byte, but for the `thresholds` it names now.
"""

import json
from collections.abc import Sequence

from streamer.core.events import MAX_TRACK_ID_CHARACTERS
from streamer.core.ids import decision_id
from streamer.core.outputs import OutputRecord, Stamp, decision_headers, scores_headers
from streamer.core.source import Source


def parse_track_id(key: bytes | None) -> str | None:
    """The key as a track id; None where it cannot be one."""
    try:
        track_id = (key or b"").decode("utf-8")
    except UnicodeDecodeError:
        return None
    return track_id if 1 <= len(track_id) <= MAX_TRACK_ID_CHARACTERS else None


def redecision(decision: bytes, run: str, added: Sequence[str], removed: Sequence[str]) -> bytes:
    """An encoded decision with the fields of a re-decision at its end."""
    more = json.dumps({"redecided": run, "added": added, "removed": removed}, ensure_ascii=False, separators=(",", ":"))
    return decision[:-1] + b"," + more[1:].encode("utf-8", "replace")


def decision_record(key: bytes, value: bytes, origin: Source, stamp: Stamp, run: str) -> OutputRecord:
    """For the decision topic."""
    identity = decision_id(*origin, stamp.model, stamp.thresholds, run)
    return OutputRecord(key, value, decision_headers(stamp).headers(identity.encode()), None)


def scores_record(key: bytes, value: bytes, source: bytes, timestamp_ms: int, stamp: Stamp) -> OutputRecord:
    """For the scores topic."""
    headers = scores_headers(stamp).headers(source)
    return OutputRecord(key, value, headers, timestamp_ms if timestamp_ms >= 0 else None)
