"""The wire formats that are fuzzed. A new one is one more line of `TARGETS`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from streamer.adapters import schema
from streamer.adapters.arrow_events import ArrowEventDecoder
from streamer.adapters.json_events import JsonEventDecoder
from streamer.core.events import ARROW_CONTENT_TYPE, JSON_CONTENT_TYPE, Rejected
from streamer.core.layout import Layout
from tests.fuzz import arrow_inputs, json_inputs

CORPUS = Path(__file__).parent / "corpus"
Judge = Callable[[bytes | None, bytes, Layout], tuple[str, list[float]] | Rejected]


@dataclass(frozen=True)
class Target:
    """One wire format. `judge` is the thorough reading that the decoder must agree with, row by row where `bulk`."""

    name: str
    content_type: str
    decoder: Callable[[Layout], Any]  # an EventDecoder, or a BulkDecoder
    valid: Callable[[Random, Layout, str], bytes]
    spoiled: Callable[[Random, bytes], bytes]
    torture: Callable[[Random, int], bytes]
    tortures: int
    judge: Judge | None = None
    bulk: bool = False

    def corpus(self) -> Iterator[bytes]:
        """What was kept: inputs that once were condemned, and odd ones worth keeping."""
        for path in sorted((CORPUS / self.name).glob("*")):
            yield path.read_bytes()


def judge_json(key: bytes | None, value: bytes, layout: Layout) -> tuple[str, list[float]] | Rejected:
    """The pydantic way, which alone refuses."""
    try:
        return schema.parse(key, value, layout)
    except Rejected as why:
        return why


TARGETS = {
    "json": Target(
        "json",
        JSON_CONTENT_TYPE,
        JsonEventDecoder,
        json_inputs.valid,
        json_inputs.spoiled,
        json_inputs.torture,
        json_inputs.TORTURES,
        judge_json,
    ),
    "arrow": Target(
        "arrow",
        ARROW_CONTENT_TYPE,
        ArrowEventDecoder,
        arrow_inputs.valid,
        arrow_inputs.spoiled,
        arrow_inputs.torture,
        arrow_inputs.TORTURES,
        bulk=True,
    ),
}
