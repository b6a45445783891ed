"""A short run of the laboratory: one broker, two workers, and a seed's faults close together.

The long one is `make chaos MINUTES=30 SEED=7`.
"""

from pathlib import Path

import pytest

from ops.local.services import Services
from tests.fault.lab.faults import BY_NAME
from tests.fault.lab.run import run_seed
from tests.fault.lab.world import Size

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.timeout(400)]  # a busy machine's; 70 s on its own

SEED = 63
MINUTES = 0.84
LEAST_FAULTS = 12
SIZE = Size(brokers=1, workers=2, rate=300)


def test_a_short_run_of_many_faults_loses_nothing(services: Services, tmp_path: Path):
    run = run_seed(SEED, MINUTES, SIZE, list(BY_NAME), tmp_path / "chaos", "dense")
    assert not run.failure, f"{run.failure}; evidence in {tmp_path}; again: {run.command}"
    assert run.checked is not None and run.checked.inputs > 5_000
    happened = [one.name for one in run.happened if one.healed_ms]
    assert len(happened) == len(run.schedule) >= LEAST_FAULTS, f"not all of the faults took place: {happened}"
