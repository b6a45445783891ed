"""A real Prometheus for tests, on the product's own rules with their waiting times shortened.

Debian's package `prometheus` has it and promtool. Where they are not, tests that need them are skipped and say what
to install; with TAGSTREAM_REQUIRE_REAL=1 they fail.
"""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.local.process import LocalProcess, free_ports
from tests.fixtures_services import REQUIRE_REAL_VARIABLE

FOLDER = Path(__file__).parent.parent / "ops" / "prometheus"
RULES = FOLDER / "tagstream.rules.yml"
INTERVAL = "500ms"
FOR = "1s"  # instead of minutes
TIMEOUT_S = 150.0  # of one run of promtool: seconds, unless the machine has no time at all
JOB = "tagstream"


def tool(name: str) -> str:
    """The path of Debian's `prometheus` or `promtool`."""
    found = shutil.which(name)
    if found is None:
        why = f"no {name}: apt-get install prometheus (ops/ci/debian-packages.sh does)"
        if os.environ.get(REQUIRE_REAL_VARIABLE) == "1":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    return found


def promtool(*arguments: object, given: str = "") -> tuple[int, str]:
    """Run promtool: its exit code, and what it printed."""
    command = [tool("promtool"), *map(str, arguments)]
    done = subprocess.run(command, check=False, input=given, capture_output=True, text=True, timeout=TIMEOUT_S)
    return done.returncode, done.stdout + done.stderr


def rules() -> list[dict[str, Any]]:
    """Every rule of the product, those that alert and those that record."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


class Prometheus(LocalProcess):
    """Scrapes these ports of this machine as the job that the rules are about."""

    title = name = "prometheus"

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        super().__init__(folder=folder, die_with_parent=True)
        self.port = free_ports(1)[0]
        self._program = tool("prometheus")
        self._ports = ports

    def prepare(self) -> None:
        document = yaml.safe_load(RULES.read_text())
        for group in document["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = FOR
        (self.folder / "rules.yml").write_text(yaml.safe_dump(document))
        times = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
        targets = [{"targets": [f"127.0.0.1:{port}" for port in self._ports]}]
        config = {
            "global": times,
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": JOB, "static_configs": targets}],
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def command(self) -> list[str]:
        return [
            self._program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers. A query that it refuses is an error of the test's with its own words."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"Prometheus refuses {parameters}: {error.read().decode()}") from error

    def values(self, expr: str) -> list[float]:
        """The values of all series of an expression, now."""
        return [float(series["value"][1]) for series in self.ask("query", query=expr)["result"]]

    def firing(self) -> set[tuple[str, str]]:
        """Name and instance (or nothing) of the alerts that fire now."""
        alerts = self.ask("alerts")["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
            for alert in alerts
            if alert["state"] == "firing"
        }
