"""The kernels once more, with every index checked: left out by numba otherwise, and wrong ones would go unseen."""

import os
import subprocess
import sys
from pathlib import Path

HELD = [
    "tests/property/test_json_kernel.py",
    "tests/property/test_kafka_batches.py",
    "tests/unit/test_kafka_records.py",
    "tests/unit/test_json_decisions.py",
    "tests/property/test_ids.py",
]


def test_no_kernel_leaves_its_arrays(tmp_path: Path):
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}  # what is kept elsewhere does not check
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *HELD]
    done = subprocess.run(
        command, env=os.environ | checked, capture_output=True, text=True, timeout=400, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:]
    assert any(tmp_path.rglob("*read_events*")), "they were compiled for it"


def test_a_kernel_that_does_would_be_seen(tmp_path: Path):
    program = """
import numpy as np
from streamer.core.kernel import kernel

@kernel
def leave(numbers):
    return numbers[len(numbers)]

leave(np.zeros(3))
"""
    (tmp_path / "leaver.py").write_text(program)
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "leaver.py")], env=os.environ | checked, capture_output=True, text=True,
        timeout=60, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode != 0 and "IndexError" in done.stderr
