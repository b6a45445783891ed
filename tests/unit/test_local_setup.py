"""Set-up: versions are pinned, and a machine that cannot be set up is told so in one sentence."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_and_nothing_names_a_place() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in pins), "name==version only"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {normal(re.split(r"[<>=!~;\[ ]", requirement)[0]) for requirement in wanted}
    assert names <= {normal(line.split("==")[0]) for line in pins}


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("PYTHON=no-such-python", "make: no Python 3.11 or newer with its venv module was found"),
        ("NEEDED_GB=99999999", "GB are free at"),
    ],
)
def test_a_machine_that_cannot_be_set_up(tmp_path: Path, argument: str, sentence: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    # These tests may themselves run under make, whose variables would be taken over.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    needed = [] if argument.startswith("NEEDED_GB") else ["NEEDED_GB=0"]
    done = subprocess.run(
        ["make", "setup", argument, *needed], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode != 0
    assert len(told) == 1 and sentence in told[0]
    assert not (tmp_path / ".venv").exists()
