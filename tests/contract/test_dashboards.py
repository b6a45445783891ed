"""The dashboards before TypeScript's compiler, with Grafana's own types of the version that docker-compose.yml runs."""

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from ops.grafana.make_dashboards import BOARDS, board_json
from tests.fixtures_services import start_or_skip
from tests.node_packages import installed

HERE = Path(__file__).with_name("dashboards")
COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
COMPILE_S = 120

Compiled = Callable[[dict[str, str]], str]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """What the compiler complains about in these dashboards."""
    packages = start_or_skip(partial(installed, HERE))
    folder = tmp_path_factory.mktemp("dashboards")
    (folder / "node_modules").symlink_to(packages / "node_modules")
    shutil.copy(HERE / "tsconfig.json", folder)

    def run(boards: dict[str, str]) -> str:
        lines = [f"export const {name}: Board = {text};" for name, text in boards.items()]
        (folder / "boards.ts").write_text("\n".join([(HERE / "check.ts").read_text(), *lines]))
        compiler = packages / "node_modules" / "typescript" / "bin" / "tsc"
        done = subprocess.run(
            ["node", str(compiler), "--project", "."], cwd=folder, check=False, capture_output=True, text=True,
            timeout=COMPILE_S,
        )  # fmt: skip
        assert done.returncode in (0, 1, 2), done.stderr
        return done.stdout

    return run


def test_grafana_s_own_types_agree_and_would_refuse_a_wrong_one(compiled: Compiled) -> None:
    boards = {board.uid.replace("-", "_"): board_json(board) for board in BOARDS}
    wrong = json.loads(board_json(BOARDS[0]))
    wrong["panels"][1]["titel"] = wrong["panels"][1].pop("title")
    wrong["graphTooltip"] = "crosshair"
    said = compiled({**boards, "wrong": json.dumps(wrong)})
    lines = [line for line in said.splitlines() if "error" in line]
    assert len(lines) == 2 and "'\"titel\"' does not exist" in said and "DashboardCursorSync" in said, said


def test_the_types_are_those_of_the_grafana_that_is_run() -> None:
    runs = yaml.safe_load(COMPOSE.read_text())["services"]["grafana"]["image"].partition(":")[2]
    assert json.loads((HERE / "package.json").read_text())["dependencies"]["@grafana/schema"] == runs
