"""Decisions as JSON, assembled from prepared texts: the encoder is on the path of every track.

Every tag name is escaped once, every float16 in [0, 1] has its decimal ready, and all that a batch shares is joined
once; a kernel copies them one after the other. The result is byte for byte what `json.dumps` writes of the same
decision without spaces and with non-ASCII characters as they are, which a test asserts.
"""

import json
from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamer.adapters.decision_kernel import are_plain, write_decisions
from streamer.core.decide import Decided
from streamer.core.float16 import NO_SIGN, ONE_BITS
from streamer.core.ids import Origins
from streamer.core.layout import CLASSES, Layout
from streamer.core.packed import INTEGER_BYTES, Packed

_NUMBERS_BYTES = 3 * INTEGER_BYTES  # partition, offset and row

_escaped = json.encoder.encode_basestring  # C; a JSON string with its quotes, non-ASCII left as it is


@cache
def decimals() -> tuple[str, ...]:
    """By the bits of a float16 in [0, 1]: the shortest decimal that reads back to it, as Python's json writes it."""
    halves = np.arange(ONE_BITS + 1, dtype=np.uint16).view(np.float16)
    return tuple(repr(float(np.format_float_scientific(half, unique=True))) for half in halves)


class JsonDecisionEncoder:
    """One vocabulary's decisions. It keeps no state between calls, so threads may share it."""

    content_type = "application/json"

    def __init__(self, layout: Layout) -> None:
        self._fingerprint = _escaped(layout.fingerprint)
        names = [_escaped(tag).encode() for tag in layout.tags]
        self._names = Packed.of(names)  # [T]
        self._labels = Packed.of([name + b":" for name in names])  # [T]
        self._decimals = Packed.of([text.encode() for text in decimals()])

    def encode(
        self,
        decided: Decided,
        scores: NDArray[np.float16],
        track_ids: Packed,
        origins: Origins,
        model: str,
        thresholds: str,
        decided_at: str,
    ) -> Packed:
        """One decision per row of `scores` [B, T]; `decided_at` is RFC 3339 in UTC with milliseconds and `Z`."""
        tags, bounds = decided.tags, decided.bounds
        rows = np.repeat(np.arange(len(bounds)), bounds[:, -1] - bounds[:, 0])  # [N]
        bits = (scores[rows, tags].view(np.uint16) & NO_SIGN).astype(np.int64)  # [N]
        if not are_plain(track_ids.columns):
            track_ids = Packed.of([_escaped((one or b"").decode())[1:-1].encode() for one in track_ids])
        topics = Packed.of([_escaped(topic).encode() for topic in origins.topics])
        frame = self._frame(model, thresholds, decided_at)
        each_bytes = int(frame.lengths.sum() + topics.lengths.max(initial=0)) + _NUMBERS_BYTES
        tag_bytes = self._names.lengths[tags] + self._labels.lengths[tags] + self._decimals.lengths[bits] + 2
        room_bytes = len(bounds) * each_bytes + int(track_ids.lengths.sum() + tag_bytes.sum()) + 1
        out, ends = np.empty(room_bytes, np.uint8), np.empty(len(bounds), np.int64)
        write_decisions(
            tags,
            bits,
            bounds,
            track_ids.columns,
            topics.columns,
            origins.places,
            self._names.columns,
            self._labels.columns,
            self._decimals.columns,
            frame.columns,
            ends,
            out,
        )
        return Packed.ending(out, ends)

    def _frame(self, model: str, thresholds: str, decided_at: str) -> Packed:
        """What all decisions of a batch share, in the order of decision_kernel.py's places."""
        first, second, third = CLASSES
        shared = (
            f'}},"model":{_escaped(model)},"thresholds":{_escaped(thresholds)},"vocabulary":{self._fingerprint},'
            f'"decided_at":{_escaped(decided_at)},"source":{{"topic":'
        )
        texts = (
            '{"track_id":"', f'","tags":{{"{first}":[', f'],"{second}":[', f'],"{third}":[', ']},"scores":{', shared,
            ',"partition":', ',"offset":', ',"row":', "}}",
        )  # fmt: skip
        return Packed.of([text.encode() for text in texts])
