"""The last good model and thresholds on disk, so that a start without Redis decides as its peers do.

One file per worker, written aside and renamed into place, so that a reader never sees half of one. A worker reads
the newest of all of them: its own may be from before the last change. Files of another topic or consumer group are
passed over, because what holds there says nothing about here.
"""

import json
import logging
import math
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamer.serving import LastGood

log = logging.getLogger(__name__)

MAX_STATE_BYTES = 4 * 1024 * 1024


class StateStore:
    """`<state dir>/<worker>.json`; `stream` names the topic and the group that it speaks of."""

    def __init__(self, state_dir: Path, worker: str, stream: str = "") -> None:
        self._dir = state_dir
        self._stream = stream
        self._path = state_dir / (re.sub(r"[^A-Za-z0-9_.-]", "_", worker) + ".json")

    def save(self, state: LastGood) -> None:
        """Write this worker's file; raises OSError."""
        self._dir.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".json.part")
        with aside.open("w", encoding="utf-8") as file:
            json.dump(asdict(state) | {"stream": self._stream}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)

    def newest(self) -> LastGood | None:
        """The newest state that any worker of this stream has written into this folder."""
        return max(self._all(), key=lambda state: state.saved_at_ms, default=None)

    def _all(self) -> Iterator[LastGood]:
        for path in self._dir.glob("*.json"):
            try:
                if path.stat().st_size <= MAX_STATE_BYTES:
                    fields = dict(json.loads(path.read_text(encoding="utf-8")))
                    if fields.pop("stream", self._stream) == self._stream:  # older files do not say
                        yield _state(fields)
            except (OSError, ValueError, TypeError, RecursionError) as error:
                log.warning("state file %s is not readable: %s", path.name, error)


def _state(fields: dict[str, Any]) -> LastGood:
    """The state, where each field is what it should be; raises ValueError or TypeError."""
    state = LastGood(**fields)
    texts = state.model, state.canonical, state.vocabulary
    if (
        not all(isinstance(text, str) for text in texts)
        or not isinstance(state.entered, bool)
        or not math.isfinite(state.saved_at_ms)
    ):
        raise ValueError("a field has the wrong type")
    return state
