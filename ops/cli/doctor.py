"""`tagstream doctor`: what a worker stands on, line by line, and what to do about each line that fails."""

import asyncio
from typing import TYPE_CHECKING

import typer

from ops.cli.output import JsonFlag, emit_json, stderr_console, stdout_console

if TYPE_CHECKING:
    from ops.doctor.finding import Finding

EPILOG = "Example: tagstream doctor --json"
MARKS = {"ok": "ok  ", "skip": "--  ", "warn": "warn", "fail": "FAIL"}
STYLES = {"ok": "green", "skip": "dim", "warn": "yellow", "fail": "bold red"}


def doctor(json: JsonFlag = False) -> None:
    """Look at machine, Kafka, Redis and models with this user's settings and rights; change nothing.

    Exit code 1 where something fails; warnings do not count.
    """
    from ops.doctor.clinic import examine, is_healthy
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    quiet_client_logs()
    settings = load_settings()
    findings: list[Finding] = []

    async def look() -> None:
        with stderr_console.status("looking ..."):  # only on a terminal
            async for finding in examine(settings):
                findings.append(finding)
                if not json:
                    _show(finding)

    asyncio.run(look())
    healthy = is_healthy(findings)
    if json:
        rows = [{"check": f.check, "state": f.state, "what": f.what, "remedy": f.remedy} for f in findings]
        emit_json({"ok": healthy, "findings": rows})
    else:
        counts = {state: sum(f.state == state for f in findings) for state in ("fail", "warn")}
        stdout_console.print(f"{len(findings)} findings: {counts['fail']} fail, {counts['warn']} warn", markup=False)
    if not healthy:
        raise typer.Exit(1)


def _show(finding: "Finding") -> None:
    from rich.text import Text

    line = Text.assemble((MARKS[finding.state], STYLES[finding.state]), f"  {finding.check:<14}{finding.what}")
    stdout_console.print(line, soft_wrap=True)
    if finding.remedy:
        stdout_console.print(f"{'':>20}-> {finding.remedy}", markup=False, soft_wrap=True)
