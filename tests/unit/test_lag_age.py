"""Lag in seconds: the age of the oldest record that is not committed."""

from streamer.core.lag import Fetched, LagAge
from streamer.core.stall import Standing

NOW_MS = 1_000_000.0


def standing(end: int, done: int | None) -> Standing:
    return Standing(end=end, done=done, read=done)


def test_no_lag_has_no_age_and_an_unknown_end_no_number():
    ages = LagAge().ages_s(NOW_MS, {0: standing(5, 5), 1: Standing(end=None, done=5, read=5)})
    assert ages == {0: 0.0}


def test_of_what_was_fetched_the_oldest_that_is_not_done_counts():
    age = LagAge()
    age.fetched(0, Fetched(0, 9, 900_000, 909_000), done=0)
    age.fetched(0, Fetched(10, 19, 910_000, 919_000), done=0)
    assert age.ages_s(NOW_MS, {0: standing(30, 0)}) == {0: 100.0}
    assert age.ages_s(NOW_MS, {0: standing(30, 4)}) == {0: 96.0}, "between the ends by offset"
    assert age.ages_s(NOW_MS, {0: standing(30, 10)}) == {0: 90.0}
    assert age.ages_s(NOW_MS, {0: standing(30, 30)}) == {0: 0.0}


def test_of_what_nobody_has_fetched_the_clock_runs_since_it_was_seen():
    age = LagAge()
    assert age.ages_s(NOW_MS, {0: standing(7, 5)}) == {0: 0.0}
    assert age.ages_s(NOW_MS + 30_000, {0: standing(9, 5)}) == {0: 30.0}
    age.fetched(0, Fetched(5, 8, 880_000, 890_000), done=5)
    assert age.ages_s(NOW_MS + 30_000, {0: standing(9, 5)}) == {0: 150.0}, "now its own timestamp is known"
    assert age.ages_s(NOW_MS + 40_000, {0: standing(9, 9)}) == {0: 0.0}
    assert age.ages_s(NOW_MS + 50_000, {0: standing(10, 9)}) == {0: 0.0}, "it begins anew"


def test_events_without_a_timestamp_and_clocks_ahead_of_ours():
    age = LagAge()
    age.fetched(0, Fetched(0, 9, -1, -1), done=0)
    age.fetched(1, Fetched(0, 9, 2_000_000, 2_000_000), done=0)
    assert age.ages_s(NOW_MS, {0: standing(10, 0), 1: standing(10, 0)}) == {0: 0.0, 1: 0.0}
    assert age.ages_s(NOW_MS + 5_000, {0: standing(10, 0)}) == {0: 5.0}


def test_a_partition_that_is_read_anew_starts_anew():
    age = LagAge()
    age.fetched(0, Fetched(0, 9, 900_000, 909_000), done=0)
    age.forget()
    assert age.ages_s(NOW_MS, {0: standing(10, 0)}) == {0: 0.0}


def test_what_is_done_is_not_kept():
    age = LagAge()
    for first in range(0, 10_000, 10):
        age.fetched(0, Fetched(first, first + 9, 0, 0), done=first)
    assert len(age._fetched[0]) == 1
