"""A short run of the laboratory, the same each time: one broker, two workers, eleven kinds of faults at once.

The long one is `make chaos MINUTES=30 SEED=7`; its schedules are random.
"""

from pathlib import Path

import pytest

from ops.local.services import Services
from tests.fault.lab.run import run_seed
from tests.fault.lab.schedule import Entry
from tests.fault.lab.world import Size

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(400)]  # a busy machine's; 70 s on its own

MINUTES = 0.65
SIZE = Size(brokers=1, workers=2, rate=300)
# By hand, closer together than a random one: what is broken overlaps, and all of it fits into the time of `make test`.
SCHEDULE = [
    Entry(0.5, "poison events", {"count": 36, "seed": 1}, 0.0),
    Entry(0.8, "CUDA out of memory", {"slot": 1, "times": 1}, 0.0),
    Entry(1.5, "thresholds edited", {"value": "0.3", "tags": 40}, 0.0),
    Entry(2.0, "worker frozen beyond its session (zombie)", {"slot": 0}, 9.0),
    Entry(3.0, "network to Redis cut", {}, 3.0),
    Entry(7.0, "model switched", {}, 0.0),
    Entry(8.0, "Redis emptied", {}, 0.0),
    Entry(13.0, "scorer raises", {"slot": 1, "times": 1}, 0.0),
    Entry(20.0, "broker kill -9", {"node": 0}, 1.0),
    Entry(30.0, "worker kill -9", {"slot": 0}, 0.0),
    Entry(31.0, "network to a broker cut", {"node": 0}, 2.0),
]


def test_a_short_run_of_many_faults_loses_nothing(services: Services, tmp_path: Path):
    run = run_seed(1, MINUTES, SIZE, [entry.fault for entry in SCHEDULE], tmp_path / "chaos", SCHEDULE)
    assert not run.failure, f"{run.failure}; evidence in {tmp_path}"
    assert run.checked is not None and run.checked.inputs > 5_000
    happened = [one.name for one in run.happened if one.healed_ms]
    assert len(happened) == len(SCHEDULE), f"not all of the faults took place: {happened}"
    assert any(not one.asked for one in run.exits), "the scorer's exception ended no worker"
