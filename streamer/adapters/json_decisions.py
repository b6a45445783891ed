"""Decisions as JSON, assembled from prepared pieces: the encoder is on the path of every track.

Every tag name is escaped once, every float16 in [0, 1] has its decimal ready, and all that a batch shares is joined
once; a decision is then one f-string. The result is byte for byte what `json.dumps` writes of the same decision
without spaces and with non-ASCII characters as they are, which a test asserts.
"""

import json
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamer.core.decide import Decided
from streamer.core.float16 import NO_SIGN, ONE_BITS
from streamer.core.layout import Layout

Coordinates = tuple[str, int, int, int]  # topic, partition, offset, row

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
        names = [_escaped(tag) for tag in layout.tags]
        self._names = np.array(names, object)  # [T]; one `take` looks up all of a batch
        self._labels = np.array([name + ":" for name in names], object)
        self._decimals = np.array(decimals(), object)

    def encode(
        self,
        decided: Decided,
        scores: NDArray[np.float16],
        track_ids: Sequence[str],
        sources: Sequence[Coordinates],
        model: str,
        thresholds: str,
        decided_at: str,
    ) -> list[bytes]:
        """One decision per row of `scores` [B, T]; `decided_at` is RFC 3339 in UTC with milliseconds and `Z`."""
        bounds = decided.bounds
        rows = np.repeat(np.arange(len(bounds)), bounds[:, -1] - bounds[:, 0])  # [N]
        bits = scores[rows, decided.tags].view(np.uint16) & NO_SIGN  # [N]
        names = self._names.take(decided.tags).tolist()
        labelled = (self._labels.take(decided.tags) + self._decimals.take(bits)).tolist()
        shared = (
            f'}},"model":{_escaped(model)},"thresholds":{_escaped(thresholds)},"vocabulary":{self._fingerprint},'
            f'"decided_at":{_escaped(decided_at)},"source":{{"topic":'
        )
        join = ",".join
        return [
            (
                f'{{"track_id":{_escaped(track_id)},"tags":{{"genres":[{join(names[genres:instruments])}],'
                f'"instruments":[{join(names[instruments:moods])}],"moods":[{join(names[moods:end])}]}},'
                f'"scores":{{{join(labelled[genres:end])}{shared}{_escaped(topic)},'
                f'"partition":{partition},"offset":{offset},"row":{row}}}}}'
            ).encode()
            for track_id, (topic, partition, offset, row), (genres, instruments, moods, end) in zip(
                track_ids, sources, bounds.tolist(), strict=True
            )
        ]
