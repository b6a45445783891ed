"""`bench stages`: where a worker's microseconds go, by its own stage clocks and by a profile from outside.

The clocks tell how long each stage of a micro-batch lasts, waiting included, and stages overlap. The profile (py-spy,
optional) tells where the processor is: each sample of a thread that runs counts for the innermost frame that is this
project's, or of a client library, and is told in microseconds of the worker's CPU per event.
"""

import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ops.bench.environment import environment
from ops.bench.stand import OnProgress, open_stand
from ops.bench.worker import Outcome, Plan, publish_models, run_plan
from ops.errors import OpsError

SAMPLES_PER_S = 250
PROFILE_S = 600  # at most; it ends with the worker
PROFILER_END_S = 30.0
FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^():]+)(?::\d+)?\)$")
# Whose frames a sample may be counted for.
KNOWN = ("streamer/", "model/", "aiokafka/", "faust/", "mode/", "redis/", "prometheus_client/", "asyncio/", "torch/")

# A thread whose innermost frame is one of these waits; py-spy takes some of them for running.
WAITING = {("select", "selectors.py"), ("_worker", "thread.py"), ("wait", "threading.py")}
WAITED = "waiting for the network or another thread, and being woken"


def run_stages(plan: Plan, on_progress: OnProgress) -> dict[str, Any]:
    """Run the plan once and look where its time goes; the report that `--json` prints."""
    around, started = environment(), time.perf_counter()
    outcome, profile = asyncio.run(_run(plan, on_progress))
    report = outcome.as_report()
    total = sum(profile.values())
    share = report["cpu_us_per_event"] / total if total else 0.0
    return report | {
        "profile_us": {place: count * share for place, count in profile.most_common()},
        "samples": total,
        "missing": "" if profile else _missing(),
        "foreign_cores": statistics.fmean(run.foreign_cores for run in outcome.runs),
        "environment": around | {"load_1min_after": os.getloadavg()[0]},
        "seconds": time.perf_counter() - started,
    }


async def _run(plan: Plan, on_progress: OnProgress) -> tuple[Outcome, Counter[str]]:
    if plan.workers != 1:
        raise OpsError(f"the stages of one worker are looked at, not of {plan.workers}.")
    async with open_stand(on_progress) as stand:
        models = await asyncio.to_thread(publish_models, stand, [plan])
        outcome = Outcome(plan, [], [], {})
        recordings: list[tuple[subprocess.Popen[bytes], Path]] = []

        def record(pids: list[int]) -> None:
            path = stand.folder / "profile.txt"
            if profiler := _profiler():
                command = [profiler, "record", "-p", str(pids[0]), "-r", str(SAMPLES_PER_S), "-d", str(PROFILE_S)]
                command += ["-f", "raw", "-o", str(path)]
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                recordings.append((subprocess.Popen(command, **quiet), path))  # type: ignore[call-overload]

        try:
            await run_plan(stand, outcome, models, 1, at_first=record)
            profile = Counter[str]()
            for profiler, path in recordings:
                await asyncio.to_thread(profiler.wait, PROFILER_END_S)
                profile += by_place(path.read_text(errors="replace").splitlines() if path.exists() else [])
        finally:
            for profiler, _ in recordings:
                profiler.kill()
                profiler.wait()
        return outcome, profile


def by_place(lines: Iterable[str]) -> Counter[str]:
    """Samples by file and function, of py-spy's raw lines: frames from the outermost in, `;` between, then a count."""
    found: Counter[str] = Counter()
    for line in lines:
        frames, _, count = line.rpartition(" ")
        if count.isdigit():
            found[_place(frames.split(";"))] += int(count)
    return found


def _place(frames: list[str]) -> str:
    innermost = FRAME.match(frames[-1])
    if innermost and (innermost["function"], Path(innermost["file"]).name) in WAITING:
        return WAITED
    for frame in reversed(frames):
        if match := FRAME.match(frame):
            for known in KNOWN:
                _, there, rest = match["file"].rpartition(known)
                if there:
                    return f"{known}{rest}: {match['function']}"
    return f"{innermost['file']}: {innermost['function']}" if innermost else frames[-1]


def _profiler() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _missing() -> str:
    if _profiler() is None:
        return "There is no profile: py-spy is not installed; `pip install -e '.[bench]'` installs it."
    return "There is no profile: py-spy may not look into the worker here (it needs to be root, or ptrace_scope 0)."
