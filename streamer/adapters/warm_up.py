"""Runs every kernel once before Kafka is joined: compiling them takes seconds, in which no partition may wait.

They are kept where numba keeps them, so that is once per machine and version.
"""

import json
import logging
import time
from typing import Any

import numpy as np

from streamer.adapters.batch_kernel import read_records
from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.adapters.json_events import JsonEventDecoder
from streamer.adapters.kafka_batches import record_batches
from streamer.adapters.kafka_columns import HEADER_BYTES_MAX, HEADERS_MAX, RECORD_BYTES_FAST
from streamer.core.batch import Run, Span
from streamer.core.decide import decide, tag_classes
from streamer.core.ids import Origins
from streamer.core.layout import Layout
from streamer.core.outputs import Stamp, span_outputs
from streamer.core.packed import Packed
from streamer.core.records import Records

TELL_S = 2.0

log = logging.getLogger(__name__)


def compile_kernels(layout: Layout) -> None:
    """Take one made-up event the whole way, from its bytes to those of its outputs."""
    began_s = time.monotonic()
    ids = Packed.joined([Packed.of([b"T-1"]), Packed.of([b"T-1"])])[:1]
    events = Records(np.zeros(1, np.int64), np.zeros(1, np.int64), ids, Packed.of([_event(layout)]), Packed.of([None]))
    JsonEventDecoder(layout).decode_all(events, np.zeros((1, layout.n_inputs)))
    scores = np.ones((1, layout.n_tags), np.float16)
    decided = decide(scores, np.full(layout.n_tags, 0.5), tag_classes(layout))
    origins = Origins([""], np.zeros((1, 4), np.int64))
    decisions = JsonDecisionEncoder(layout).encode(decided, scores, ids, origins, "", "", "")
    span = Span(0, 1, [Run.of(events, np.zeros(1, np.int64), ids)])
    for outputs in span_outputs(span, Stamp("", "", "", ""), decisions, Packed.rows(scores)):
        for _ in record_batches(outputs, 1 << 20, snappy=True):
            pass
    found = np.empty((1, 8), np.int64)
    read_records(np.frombuffer(b"\0", np.uint8), 0, found, RECORD_BYTES_FAST, HEADERS_MAX, HEADER_BYTES_MAX)
    took_s = time.monotonic() - began_s
    if took_s > TELL_S:
        log.info("the hot path's kernels were compiled, in %.0f s; the next start finds them made", took_s)


def _event(layout: Layout) -> bytes:
    event: dict[str, Any] = {"track_id": "T-1", "vocabulary": layout.fingerprint}
    for piece in layout.lists:
        event.setdefault(piece.class_name, {})[piece.list_name] = [0.5] * len(piece.names)
    return json.dumps(event).encode()
