"""The judge is judged: a small stream that kept everything passes, and every single way to break it is seen."""

from collections.abc import Callable

import numpy as np
import orjson
import pytest

from streamer.core.ids import decision_id
from tests.checks_content import effective, version_of
from tests.evidence import Kind, Violation
from tests.small_evidence import REASONS, TUNED, Stream, change, whole


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
