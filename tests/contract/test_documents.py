"""Documents are part of the product: what they link to, name and promise is there."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "ops").rglob("*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
SOURCE = re.compile(r"`((?:streamer|model|ops|tests|docs)/[\w./-]+\.(?:py|md|json|java|sh|toml|yml))(?:::\w+)?`")


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} leads nowhere"
        if fragment:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{target}: no such heading"
    for name in SOURCE.findall(text):
        assert (ROOT / name).exists(), f"{name} does not exist"
    blocks = "\n".join(re.findall(r"^```\n(.+?)^```", text, re.MULTILINE | re.DOTALL))
    named = re.findall(r"`make ([a-z][a-z-]+)", text) + re.findall(r"^make ([a-z][a-z-]+)", blocks, re.MULTILINE)
    for target in named:
        assert target in TARGETS, f"`make {target}` does not exist"


def test_every_example_is_introduced_and_run() -> None:
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("ingestion.md", "consumers.md"))
    run = (ROOT / "tests" / "integration" / "test_neighbours.py").read_text(encoding="utf-8")
    examples = [path.name for path in (ROOT / "docs" / "examples").iterdir() if path.is_file()]
    assert len(examples) == 7
    for name in examples:
        assert f"(examples/{name})" in pages and f'"{name}"' in run, (
            f"{name} is introduced by no page or run by no test"
        )


def test_the_licence_is_the_one_that_is_named() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0" and "Apache License" in text and "Version 2.0" in text
    assert PROJECT["license-files"] == ["LICENSE"]


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    titles = [section.splitlines()[0] for section in sections]
    released = [tuple(map(int, title.split("."))) for title in titles if title != "Unreleased"]
    assert PROJECT["version"] in titles and released == sorted(released, reverse=True)
    for section in sections:
        assert "### For operators" in section, f"{section.splitlines()[0]} does not say what operators must do"


def test_hooks_and_workflow_run_what_lint_and_ci_run() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert local["repo"] == "local"  # nothing is fetched
    for hook in local["hooks"]:
        tool = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert f"$(BIN)/{tool}" in MAKEFILE, f"the hook {hook['id']} runs {tool}, which make does not"
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps
    for target in re.findall(r"make ([a-z-]+)", "\n".join(steps)):
        assert target in TARGETS
    tested = workflow["jobs"]["lint-and-test"]["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={min(tested, key=lambda text: int(text.split('.')[1]))}"


def test_scripts_are_scripts() -> None:
    folders = (ROOT / "ops" / "ci", ROOT / "ops" / "compose", ROOT / "tests" / "compose")
    for script in (ROOT / ".ci" / "run", *(script for folder in folders for script in folder.glob("*.sh"))):
        assert script.stat().st_mode & 0o111, f"{script} cannot be run"
        subprocess.run(["bash", "-n", script], check=True)
