"""The alert rules by promtool's own tests, and whether each has a case and a way to deal with it."""

import re
from pathlib import Path

import pytest
import yaml

from tests.prometheus import FOLDER, promtool, rules

CASES = FOLDER / "tagstream.rules.test.yml"
RUNBOOK = Path(__file__).parents[2] / "ops" / "runbook.md"
STEPS = ("Symptom", "Look", "Do", "Verify")

ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def runbook_sections() -> dict[str, str]:
    """The runbook's text by heading."""
    pieces = re.split(r"^## (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_promtool_agrees_with_every_case():
    code, said = promtool("test", "rules", CASES)
    assert code == 0, said


def test_the_configuration_is_valid():
    code, said = promtool("check", "config", FOLDER / "prometheus.yml")
    assert code == 0 and "WARNING" not in said, said


def test_every_alert_has_a_case_in_which_it_fires():
    cases = yaml.safe_load(CASES.read_text())["tests"]
    expected = [
        sample["labels"] for case in cases for one in case["promql_expr_test"] for sample in one.get("exp_samples", [])
    ]
    fired = {name for labels in expected for name in re.findall(r'alertname="(\w+)"', labels)}
    assert fired == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_leads_to_its_section_of_the_runbook(name: str):
    alert = ALERTS[name]
    assert alert["annotations"]["runbook"] == f"ops/runbook.md#{name.lower()}"
    assert alert["annotations"]["summary"].endswith(".")
    assert alert["labels"]["severity"] in ("page", "ticket")
    section = runbook_sections().get(name, "")
    places = [section.find(f"**{step}.**") for step in STEPS]
    assert -1 not in places and places == sorted(places), f"{name}: the runbook has {places} of {STEPS}"


def test_the_runbook_has_no_section_for_an_alert_that_is_no_more():
    assert {name for name in runbook_sections() if name.startswith("Tagstream")} == set(ALERTS)
