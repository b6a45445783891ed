"""The laboratory's schedule: the same for the same seed, all kinds in turn, never two faults in each other's way."""

import json
import shlex

import pytest

from tests.fault.lab.__main__ import arguments
from tests.fault.lab.faults import ALL, BY_NAME
from tests.fault.lab.run import command
from tests.fault.lab.schedule import CALM_END_S, FIRST_FAULT_S, PACES, Entry, make_schedule
from tests.fault.lab.world import Size

KINDS = [fault.kind for fault in ALL]
SEEDS = range(1, 31)


def test_the_same_seed_gives_the_same_schedule():
    assert make_schedule(7, 600, KINDS, 3) == make_schedule(7, 600, KINDS, 3)
    assert make_schedule(7, 600, KINDS, 3) != make_schedule(8, 600, KINDS, 3)


@pytest.mark.parametrize(
    ("seed", "minutes", "size", "kinds", "pace"),
    [
        (7, 30 / 7, Size(), list(BY_NAME), "usual"),
        (63, 0.84, Size(brokers=1, workers=2, rate=120.5, bulk_rate=0), list(BY_NAME), "dense"),
        (31, 5, Size(), ["Redis kill -9", "worker frozen beyond its session (zombie)"], "alone"),
    ],
)
def test_a_run_is_had_again_by_the_command_that_its_report_names(seed, minutes, size, kinds, pace):
    make, chaos, *words = shlex.split(command(seed, minutes, size, kinds, pace))
    variables = dict(word.split("=", 1) for word in words)
    more = shlex.split(variables.pop("ARGS", ""))
    assert (make, chaos, set(variables)) == ("make", "chaos", {"MINUTES", "SEED"})
    again = arguments(["--minutes", variables["MINUTES"], "--seed", variables["SEED"], *more])
    assert Size(again.brokers, again.workers, again.rate, bulk_rate=again.bulk_rate) == size
    named = again.only.split(";") if again.only else list(BY_NAME)

    def schedule(of_seed: int, of_minutes: float, names: list[str], of_pace: str) -> list[Entry]:
        chosen = [BY_NAME[name].kind for name in names]
        return make_schedule(of_seed, of_minutes * 60, chosen, size.brokers, PACES[of_pace])

    assert schedule(again.seed, again.minutes, named, again.pace) == schedule(seed, minutes, kinds, pace) != []


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
