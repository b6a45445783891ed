"""The watch over stalls, with the clock in hand: what moves is left alone, what stands still is found in time."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.stall import StallWatch, Standing

STANDING = Standing(end=100, done=10, read=20)
pauses_s = st.lists(st.floats(0.01, 10), min_size=1, max_size=30)


def after(watch: StallWatch, steps, start_s: float = 1000.0):
    """What the last look gives; `steps` are (pause, standing, served, excused)."""
    now_s, stalls = start_s, []
    for pause_s, standing, served, excused in steps:
        now_s += pause_s
        stalls = watch.look(now_s, {0: standing}, served, {0} if excused else ())
    return stalls


@settings(max_examples=50, deadline=None)
@given(pauses_s)
def test_what_stands_still_is_late_by_exactly_the_time_since_it_moved(pauses):
    stalls = after(StallWatch(), [(0, STANDING, 7, False)] + [(pause, STANDING, 7, False) for pause in pauses])
    (stall,) = stalls
    assert abs(stall.idle_s - sum(pauses)) < 1e-6
    assert stall.blamed_s == stall.idle_s


@settings(max_examples=50, deadline=None)
@given(pauses_s, st.integers(0, 10**6))
def test_a_log_that_grows_and_reading_again_are_no_progress(pauses, growth):
    steps = [(0, STANDING, 7, False)]
    for index, pause in enumerate(pauses):
        read = STANDING.read - index % 2 if STANDING.read else None
        steps.append((pause, replace(STANDING, end=100 + growth * index, read=read), 7, False))
    (stall,) = after(StallWatch(), steps)
    assert abs(stall.idle_s - sum(pauses)) < 1e-6


@settings(max_examples=50, deadline=None)
@given(pauses_s, st.sampled_from(["done", "read"]))
def test_a_step_forward_begins_the_clock_anew(pauses, what):
    moved = replace(STANDING, **{what: 30})
    steps = [(pause, STANDING, 7, False) for pause in pauses]
    assert after(StallWatch(), [*steps, (5, moved, 7, False)]) == []
    (stall,) = after(StallWatch(), [*steps, (5, moved, 7, False), (2, moved, 7, False)])
    assert abs(stall.idle_s - 2) < 1e-6


@settings(max_examples=50, deadline=None)
@given(pauses_s)
def test_nothing_left_to_do_is_never_late(pauses):
    done = Standing(end=100, done=100, read=100)
    assert after(StallWatch(), [(pause, done, 7, False) for pause in pauses]) == []


@settings(max_examples=50, deadline=None)
@given(pauses_s)
def test_one_that_queues_is_late_only_when_the_queue_stands_still(pauses):
    queued = replace(STANDING, queued=True)
    served = [(pause, queued, index, False) for index, pause in enumerate(pauses)]
    assert after(StallWatch(), served) == []
    (stall,) = after(StallWatch(), [*served, (3, queued, len(pauses) - 1, False)])
    assert abs(stall.idle_s - 3) < 1e-6
    alone = [(pause, STANDING, index, False) for index, pause in enumerate(pauses)]
    assert after(StallWatch(), [*alone, (3, STANDING, 99, False)])[0].idle_s >= 3


@settings(max_examples=50, deadline=None)
@given(pauses_s, st.floats(0.01, 10))
def test_while_kafka_is_away_it_is_late_and_not_to_blame(pauses, since_s):
    steps = [(0, STANDING, 7, False)] + [(pause, STANDING, 7, True) for pause in pauses]
    (stall,) = after(StallWatch(), steps)
    assert stall.blamed_s == 0 and stall.idle_s > 0
    (stall,) = after(StallWatch(), [*steps, (since_s, STANDING, 7, False)])
    assert abs(stall.blamed_s - since_s) < 1e-6
    assert abs(stall.idle_s - sum(pauses) - since_s) < 1e-6


@settings(max_examples=50, deadline=None)
@given(pauses_s)
def test_an_end_that_nobody_knows_does_not_stop_the_clock(pauses):
    unknown = Standing(end=None, done=0, read=None)
    (stall,) = after(StallWatch(), [(0, unknown, 7, False)] + [(pause, unknown, 7, False) for pause in pauses])
    assert stall.idle_s > 0


def test_the_longest_comes_first_and_what_was_taken_away_is_forgotten():
    watch = StallWatch()
    watch.look(0, {0: STANDING}, 0)
    watch.look(1, {0: STANDING, 1: STANDING}, 0)
    assert [stall.partition for stall in watch.look(9, {0: STANDING, 1: STANDING}, 0)] == [0, 1]
    watch.look(10, {1: STANDING}, 0)
    assert [stall.idle_s for stall in watch.look(11, {0: STANDING, 1: STANDING}, 0)] == [10]
    watch.forget()
    assert watch.look(12, {0: STANDING, 1: STANDING}, 0) == []


def test_lag_counts_from_what_is_read_where_nothing_is_committed():
    assert Standing(end=10, done=None, read=10).lag == 0
    assert Standing(end=10, done=None, read=None).lag is None
    assert Standing(end=10, done=4, read=10).lag == 6
    assert Standing(end=10, done=1000, read=0).lag == 0
