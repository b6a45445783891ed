"""SECURITY.md names tests that there are; docs/security.md shows the rights that the tests take apart."""

import re
from pathlib import Path

import pytest

from ops.security_docs import PAGE, with_rights
from streamer.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "SECURITY.md", PAGE)
THREATS = [line for line in PAGES[0].read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_the_rights_are_those_of_the_code():
    page = PAGE.read_text(encoding="utf-8")
    assert with_rights(page) == page, "run `python -m ops.security_docs`"


@pytest.mark.parametrize("line", THREATS, ids=lambda line: line.split("|")[1].strip())
def test_every_threat_names_tests_that_there_are(line: str):
    found = NAMED.findall(line)
    assert found, "no test is named"
    for path, name in found:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name or 'test_'}", source, re.MULTILINE), f"{path} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path):
    named = set(re.findall(r"TAGSTREAM_([A-Z_]+[A-Z])", page.read_text(encoding="utf-8")))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
