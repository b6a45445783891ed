"""Dead letters parsed, chosen and remembered, without a broker."""

import random
from datetime import UTC, datetime

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from ops.deadletter_replay import Done, Plan, Rules, Skip, Target, prepare
from ops.deadletter_view import as_json, lines_of
from ops.deadletters import Letter, Selection, moment_ms
from ops.errors import OpsError
from streamer.core.events import Code, Rejected
from streamer.core.outputs import deadletter_headers
from streamer.core.source import Source

KEPT = range(100, 164)


def a_record(offset: int = 100, headers: tuple = (), value: bytes | None = b"v", key: bytes | None = b"k"):
    return ConsumerRecord("dead", 0, offset, offset, 0, key, value, None, 0, 0, headers)


def a_letter(offset: int = 100, source: str = "in/0/7/0", original: tuple = (), **record) -> Letter:
    why = Rejected(Code.WRONG_LENGTH, "m", "genres.tags[17]")
    headers = deadletter_headers(original, why, source, "w", "now")
    return Letter.parse(a_record(offset, tuple(headers), **record))


def test_a_letter_is_told_apart_from_what_its_event_brought_along():
    own = (("source", b"the upstream's"), ("error.code", b"the upstream's"), ("worker", b"x"), ("attempt", b"2"))
    letter = a_letter(original=own, source="a/b/1/22/3")
    assert letter.original == list(own[:3]) and letter.attempt == 3 and letter.code == "wrong-length"
    assert letter.source == Source("a/b", 1, 22, 3) and str(letter.source) == "a/b/1/22/3"
    foreign = Letter.parse(a_record(headers=(("attempt", b"9"), ("source", b"in/0/1/0"))))
    assert (foreign.code, foreign.source, foreign.attempt) == ("(no code)", None, 1)


@pytest.mark.parametrize(
    "text", ["", "x", "1/2/3", "/1/2/3", "in/1/2", "in/1/-2/0", "in/1/2/0x", "in/1/²/0", "in/1/2/"]
)
def test_what_is_no_source(text):
    assert Source.parse(text) is None


def test_fields_are_chosen_with_what_is_in_them():
    letter = a_letter()
    for field, wanted in [("genres", True), ("genres.tags", True), ("genres.tags[17]", True), ("genres.tag", False)]:
        assert Selection(field=field).wants(letter) is wanted
    keyless = a_letter(key=None, value=b'{"track_id": "T-1"}')
    assert Selection(key="T-1").wants(keyless) and not Selection(key="k").wants(keyless)
    assert Selection(key="k").wants(letter) and not Selection(key="k").wants(a_letter(key=None, value=b"[]"))


def test_times():
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    now_ms = int(now.timestamp() * 1000)
    assert moment_ms("90s", now_ms) == now_ms - 90_000 and moment_ms("1.5h", now_ms) == now_ms - 5_400_000
    assert moment_ms("2026-11-22", now_ms) == now_ms - 12 * 3_600_000
    assert moment_ms("2026-11-22T13:00+01:00", now_ms) == moment_ms("2026-11-22T12:00Z", now_ms) == now_ms
    assert moment_ms("99999999d", now_ms) == 0
    for wrong in ("", "yesterday", "2 hours", "-2h", "2026-13-01"):
        with pytest.raises(OpsError, match="is no time"):
            moment_ms(wrong, now_ms)


@given(st.sets(st.sampled_from(KEPT)), st.integers(80, 130), st.integers(0, 20))
def test_what_was_replayed_is_read_back_also_from_a_topic_that_moved_on(replayed: set[int], start: int, more: int):
    done = Done(KEPT)
    for offset in replayed:
        done.mark(offset)
    offset, text = done.committed("run")
    now = range(max(start, KEPT.start), KEPT.stop + more)
    read = Done.read(now, offset, text)
    assert read is not None and {at for at in now if at in read} == {at for at in replayed if at in now}
    assert all(at in replayed for at in range(KEPT.start, offset))


def test_a_commit_that_is_not_ours_is_not_understood():
    for text in ("x", "2:run:", "1:run:~~~", "1:run:" + "0" * 40, "1:run"):
        assert Done.read(KEPT, 120, text) is None
    assert Done.read(KEPT, 165, "") is None, "the topic was longer once"
    by_hand = Done.read(KEPT, 120, "")
    assert by_hand is not None and 119 in by_hand and 120 not in by_hand


def test_letters_of_one_event_are_replayed_once_and_the_oldest_first():
    done = {0: Done(KEPT)}
    done[0].mark(150)
    plan = Plan(Target("in", 4), Rules(max_attempts=3, limit=2), done)
    for offset, source in [(100, "in/0/1/0"), (101, "in/0/1/0"), (102, "in/0/2/0"), (103, "in/0/3/0")]:
        plan.add(a_letter(offset, source))
    plan.add(a_letter(104, "in/0/9/0"))
    plan.add(a_letter(150, "in/0/9/0"))  # replayed before: so was the event of 104
    plan.add(a_letter(105, "in/4/1/0"))
    plan.add(a_letter(106, "in/0/5/0", (("attempt", b"2"),)))
    chosen = plan.finish()
    assert chosen.offsets == {0: {101, 102}} and chosen.spans() == {0: range(101, 103)}
    assert plan.skipped == {
        Skip.SAME_SOURCE: 2, Skip.REPLAYED_BEFORE: 1, Skip.OTHER_TOPIC: 1, Skip.MAX_ATTEMPTS: 1, Skip.OVER_LIMIT: 1,
    }  # fmt: skip


def test_a_random_half_of_25000_letters_is_remembered_and_of_too_many_refused():
    for count, fits in ((25_000, True), (60_000, False)):
        kept = range(count)
        plan = Plan(Target("in", 1), Rules(max_attempts=3), done := {0: Done(kept)})
        for offset in random.Random(7).sample(kept, count // 2):
            plan.add(a_letter(offset, f"in/0/{offset}/0"))
        if fits:
            prepare(plan.finish(), done)
        else:
            with pytest.raises(OpsError, match=r"30,000 letters .* scattered .* .--limit"):
                prepare(plan.finish(), done)


@pytest.mark.parametrize(
    "value", [b"", None, b"\x00" * 5000, b'"\\u001b[2J"', b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900]
)
def test_any_value_is_shown_within_bounds(value):
    letter = a_letter(value=value, key=b"\x1b]0;x\x07")
    lines = lines_of(letter)
    assert len(lines) < 100 and all(len(line) < 300 and line.isprintable() for line in lines)
    assert as_json(letter)["bytes"] == len(value or b"")
