"""The judge is judged: a small stream that kept everything passes, and every single way to break it is seen."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import orjson
import pytest
from aiokafka import TopicPartition

from streamer.core.ids import decision_id
from streamer.core.layout import Layout
from tests.checker import judge
from tests.checks_content import effective, version_of
from tests.evidence import DeadLetter, Evidence, Input, Kind, Output, Sample, Tombstone, Violation

LAYOUT = Layout.build("3f9c0a17b2de", {"genres": {"tags": ["rock", "jazz"]}, "moods": {"tags": ["calm"]}})
TUNED = {"rock": "0.500000", "jazz": "0.500000", "calm": "off"}
MODEL = "a-model"
ROWS = {"a": [0.75, 0.25, 1.0], "b": [0.25, 0.75, 0.0], "c": [0.5, 0.625, 0.125]}
HEADERS = (("sender", b"s-1"),)
REASONS = {"error.code": b"not-json", "error.message": b"why", "error.field": b"", "source": b"in/0/2/0",
           "worker": b"w", "failed_at": b"2026", "attempt": b"1"}  # fmt: skip
LOG = ("in", 0)


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
        offset = len(self.found.inputs)
        self.found.inputs[0, offset] = Input(key, None if row is None else body(ROWS[row]))
        return offset

    def break_(self, key: str, code: bytes = b"not-json") -> int:
        """An input and its dead letter."""
        offset = len(self.found.inputs)
        self.found.inputs[0, offset] = Input(key, b"no JSON", HEADERS, has_lead=False)
        reasons = REASONS | {"source": f"in/0/{offset}/0".encode(), "error.code": code}
        letter = DeadLetter((0, offset), 0, len(self.found.dead), key, b"no JSON", (*HEADERS, *reasons.items()))
        self.found.dead.append(letter)
        return offset

    def decide(self, offset: int, *, table: dict[str, str] = TUNED, tags: bool = True, scores: bool = True) -> None:
        """Both outputs of an input, or one."""
        event, version = self.found.inputs[0, offset], version_of(table)
        row = next(row for row in ROWS.values() if event.body == body(row))
        decided = [t for t in range(3) if table[LAYOUT.tags[t]] != "off" and row[t] >= float(table[LAYOUT.tags[t]])]
        decided.sort(key=lambda t: -row[t])
        named = {c: [LAYOUT.tags[t] for t in decided if LAYOUT.tag_class[t] == i]
                 for i, c in enumerate(("genres", "instruments", "moods"))}  # fmt: skip
        content = orjson.dumps((named, {LAYOUT.tags[t]: row[t] for t in decided}))
        identity = decision_id("in", 0, offset, 0, MODEL, version)
        common = (0, event.key, MODEL, version)
        if tags:
            self.found.decisions.append(self._out(self.end("tags"), offset, *common, identity, content))
        if scores:
            kept = np.array(row, "<f2").tobytes()
            self.found.scores.append(self._out(self.end("scores"), offset, *common, "", kept))

    @staticmethod
    def _out(position, offset, at_ms, key, model, version, identity, content) -> Output:
        return Output((0, offset), 0, position, at_ms, key, model, version, identity, content)

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

    def judged(self):
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


def test_a_stream_that_kept_everything_passes():
    report = whole().judged()
    assert (report.inputs, report.decided, report.dead, report.withdrawn) == (7, 5, 1, 1)
    assert (report.duplicates, report.commits_sampled, report.unfinished) == (3, 3, 0)
    assert "duplicates 3" in report.line()


def _lose_a_decision(s: Stream) -> None:
    del s.found.decisions[1]


def _lose_a_tombstone(s: Stream) -> None:
    s.found.gone_tags.clear()


def _dead_too(s: Stream) -> None:
    s.found.dead.append(s.found.dead[0]._replace(source=(0, 1), position=1))


def _no_such_event(s: Stream) -> None:
    change(s.found.decisions, 0, source=(0, 99))


def _dead_without_need(s: Stream) -> None:
    s.break_("T-9")


def _decided_though_broken(s: Stream) -> None:
    s.decide(s.give("bad-7", "a"))


def _dead_value_changed(s: Stream) -> None:
    change(s.found.dead, 0, value=b"another")


def _dead_headers_changed(s: Stream) -> None:
    change(s.found.dead, 0, headers=tuple(REASONS.items()))


def _dead_without_reason(s: Stream) -> None:
    change(s.found.dead, 0, headers=s.found.dead[0].headers[:-3])


def _other_partition(s: Stream) -> None:
    change(s.found.scores, 0, partition=1)


def _other_key(s: Stream) -> None:
    change(s.found.decisions, 0, track="T-7")


def _other_id(s: Stream) -> None:
    change(s.found.decisions, 0, identity="0" * 16)


def _order_swapped(s: Stream) -> None:
    later = s.give("T-1", "b")
    again = s.give("T-1", "c")
    s.decide(again)
    s.decide(later)
    s.decide(again)


def _zombie_tags(s: Stream) -> None:
    s.decide(0)


def _zombie_scores(s: Stream) -> None:
    s.decide(0, tags=False)


def _zombie_over_a_withdrawal(s: Stream) -> None:
    s.decide(4)


def _tombstone_of_an_event(s: Stream) -> None:
    s.withdraw("T-1")


def _last_pair_differs(s: Stream) -> None:
    other = TUNED | {"rock": "0.100000"}
    s.tables[version_of(other)] = other
    s.decide(6, table=other, scores=False)


def _committed_before(s: Stream) -> None:
    offset = s.give("T-3", "a")
    s.commit(offset + 1)
    s.decide(offset)


def _committed_before_scores(s: Stream) -> None:
    offset = s.give("T-3", "a")
    s.decide(offset, scores=False)
    s.commit(offset + 1)
    s.decide(offset, tags=False)


def _committed_before_dead(s: Stream) -> None:
    s.commit(8)
    s.break_("bad-7")


def _committed_before_withdrawn(s: Stream) -> None:
    s.give("gone-2", None)
    s.commit(8)
    s.withdraw("gone-2")


def _commit_back(s: Stream) -> None:
    s.commit(3)


def _no_scores(s: Stream) -> None:
    s.decide(s.give("T-3", "a"), scores=False)


def _zeros(s: Stream) -> None:
    change(s.found.scores, 0, content=bytes(6))


def _two_steps_off(s: Stream) -> None:
    off = np.frombuffer(s.found.scores[0].content, "<u2") + 2
    change(s.found.scores, 0, content=off.astype("<u2").tobytes())


def _short_scores(s: Stream) -> None:
    change(s.found.scores, 0, content=bytes(4))


def _stored(table: dict[str, str], version: str = "") -> Callable[[Stream], None]:
    return lambda s: s.tables.update({version or version_of(table): table})


def _table_lost(s: Stream) -> None:
    s.tables = {}


def _made_up_table(s: Stream) -> None:
    s.more["written"] = {version_of(effective(TUNED, {"rock": "0.25"}))}


def _one_tag_more(s: Stream) -> None:
    content = orjson.loads(s.found.decisions[0].content)
    content[0]["genres"].append("jazz")
    change(s.found.decisions, 0, content=orjson.dumps(content))


def _other_score(s: Stream) -> None:
    content = orjson.loads(s.found.decisions[0].content)
    content[1]["rock"] = 0.74
    change(s.found.decisions, 0, content=orjson.dumps(content))


@pytest.mark.parametrize(
    ("break_it", "kind"),
    [
        (_lose_a_decision, Kind.LOST),
        (_lose_a_tombstone, Kind.LOST),
        (_dead_too, Kind.TWICE),
        (_no_such_event, Kind.STRANGE),
        (_tombstone_of_an_event, Kind.STRANGE),
        (_dead_without_need, Kind.WRONGLY_DEAD),
        (_decided_though_broken, Kind.WRONGLY_DEAD),
        (_dead_value_changed, Kind.CHANGED),
        (_dead_headers_changed, Kind.CHANGED),
        (_dead_without_reason, Kind.CHANGED),
        (_other_partition, Kind.MISPLACED),
        (_other_key, Kind.MISPLACED),
        (_other_id, Kind.WRONG_ID),
        (_order_swapped, Kind.OUT_OF_ORDER),
        (_zombie_tags, Kind.NOT_NEWEST),
        (_zombie_scores, Kind.NOT_NEWEST),
        (_zombie_over_a_withdrawal, Kind.NOT_NEWEST),
        (_last_pair_differs, Kind.NO_SCORES),
        (_committed_before, Kind.COMMITTED_EARLY),
        (_committed_before_scores, Kind.COMMITTED_EARLY),
        (_committed_before_dead, Kind.COMMITTED_EARLY),
        (_committed_before_withdrawn, Kind.COMMITTED_EARLY),
        (_commit_back, Kind.COMMIT_WENT_BACK),
        (_no_scores, Kind.NO_SCORES),
        (_zeros, Kind.WRONG_SCORES),
        (_two_steps_off, Kind.WRONG_SCORES),
        (_short_scores, Kind.MALFORMED),
        (_stored(TUNED | {"rock": "1.500000"}), Kind.BAD_TABLE),
        (_stored(TUNED | {"rock": "nan"}), Kind.BAD_TABLE),
        (_stored(TUNED | {"rock": "0.5"}), Kind.BAD_TABLE),
        (_stored({"rock": "0.500000"}), Kind.BAD_TABLE),
        (_stored(TUNED, "0" * 12), Kind.BAD_TABLE),
        (_table_lost, Kind.UNKNOWN_TABLE),
        (_made_up_table, Kind.UNWRITTEN_TABLE),
        (_one_tag_more, Kind.NOT_REPRODUCIBLE),
        (_other_score, Kind.NOT_REPRODUCIBLE),
    ],
)
def test_what_is_broken_is_seen_and_named(break_it: Callable[[Stream], None], kind: Kind):
    stream = whole()
    break_it(stream)
    with pytest.raises(Violation) as seen:
        stream.judged()
    assert seen.value.kind is kind, seen.value


def test_one_step_of_float16_is_forgiven():
    stream = whole()
    off = np.frombuffer(stream.found.scores[3].content, "<u2").copy()  # gone-1's: the score of 1.0, far from 'off'
    off[2] -= 1
    change(stream.found.scores, 3, content=off.tobytes())
    stream.judged()


def test_a_worker_killed_between_a_decision_and_its_scores_under_a_table_that_went():
    stream = whole()
    other = TUNED | {"rock": "0.100000"}
    stream.tables[version_of(other)] = other
    offset = stream.give("T-3", "b")
    attempt = Stream(stream.found, stream.tables)
    attempt.decide(offset, table=other, scores=False)
    change(stream.found.decisions, -1, model="another-model")
    identity = decision_id("in", 0, offset, 0, "another-model", version_of(other))
    change(stream.found.decisions, -1, identity=identity)
    stream.decide(offset)
    assert stream.judged().unfinished == 1
    content = stream.found.decisions[-1].content
    change(stream.found.decisions, -2, content=content)  # what only the later table gives
    with pytest.raises(Violation) as seen:
        stream.judged()
    assert seen.value.kind is Kind.NOT_REPRODUCIBLE


def test_a_refused_output_needs_permission_and_its_own_code():
    stream = whole()
    stream.break_("large-7", b"output-refused")
    with pytest.raises(Violation) as seen:
        stream.judged()
    assert seen.value.kind is Kind.WRONGLY_DEAD
    stream.more["permitted"] = {"large-": "output-refused"}
    assert stream.judged().dead == 2
    stream.break_("large-8", b"not-json")
    with pytest.raises(Violation):
        stream.judged()


def test_an_event_after_a_withdrawal_stays():
    stream = whole()
    stream.decide(stream.give("gone-1", "c"))
    stream.judged()
    stream.withdraw("gone-1")  # a redelivered withdrawal without what came after it
    with pytest.raises(Violation) as seen:
        stream.judged()
    assert seen.value.kind is Kind.NOT_NEWEST
