"""The laboratory's schedule: the same for the same seed, all kinds in turn, never two faults in each other's way."""

import json

import pytest

from tests.fault.lab.faults import ALL, BY_NAME
from tests.fault.lab.schedule import CALM_END_S, FIRST_FAULT_S, PACES, make_schedule

KINDS = [fault.kind for fault in ALL]
SEEDS = range(1, 31)


def test_the_same_seed_gives_the_same_schedule():
    assert make_schedule(7, 600, KINDS, 3) == make_schedule(7, 600, KINDS, 3)
    assert make_schedule(7, 600, KINDS, 3) != make_schedule(8, 600, KINDS, 3)


def test_names_are_unique():
    assert len(BY_NAME) == len(ALL)


def test_alone_is_alone_and_dense_is_dense():
    alone, dense = (make_schedule(7, 600, KINDS, 3, PACES[pace]) for pace in ("alone", "dense"))
    ends = [entry.at_s + entry.duration_s for entry in alone]
    assert all(entry.at_s > end for entry, end in zip(alone[1:], ends, strict=False))
    assert len(dense) > 3 * len(alone)


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_never_two_in_each_others_way(seed: int, pace: str):
    entries = make_schedule(seed, 600, KINDS, 3, PACES[pace])
    for index, one in enumerate(entries):
        for other in entries[index + 1 :]:
            apart = other.at_s > one.at_s + one.duration_s or one.at_s > other.at_s + other.duration_s
            shared = BY_NAME[one.fault].kind.touches & BY_NAME[other.fault].kind.touches
            assert apart or not shared, f"{one} and {other} both touch {shared}"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_comes_in_a_long_run(seed: int):
    entries = make_schedule(seed, 1_800, KINDS, 3)
    assert {entry.fault for entry in entries} == set(BY_NAME)
    json.dumps([entry.as_json() for entry in entries])


def test_every_kind_comes_in_a_series_of_short_runs():
    seen = {entry.fault for seed in range(1, 11) for entry in make_schedule(seed, 180, KINDS, 3)}
    assert seen == set(BY_NAME)


@pytest.mark.parametrize("seed", SEEDS)
def test_inside_its_time_and_with_quiet_ends(seed: int):
    entries = make_schedule(seed, 120, KINDS, 3)
    assert entries and min(entry.at_s for entry in entries) >= FIRST_FAULT_S
    assert max(entry.at_s + entry.duration_s for entry in entries) + CALM_END_S <= 120


def test_one_broker_has_no_faults_of_three():
    entries = make_schedule(1, 1_800, KINDS, 1)
    assert {BY_NAME[entry.fault].kind.brokers for entry in entries} == {1}
