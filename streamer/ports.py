"""What the hot path asks of the world, as Protocols: adapters fulfil them, tests fake them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.core.batch import WITHDRAWN, Span
from streamer.core.bulk import Bulk
from streamer.core.decide import Decided
from streamer.core.drift import Reference
from streamer.core.events import Rejected
from streamer.core.ids import Origins
from streamer.core.layout import Layout
from streamer.core.outputs import OutputRecord
from streamer.core.packed import Packed
from streamer.core.records import Records
from streamer.core.thresholds import ThresholdTable


class EventDecoder(Protocol):
    """One wire format of the input topic."""

    def decode_all(self, records: Records, rows: NDArray[np.float64]) -> tuple[Packed, dict[int, Rejected]]:
        """The track ids of what is accepted, in order, and by place in `records` why the others are not.

        The probabilities of those accepted are in `rows` [N, F], from the top. Their range is left to the caller,
        who checks a whole micro-batch at once.
        """

    def explain(self, key: bytes | None, value: bytes) -> Rejected | None:
        """The full, slow validation: why this event is refused, or None where it is valid."""


class BulkDecoder(Protocol):
    """A wire format of the input topic with many tracks in a message."""

    def decode(self, value: bytes) -> Bulk:
        """Every row of a message, or the reasons why it is none.

        The range of the numbers is left to the caller, who checks a whole micro-batch at once.

        Raises:
            Rejected: where the message as a whole can never be decided.
        """


class DecisionEncoder(Protocol):
    """The wire format of the decision topic."""

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
        """One decision per row of `scores` [B, T]."""


class Scorer(Protocol):
    """A loaded model. Called off the event loop, by one thread at a time."""

    def score(self, probabilities: NDArray[np.float64]) -> NDArray[np.float16]:
        """Scores [B, T] of probabilities [B, F]."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that has been verified, warmed up and is ready to score."""

    version: str
    layout: Layout
    tuned: Mapping[str, float | str]  # tag -> threshold, or "off"
    scorer: Scorer
    reference: Reference | None = None  # what it was tuned on; None where the artefact does not say


@dataclass(frozen=True, slots=True)
class Serving:
    """What one micro-batch is decided under: a model and a thresholds table, always swapped together."""

    model: LoadedModel
    table: ThresholdTable


class ServingSource(Protocol):
    """Who knows which model and thresholds hold right now; never blocks."""

    def current(self) -> Serving: ...


class Sink(Protocol):
    """The output topics, written by an idempotent producer with acks=all."""

    def fits(self, topic: str, value_bytes: int) -> bool:
        """Whether the topic takes a record with a value of this size."""

    async def send(self, topic: str, partition: int | None, records: Sequence[OutputRecord]) -> Awaitable[None]:
        """Hand records over in order (None: partition by key); the awaitable returned ends at their acknowledgement.

        Raises, here or from the awaitable:
            SendFailed: nothing later of that partition may go out any more.
        """


class Clock(Protocol):
    """Time, so that tests own it."""

    def monotonic_s(self) -> float: ...

    def wall_ms(self) -> float:
        """Milliseconds since the epoch."""


@dataclass(slots=True)
class BatchReport:
    """What happened to one micro-batch, told once when it is acknowledged."""

    decided: int = 0
    withdrawn: int = 0
    dead: dict[str, int] = field(default_factory=dict)  # by error code
    misrouted: int = 0
    stage_s: dict[str, float] = field(default_factory=dict)
    event_timestamps_ms: list[NDArray[np.int64]] = field(default_factory=list)  # of what was decided, piece by piece

    def count(self, span: Span, partition_of: Callable[[bytes], int | None]) -> None:
        """Add what one span gave; the first key of each is checked for being in the partition it belongs to."""
        for run in span.runs:
            decided = run.rows >= 0
            self.event_timestamps_ms.append(run.timestamps_ms[decided])
            self.decided += int(decided.sum())
            self.withdrawn += int((run.rows == WITHDRAWN).sum())
        for _, why in span.dead:
            self.dead[why.code] = self.dead.get(why.code, 0) + 1
        key = span.runs[0].records[0].key if span.runs else None
        self.misrouted += key is not None and partition_of(key) not in (None, span.partition)


class Metrics(Protocol):
    """Who counts; called once per micro-batch, never per track."""

    def batch_acknowledged(self, report: BatchReport) -> None: ...
