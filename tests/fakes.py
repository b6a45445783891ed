"""The ports of `streamer.ports` and `streamer.serving` in memory: lists to look into, and markers that say crash here.

For tests of the hot path and of what is served, without a broker, a Redis or a model. The wire format is a line:
`b"T-1 0.5"` is track T-1 with every number 0.5; `b"bad ..."` is refused by the decoder, `b"crash"` breaks it.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streamer.core.bulk import Bulk
from streamer.core.events import Code, Rejected
from streamer.core.layout import Layout
from streamer.core.outputs import OutputRecord
from streamer.core.packed import Packed
from streamer.core.records import Records
from streamer.core.thresholds import ThresholdTable
from streamer.ports import BatchReport, LoadedModel, Serving
from streamer.serving import LastGood, ModelUnusable, Snapshot, StoreUnavailable

LAYOUT = Layout.build(
    "3f9c0a17b2de",
    {"genres": {"tags": ["rock", "jazz"], "categories": ["loud"]}, "moods": {"tags": ["calm"]}},
)
TUNED = {"rock": 0.5, "jazz": 0.25, "calm": 0.75}
MODEL, OTHER_MODEL = "20261122T094500Z-1a2b3c4d", "20261123T094500Z-5e6f7a8b"


class Refusal(Exception):
    """What a fake raises where a marker says so."""


class FakeRecord(NamedTuple):
    """`streamer.core.events.Record`."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 1_700_000_000_000


class FakeClock:
    """`streamer.ports.Clock`: stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> float:
        return self.now_s * 1000


class FakeDecoder:
    """`streamer.ports.EventDecoder` of the line format above."""

    def decode_all(self, records: Records, rows: np.ndarray) -> tuple[Packed, dict[int, Rejected]]:
        track_ids: list[bytes] = []
        dead: dict[int, Rejected] = {}
        for place, record in enumerate(records):
            try:
                track_ids.append(self.decode(record.value or b"", rows[len(track_ids)]).encode())
            except Rejected as why:
                dead[place] = why
        return Packed.of(track_ids), dead

    @staticmethod
    def decode(value: bytes, row: np.ndarray) -> str:
        if value == b"crash":
            raise Refusal("the decoder has a bug")
        if value.startswith(b"bad"):
            raise Rejected(Code.NOT_JSON, "not JSON")
        track_id, _, number = value.decode().partition(" ")
        row[:] = float(number)
        return track_id

    def explain(self, key: bytes | None, value: bytes) -> Rejected | None:
        if b"crash" in value:
            raise Refusal("the validator has a bug")
        return Rejected(Code.NOT_A_PROBABILITY, f"{value.decode()} is out of range", "genres.tags[0]")


class FakeBulkDecoder:
    """`streamer.ports.BulkDecoder`: a line per row; a row may be bad, and `bad` as the first is all of it."""

    def decode(self, value: bytes) -> Bulk:
        lines = value.decode().split("\n")
        if lines[0] == "bad":
            raise Rejected(Code.NOT_ARROW, "not Arrow")
        parts = [line.partition(" ") for line in lines]
        numbers = np.array([float(number or 0) for _, _, number in parts])
        columns = [np.repeat(numbers[:, None], len(piece.names), axis=1) for piece in LAYOUT.lists if piece.names]
        dead = {row: Rejected(Code.BAD_TRACK_ID, "no id") for row, (track_id, _, _) in enumerate(parts) if not track_id}
        return Bulk(
            Packed.of([track_id.encode() for track_id, _, _ in parts]), columns, dead, lambda row: lines[row].encode()
        )


class FakeEncoder:
    """`streamer.ports.DecisionEncoder`: `T-1 model thresholds`."""

    def encode(self, decided, scores, track_ids, origins, model, thresholds, decided_at) -> Packed:
        return Packed.of([track_id + f" {model} {thresholds}".encode() for track_id in track_ids])


class FakeScorer:
    """`streamer.ports.Scorer`: a tag's score is its own number.

    `crash_at` is the call (from 0) that breaks; while `gate` is clear a call waits.
    """

    def __init__(self) -> None:
        self.crash_at: int | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.entered = 0
        self.threads: set[str] = set()

    def score(self, probabilities: np.ndarray) -> np.ndarray:
        self.entered += 1
        self.threads.add(threading.current_thread().name)
        self.gate.wait(10)
        if self.crash_at == len(self.batches):
            raise Refusal("the scorer has a bug")
        self.batches.append(len(probabilities))
        return probabilities[:, : LAYOUT.n_tags].astype(np.float16)


def a_model(version: str = MODEL, layout: Layout = LAYOUT, tuned: Mapping[str, float] | None = None) -> LoadedModel:
    """A loaded model on a fake scorer."""
    return LoadedModel(version, layout, dict(TUNED if tuned is None else tuned), FakeScorer())


def a_table(model: LoadedModel | None = None, **live: object) -> ThresholdTable:
    """The tuned table with these edits."""
    model = model or a_model()
    return ThresholdTable.build(model.layout.tags, live, model.tuned)  # type: ignore[arg-type]


class FakeServingSource:
    """`streamer.ports.ServingSource`: assign `serving` to swap."""

    def __init__(self, scorer: FakeScorer | None = None) -> None:
        model = a_model()
        self.scorer = scorer or model.scorer
        self.serving = Serving(LoadedModel(model.version, model.layout, model.tuned, self.scorer), a_table(model))
        self.asked = 0

    def current(self) -> Serving:
        self.asked += 1
        return self.serving


class Sent(NamedTuple):
    """One call of the sink: `acknowledged` ends it, well or badly."""

    topic: str
    partition: int | None
    records: Sequence[OutputRecord]
    acknowledged: asyncio.Future


class FakeSink:
    """`streamer.ports.Sink`.

    Acknowledges at once unless `hold`; `refuse_at` is the hand-over (from 0) that is refused, `lose_at` the one whose
    acknowledgement fails; while `open` is clear a hand-over waits, as on a producer whose queue is full.
    """

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.hold = False
        self.refuse_at: int | None = None
        self.lose_at: int | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self.largest_value = 1 << 20

    def fits(self, topic: str, value_bytes: int) -> bool:
        return value_bytes <= self.largest_value

    async def send(self, topic: str, partition: int | None, records: Sequence[OutputRecord]) -> Awaitable[None]:
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        number = len(self.sent)
        if self.refuse_at == number:
            raise Refusal(f"hand-over {number} refused")
        sent = Sent(topic, partition, list(records), asyncio.get_running_loop().create_future())
        self.sent.append(sent)
        if self.lose_at == number:
            sent.acknowledged.set_exception(Refusal(f"hand-over {number} lost"))
        elif not self.hold:
            sent.acknowledged.set_result(None)
        return sent.acknowledged

    def acknowledge(self, *numbers: int) -> None:
        """Acknowledge these hand-overs, or all."""
        for sent in [self.sent[n] for n in numbers] if numbers else self.sent:
            if not sent.acknowledged.done():
                sent.acknowledged.set_result(None)

    def records(self, topic: str, partition: int | None = None) -> list[OutputRecord]:
        """What a topic got, in order; of one partition where it is named."""
        return [
            record
            for sent in self.sent
            for record in sent.records
            if sent.topic == topic and partition in (None, sent.partition)
        ]


class FakeMetrics:
    """`streamer.ports.Metrics`."""

    def __init__(self) -> None:
        self.reports: list[BatchReport] = []

    def batch_acknowledged(self, report: BatchReport) -> None:
        self.reports.append(report)


class FakeThresholdStore:
    """`streamer.serving.ThresholdStore` with the scripts' meaning; `down` makes it unavailable."""

    def __init__(self) -> None:
        self.down = False
        self.model: str | None = None
        self.live: dict[str, dict[str, str]] = {}
        self.tables: dict[str, dict[str, str]] = {}
        self.history: list[tuple[str, str, str]] = []  # (what, before, after)
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        if self.down:
            raise StoreUnavailable("Redis does not answer (a marker)")
        self.calls.append(name)

    def empty(self) -> None:
        """FLUSHALL."""
        self.model = None
        self.live.clear()
        self.tables.clear()
        self.history.clear()

    async def active_model(self) -> str | None:
        self._call("active_model")
        return self.model

    async def name_model(self, model: str) -> None:
        self._call("name_model")
        self.model = self.model or model

    async def read(self, model: str, version: str | None) -> Snapshot:
        self._call("read")
        live = self.live.get(model)
        return Snapshot(dict(live) if live else None, version in self.tables.get(model, {}))

    async def adopt(self, model: str, table: ThresholdTable, live: Mapping[str, str], before: str | None) -> None:
        self._call("adopt")
        self.tables.setdefault(model, {}).setdefault(table.version, table.canonical)
        known = self.history[-1][2] if self.history else before or ""
        if known != table.version:
            self.history.append(("outside-edit", known, table.version))

    async def enter(self, model: str, table: ThresholdTable) -> None:
        self._call("enter")
        self.tables.setdefault(model, {}).setdefault(table.version, table.canonical)

    async def restore(self, model: str, table: ThresholdTable, why: str) -> None:
        self._call("restore")
        live = self.live.setdefault(model, {})
        tables = self.tables.setdefault(model, {})
        if not (set(table.tags) <= set(live) and table.version in tables):
            self.history.append((why, "", table.version))
        for tag, text in table.as_hash().items():
            live.setdefault(tag, text)
        tables.setdefault(table.version, table.canonical)


class FakeModelLoader:
    """`streamer.serving.ModelLoader`: an exception among `models` is what loading that one raises."""

    def __init__(self, *models: LoadedModel, champion: str | None = None) -> None:
        self.models: dict[str, LoadedModel | Exception] = {model.version: model for model in models}
        self.named: str | Exception | None = champion
        self.loads: list[str] = []

    def champion(self) -> str | None:
        if isinstance(self.named, Exception):
            raise self.named
        return self.named

    def load(self, version: str) -> LoadedModel:
        self.loads.append(version)
        model = self.models.get(version, ModelUnusable(f"There is no model {version}"))
        if isinstance(model, Exception):
            raise model
        return model


class FakeLastGood:
    """`streamer.serving.LastGoodStore`; `broken` makes saving fail as a full disk does."""

    def __init__(self, *states: LastGood) -> None:
        self.states = list(states)
        self.broken = False

    def save(self, state: LastGood) -> None:
        if self.broken:
            raise OSError("No space left on device")
        self.states.append(state)

    def newest(self) -> LastGood | None:
        return max(self.states, key=lambda state: state.saved_at_ms, default=None)


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Let the event loop run until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.001)


async def a_while() -> None:
    """Time for whatever might wrongly happen to happen."""
    await asyncio.sleep(0.02)
