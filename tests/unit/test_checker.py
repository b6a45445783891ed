"""The judge is judged: a small stream that kept everything passes, and every single way to break it is seen."""

from collections.abc import Callable

import numpy as np
import orjson
import pytest

from ops.bulk_lane import HEADERS, bulk_message
from streamer.core.ids import decision_id
from tests.checks_content import check_redecided, effective, version_of
from tests.evidence import DeadLetter, Input, Kind, Violation, bulk_events, bulk_rows
from tests.small_evidence import LAYOUT, MODEL, REASONS, ROWS, TUNED, Stream, change, whole


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
    s.found.dead.append(s.found.dead[0]._replace(source=(0, 1, 0), position=1))


def _no_such_event(s: Stream) -> None:
    change(s.found.decisions, 0, source=(0, 99, 0))


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


def _logged_commit_back(s: Stream) -> None:
    s.found.commits = {0: [1, 3], 1: [5, 4]}


def test_an_answer_that_goes_back_is_no_commit_that_does():
    """As of a group's new coordinator, which does not know yet what is on all copies: seen with seed 752."""
    stream = whole()
    _commit_back(stream)
    stream.found.commits = {0: [0, 3, 7, 7]}
    stream.judged()


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


# The bulk lane: four rows, of which the last is of a track that has been there before, and one is broken.


def _in_bulk(s: Stream) -> int:
    offset = s.give_in_bulk(("T-5", "a"), ("T-6", "b"), ("bad-8", "a"), ("T-5", "c"))
    for place in (0, 1, 3):
        s.decide(offset, place)
    source = f"in/0/{offset}/2".encode()
    letter = bulk_message(LAYOUT, ["bad-8"], np.array([ROWS["a"]], np.float32))
    reasons = (REASONS | {"source": source}).items()
    s.found.dead.append(DeadLetter((0, offset, 2), 0, s.end("dead"), "bad-8", letter, tuple(reasons)))
    s.commit(offset + 1)
    return offset


def test_a_bulk_message_that_came_to_what_it_should_passes():
    stream = whole()
    _in_bulk(stream)
    report = stream.judged()
    assert (report.inputs, report.decided, report.dead) == (11, 8, 2)


def _bulk_row_lost(s: Stream) -> None:
    offset = _in_bulk(s)
    s.found.decisions = [d for d in s.found.decisions if d.source != (0, offset, 1)]


def _bulk_row_under_another_s_id(s: Stream) -> None:
    offset = _in_bulk(s)
    change(s.found.decisions, -1, identity=decision_id("in", 0, offset, 0, MODEL, version_of(TUNED)))


def _bulk_rows_of_a_track_swapped(s: Stream) -> None:
    offset = s.give_in_bulk(("T-5", "a"), ("T-5", "c"))
    s.decide(offset, 1)
    s.decide(offset, 0)


def _bulk_committed_before_its_last_row(s: Stream) -> None:
    offset = s.give_in_bulk(("T-5", "a"), ("T-6", "b"))
    s.decide(offset, 0)
    s.commit(offset + 1)
    s.decide(offset, 1)


def _bulk_letter_of_another_row(s: Stream) -> None:
    _in_bulk(s)
    change(s.found.dead, -1, value=bulk_message(LAYOUT, ["bad-8"], np.array([ROWS["b"]], np.float32)))


def _bulk_letter_of_the_whole_message(s: Stream) -> None:
    _in_bulk(s)
    whole_message = bulk_message(LAYOUT, ["T-5", "bad-8"], np.array([ROWS["a"], ROWS["a"]], np.float32))
    change(s.found.dead, -1, value=whole_message)


# Re-decided: T-1, whose newest is offset 3, under a table that gives it and T-2 further tags.

LOWER = TUNED | {"jazz": "0.200000", "calm": "0.100000"}


def _redecided(s: Stream, offset: int = 3, **what: bool) -> None:
    s.tables[version_of(LOWER)] = LOWER
    s.decide(offset, table=LOWER, run="run-1", **what)


def test_a_re_decision_of_the_newest_passes():
    stream = whole()
    _redecided(stream)
    report = stream.judged()
    assert (report.duplicates, report.redecided) == (3, 1)


def _redecided_not_the_newest(s: Stream) -> None:
    _redecided(s, 0)


def _redecided_and_said_nothing_new(s: Stream) -> None:
    _redecided(s)
    change(s.found.decisions, -1, added=())


def _redecided_and_said_wrong(s: Stream) -> None:
    _redecided(s)
    change(s.found.decisions, -1, removed=("rock",))


def _redecided_under_its_first_id(s: Stream) -> None:
    _redecided(s)
    change(s.found.decisions, -1, identity=decision_id("in", 0, 3, 0, MODEL, version_of(LOWER)))


def _redecided_otherwise_than_the_table_says(s: Stream) -> None:
    _redecided(s)
    change(s.found.decisions, -1, content=s.found.decisions[0].content, added=("rock",))


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
        (_logged_commit_back, Kind.COMMIT_WENT_BACK),
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
        (_bulk_row_lost, Kind.LOST),
        (_bulk_row_under_another_s_id, Kind.WRONG_ID),
        (_bulk_rows_of_a_track_swapped, Kind.OUT_OF_ORDER),
        (_bulk_committed_before_its_last_row, Kind.COMMITTED_EARLY),
        (_bulk_letter_of_another_row, Kind.CHANGED),
        (_bulk_letter_of_the_whole_message, Kind.CHANGED),
        (_redecided_not_the_newest, Kind.OUT_OF_ORDER),
        (_redecided_and_said_nothing_new, Kind.MALFORMED),
        (_redecided_and_said_wrong, Kind.MALFORMED),
        (_redecided_under_its_first_id, Kind.WRONG_ID),
        (_redecided_otherwise_than_the_table_says, Kind.NOT_REPRODUCIBLE),
    ],
)
def test_what_is_broken_is_seen_and_named(break_it: Callable[[Stream], None], kind: Kind):
    stream = whole()
    break_it(stream)
    with pytest.raises(Violation) as seen:
        stream.judged()
    assert seen.value.kind is kind, seen.value


def test_a_re_decision_that_was_broken_off_is_told_apart_from_a_finished_run():
    stream = whole()
    _redecided(stream, scores=False)  # the worker was killed before it retained them anew
    stream.judged()
    live = version_of(LOWER)
    with pytest.raises(Violation) as seen:
        check_redecided(LAYOUT, stream.found, stream.tables, live)
    assert seen.value.kind is Kind.NO_SCORES
    stream.decide(3, table=LOWER, tags=False)
    with pytest.raises(Violation) as seen:
        check_redecided(LAYOUT, stream.found, stream.tables, live)
    assert seen.value.kind is Kind.NOT_REDECIDED and "T-2" in str(seen.value)
    assert check_redecided(LAYOUT, stream.found, stream.tables, live, model="another") == 0
    assert check_redecided(LAYOUT, stream.found, stream.tables, live, stored={live}) == 1, "T-2's table is lost"
    _redecided(stream, 6)
    assert check_redecided(LAYOUT, stream.found, stream.tables, live) == 2


def test_a_bulk_message_is_told_as_the_events_it_stands_for():
    message = bulk_message(LAYOUT, ["T-1", "bad-2"], np.array([ROWS["a"], [0.5, 1.5, 0.0]], np.float32))
    table = bulk_rows(None, message, HEADERS)
    assert table is not None
    events = [Input(key, body) for key, body in bulk_events(table)]
    assert [orjson.loads(event.value or b"") for event in events] == [
        {"track_id": "T-1", "genres": {"tags": [0.75, 0.25]}, "moods": {"tags": [1.0]}},
        {"track_id": "bad-2", "genres": {"tags": [0.5, 1.5]}, "moods": {"tags": [0.0]}},
    ]
    assert bulk_rows(b"bad-whole", b"no Arrow", HEADERS) is None and bulk_rows(b"T-1", b"{}", ()) is None


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
