"""One soak from the first service to the last file: what the command and its own test share."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ops.errors import OpsError
from streamer.core.errors import TagstreamError
from tests.fault.soak.report import write_reports
from tests.fault.soak.samples import Observer
from tests.fault.soak.stage import Plan, Soak, make_stream, own_services
from tests.fault.soak.verdict import judge


def soak(plan: Plan, folder: Path, say: Callable[[str], None]) -> tuple[dict[str, Any], list[str]]:
    """Run it and write its files into `folder`: the figures, and what failed (nothing, if all is well)."""
    scratch = folder / "run"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    started_s, failures = time.monotonic(), []
    if plan.checked_rate < plan.rate:
        say(f"{plan.checked_rate:,.0f} events/s instead of {plan.rate:,.0f}: the checker holds all of them in memory")
    with own_services(scratch / "services") as services:
        stream = make_stream(services, scratch)
        observer = Observer(stream, services, (stream.artefacts.first, stream.artefacts.second), plan.sample_s)
        run = Soak(stream, observer, plan, say)
        try:
            run.run()
        except (AssertionError, OpsError, TagstreamError) as error:  # told in the report, with all that was seen
            failures.append(str(error))
        finally:
            observer.stop()
            stream.close()
    figures, grew = judge(observer.samples, plan.seconds)
    failures += grew
    write_reports(folder, plan, run.outcome, observer.samples, figures, failures)
    if not failures:
        shutil.rmtree(scratch, ignore_errors=True)  # else the logs are there to be read
    say(f"{time.monotonic() - started_s:.0f} s in all; {folder / 'report.md'}")
    return figures, failures
