"""The circuit breaker for a surge of dead letters, alone and in the hot path."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.breaker import Breaker
from tests.fakes import a_while, until
from tests.pipeline_bench import DEAD, TAGS, bench


def a_breaker(resume_s: float = 300.0) -> Breaker:
    return Breaker(share=0.5, least_inputs=1000, window_s=60.0, resume_s=resume_s)


@pytest.mark.parametrize(
    ("inputs", "dead", "opens"), [(1000, 501, True), (1000, 500, False), (999, 999, False), (5000, 2501, True)]
)
def test_more_than_half_of_at_least_a_thousand(inputs, dead, opens):
    breaker = a_breaker()
    assert breaker.add(0.0, inputs, dead) is opens
    assert breaker.is_open(0.0) is opens
    assert bool(breaker.why) is opens


def test_what_is_older_than_the_window_does_not_count():
    breaker = a_breaker()
    assert not breaker.add(0.0, 900, 900)
    assert not breaker.add(61.0, 900, 900)
    assert breaker.add(62.0, 100, 100)
    assert "1000 of 1000 inputs within 60 s" in breaker.why


def test_it_closes_by_itself_or_only_by_hand():
    by_itself, by_hand = a_breaker(), a_breaker(resume_s=0.0)
    for breaker in (by_itself, by_hand):
        assert breaker.add(0.0, 1000, 1000)
        assert breaker.is_open(299.0)
    assert not by_itself.is_open(300.0)
    assert by_hand.is_open(1e9)
    by_hand.close()
    assert not by_hand.is_open(1e9)


def test_after_a_pause_it_counts_from_nothing():
    breaker = a_breaker()
    breaker.add(0.0, 1000, 1000)
    assert not breaker.add(1.0, 5000, 5000), "what was in flight when it opened does not open it again"
    breaker.close()
    assert not breaker.add(2.0, 999, 999)
    assert breaker.add(3.0, 1, 1)
    assert breaker.trips == 2


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 700), st.floats(0, 1)), max_size=60))
def test_it_opens_exactly_when_a_plain_count_of_the_window_says_so(batches):
    breaker, now_s, seen = a_breaker(), 0.0, []
    for wait_s, inputs, share in batches:
        now_s += wait_s
        dead = int(inputs * share)
        seen.append((now_s, inputs, dead))
        opened = breaker.add(now_s, inputs, dead)
        surely = [batch for batch in seen if batch[0] > now_s - 59]  # buckets of a second: in the window for certain
        if opened:
            assert sum(batch[1] for batch in seen if batch[0] > now_s - 61) >= 1000
            return
        if surely == [batch for batch in seen if batch[0] > now_s - 61]:
            all_inputs = sum(batch[1] for batch in surely)
            assert all_inputs < 1000 or sum(batch[2] for batch in surely) <= 0.5 * all_inputs


async def test_a_surge_pauses_the_intake_and_a_resume_ends_that():
    async with bench(batch_max=4, least_inputs=8) as b:
        await b.feed(0, *[b"bad"] * 8)
        await until(lambda: b.pipeline.paused != "")
        feeding = b.feed(0, *b.tracks(4))
        task = asyncio.create_task(feeding)
        await asyncio.sleep(0.15)
        assert not task.done()
        assert len(b.sink.records(DEAD)) == 8, "what led to the pause is a dead letter all the same"
        assert b.committable() == {0: 8}
        b.pipeline.resume()
        await task
        await until(lambda: b.committable() == {0: 12})
        assert len(b.sink.records(TAGS)) == 4
        assert b.pipeline.pauses == 1


async def test_a_pause_ends_by_itself_when_its_time_is_over():
    async with bench(batch_max=4, least_inputs=4) as b:
        await b.feed(0, *[b"bad"] * 4)
        await until(lambda: b.pipeline.paused != "")
        b.clock.now_s += 301
        await b.feed(0, *b.tracks(4))
        await until(lambda: b.committable() == {0: 8})


async def test_a_pause_ends_in_time_where_nothing_comes():
    async with bench(batch_max=4, least_inputs=4) as b:
        await b.feed(0, *[b"bad"] * 4)
        await until(lambda: b.pipeline.paused != "")
        b.clock.now_s += 301
        assert b.pipeline.paused == "", "a worker without input stays not ready for ever"


async def test_a_rebalance_does_not_wait_for_the_end_of_a_pause():
    async with bench(batch_max=4, least_inputs=4) as b:
        await b.feed(0, *[b"bad"] * 4)
        await until(lambda: b.pipeline.paused != "")
        task = asyncio.create_task(b.feed(0, *b.tracks(4)))
        await a_while()
        assert await b.pipeline.drain(1.0)
        await asyncio.wait_for(task, 5)
        assert b.sink.records(TAGS) == []


async def test_a_decision_too_large_for_its_topic_is_a_dead_letter_alone():
    async with bench(batch_max=3, linger_s=60) as b:
        b.sink.largest_value = 60
        long_id = b"L" * 60
        await b.feed(0, b"A 0.5", long_id + b" 0.5", b"B 0.5")
        await until(lambda: b.committable() == {0: 3})
        assert b.keys(TAGS, 0) == ["A", "B"]
        (letter,) = b.sink.records(DEAD)
        assert letter.value == long_id + b" 0.5"
        assert dict(letter.headers)["error.code"] == b"output-refused"
        assert b.metrics.reports[0].dead == {"output-refused": 1}


async def test_a_number_out_of_range_is_not_refused_twice():
    async with bench(batch_max=2, linger_s=60) as b:
        b.sink.largest_value = 1
        await b.feed(0, b"A 1.5", b"B 0.5")
        await until(lambda: b.committable() == {0: 2})
        assert {r.value for r in b.sink.records(DEAD)} == {b"A 1.5", b"B 0.5"}
