"""Evidence of a small stream, made by hand: what the judge would read had a worker written it, ready to be spoiled."""

from dataclasses import dataclass, field

import numpy as np
import orjson
from aiokafka import TopicPartition

from streamer.core.ids import decision_id
from streamer.core.layout import Layout
from tests.checker import Report, judge
from tests.checks_content import version_of
from tests.evidence import DeadLetter, Evidence, Input, Output, Sample, Tombstone

LAYOUT = Layout.build("3f9c0a17b2de", {"genres": {"tags": ["rock", "jazz"]}, "moods": {"tags": ["calm"]}})
TUNED = {"rock": "0.500000", "jazz": "0.500000", "calm": "off"}
MODEL = "a-model"
ROWS = {"a": [0.75, 0.25, 1.0], "b": [0.25, 0.75, 0.0], "c": [0.5, 0.625, 0.125]}
HEADERS = (("sender", b"s-1"),)
REASONS = {"error.code": b"not-json", "error.message": b"why", "error.field": b"", "source": b"in/0/2/0",
           "worker": b"w", "failed_at": b"2026", "attempt": b"1"}  # fmt: skip


def body(row: list[float]) -> bytes:
    return b"," + orjson.dumps({"genres": {"tags": row[:2]}, "moods": {"tags": row[2:]}})[1:]


def scores_of(rows: np.ndarray) -> np.ndarray:
    """The model of these tests: a tag's score is its probability."""
    return rows[:, : LAYOUT.n_tags].astype(np.float16)


@dataclass
class Stream:
    """Evidence in the making: outputs are appended to partition 0 one after another."""

    found: Evidence = field(default_factory=Evidence)
    tables: dict[str, dict[str, str]] = field(default_factory=lambda: {version_of(TUNED): dict(TUNED)})
    samples: list[Sample] = field(default_factory=list)
    more: dict = field(default_factory=dict)

    def give(self, key: str, row: str | None) -> int:
        """An input; its offset."""
        offset = self.next_offset
        self.found.inputs[0, offset, 0] = Input(key, None if row is None else body(ROWS[row]))
        return offset

    def give_in_bulk(self, *tracks: tuple[str, str]) -> int:
        """A bulk message of these keys and rows; its offset."""
        offset = self.next_offset
        for place, (key, row) in enumerate(tracks):
            self.found.inputs[0, offset, place] = Input(key, body(ROWS[row]), in_bulk=True)
        return offset

    @property
    def next_offset(self) -> int:
        """Of the input partition."""
        return 1 + max((offset for _, offset, _ in self.found.inputs), default=-1)

    def break_(self, key: str, code: bytes = b"not-json") -> int:
        """An input and its dead letter."""
        offset = self.next_offset
        self.found.inputs[0, offset, 0] = Input(key, b"no JSON", HEADERS, has_lead=False)
        reasons = REASONS | {"source": f"in/0/{offset}/0".encode(), "error.code": code}
        letter = DeadLetter((0, offset, 0), 0, len(self.found.dead), key, b"no JSON", (*HEADERS, *reasons.items()))
        self.found.dead.append(letter)
        return offset

    def decide(
        self,
        offset: int,
        place: int = 0,
        *,
        table: dict[str, str] = TUNED,
        tags: bool = True,
        scores: bool = True,
        run: str = "",
    ) -> None:
        """Both outputs of an input, or one; with a `run` they are re-decided."""
        event, version = self.found.inputs[0, offset, place], version_of(table)
        row = next(row for row in ROWS.values() if event.body == body(row))
        decided = [t for t in range(3) if table[LAYOUT.tags[t]] != "off" and row[t] >= float(table[LAYOUT.tags[t]])]
        decided.sort(key=lambda t: -row[t])
        named = {c: [LAYOUT.tags[t] for t in decided if LAYOUT.tag_class[t] == i]
                 for i, c in enumerate(("genres", "instruments", "moods"))}  # fmt: skip
        content = orjson.dumps((named, {LAYOUT.tags[t]: row[t] for t in decided}))
        identity = decision_id("in", 0, offset, place, MODEL, version, run)
        common = (0, event.key, MODEL, version)
        if tags:
            out = self._out(self.end("tags"), (offset, place), *common, identity, content)
            if run:
                out = out._replace(redecided=run, added=(LAYOUT.tags[decided[-1]],))
            self.found.decisions.append(out)
        if scores:
            kept = np.array(row, "<f2").tobytes()
            self.found.scores.append(self._out(self.end("scores"), (offset, place), *common, "", kept))

    @staticmethod
    def _out(position, place, at_ms, key, model, version, identity, content) -> Output:
        return Output((0, *place), 0, position, at_ms, key, model, version, identity, content)

    def withdraw(self, key: str) -> None:
        """The tombstones of a withdrawal."""
        self.found.gone_tags.append(Tombstone(0, self.end("tags"), key))
        self.found.gone_scores.append(Tombstone(0, self.end("scores"), key))

    def end(self, topic: str) -> int:
        """The next offset of an output topic."""
        found = self.found
        return {
            "tags": len(found.decisions) + len(found.gone_tags),
            "scores": len(found.scores) + len(found.gone_scores),
            "dead": len(found.dead),
        }[topic]

    def commit(self, offset: int) -> None:
        """What a sample would see now."""
        ends = {TopicPartition(topic, 0): self.end(topic) for topic in ("tags", "scores", "dead")}
        self.samples.append(({TopicPartition("in", 0): offset}, ends))

    def judged(self) -> Report:
        """What the judge says."""
        return judge(self.found, LAYOUT, self.samples, self.tables, score=lambda _, rows: scores_of(rows), **self.more)


def whole() -> Stream:
    """Two tracks of two events, a broken one, a withdrawal, and a redelivery of the second half: 0..6."""
    stream = Stream()
    for key, row in (("T-1", "a"), ("T-2", "b")):
        stream.decide(stream.give(key, row))
    stream.break_("bad-2")
    for key, row in (("T-1", "c"), ("gone-1", "a")):
        stream.decide(stream.give(key, row))
    stream.commit(5)
    stream.give("gone-1", None)
    stream.withdraw("gone-1")
    stream.commit(6)
    stream.decide(stream.give("T-2", "a"))
    for offset in (3, 4):
        stream.decide(offset)
    stream.withdraw("gone-1")
    stream.decide(6)
    stream.commit(7)
    return stream


def change(outputs: list, index: int, **fields) -> None:
    outputs[index] = outputs[index]._replace(**fields)
