"""docs/scaling.md: its arithmetic is done again, and what it calls measured is what the benches' reports hold."""

import json
import math
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "scaling.md").read_text(encoding="utf-8")
LOAD = 0.7
EVENT_BYTES = 2_147
NEAR = 0.2  # by how much a rounded figure may differ from the newest report: beyond it the page is to be redone
TRACKS = {
    "100 million in 8 hours": (1e8, 8.0),
    "100 million in 1 hour": (1e8, 1.0),
    "a steady billion a day": (1e9, 24.0),
}


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]


def rows() -> dict[str, list[str]]:
    """The cells of the table of what is reckoned, by the first of each row."""
    lines = PAGE.partition("| | 100 million")[2].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in cells[1:]}


def row(begins: str) -> list[str]:
    (found,) = (cells for name, cells in rows().items() if name.startswith(begins))
    return found


def speed() -> float:
    (line,) = re.findall(r"^\| s: .*$", PAGE, re.MULTILINE)
    return numbers(line.split("|")[2])[0]


@pytest.mark.parametrize(("at", "name"), list(enumerate(TRACKS)))
def test_the_arithmetic_is_right(at: int, name: str) -> None:
    n, hours = TRACKS[name]
    rate = n / (3600 * hours) * numbers(rows()["p"][at])[0]
    workers = math.ceil(rate / (speed() * LOAD))
    assert numbers(row("r, tracks/s")[at])[0] == pytest.approx(rate, abs=0.5)
    assert numbers(row("w = r")[at]) == [workers, 1]
    assert numbers(row("partitions")[at])[0] >= 2 * workers
    assert numbers(row("bytes in")[at])[0] == pytest.approx(rate * EVENT_BYTES / 1e6, abs=0.06)
    assert numbers(row("input kept")[at])[0] == pytest.approx(n * EVENT_BYTES / 1e9, abs=0.6)
    assert numbers(row("core-hours")[at])[0] == pytest.approx((workers + 1) * hours)


def test_what_is_called_measured_is_what_the_reports_hold() -> None:
    assert f"| {EVENT_BYTES:,} |" in PAGE and f"u = {LOAD}" in PAGE
    report = json.loads((DOCS / "performance" / "worker-json-served-1.json").read_text(encoding="utf-8"))
    (run,) = report["runs"]
    (told_us,) = re.findall(r"([\d,]+) us of CPU an event", PAGE)
    assert float(told_us) == pytest.approx(run["cpu_us_per_event"], rel=NEAR)
    assert speed() == pytest.approx(1e6 / run["cpu_us_per_event"], rel=NEAR)
    assert "None of the columns has been run at that size." in PAGE
