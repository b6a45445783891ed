"""One seed from beginning to end: world, schedule, faults, verdict, report."""

import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from streamer.adapters.kafka_client import quiet_client_logs
from tests.fault.lab import report, timeline
from tests.fault.lab.faults import BY_NAME
from tests.fault.lab.nemesis import Nemesis
from tests.fault.lab.report import Run
from tests.fault.lab.schedule import PACES, make_schedule
from tests.fault.lab.watch import Watch
from tests.fault.lab.world import Size, World
from tests.harness import eventually

RECOVERED_S = 90.0  # at the end, with all faults healed, until every worker is ready and everything is committed
WORLD = "world"  # the folder of brokers, Redis, workers and models, deleted after a good run


def run_seed(
    seed: int,
    minutes: float,
    size: Size,
    kinds: Sequence[str],
    folder: Path,
    pace: str = "usual",
) -> Run:
    """Do it, and write the report; what went wrong is in `failure`, not raised."""
    chosen = [BY_NAME[name].kind for name in kinds]
    schedule = make_schedule(seed, minutes * 60, chosen, size.brokers, PACES[pace])
    run = Run(seed, minutes, size, schedule, command(seed, minutes, size, kinds, pace))
    folder = folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    quiet_client_logs()  # a nemesis's own clients see every outage
    _tell(f"seed {seed}: {len(schedule)} faults in {minutes:g} minutes; {folder}")
    world = World(folder / WORLD, size)
    watch = None
    try:
        world.start()
        watch = Watch(world.stream)
        watch.start()
        _live(run, world, watch)
    except Exception as error:
        _note_failure(run, error, world, folder)
    finally:
        if watch:
            watch.stop()
        world.close()
    run.exits = world.exits
    if watch:
        run.recoveries = report.recoveries(run.happened, watch)
        timeline.draw(folder / "timeline.png", _title(run), run.began_ms, watch, run.happened, run.exits)
    report.write(run, folder)
    if not run.failure:
        shutil.rmtree(folder / WORLD / "services", ignore_errors=True)  # gigabytes; the workers' logs stay
    _tell(f"seed {seed}: {_title(run)}; report in {folder}")
    return run


def _live(run: Run, world: World, watch: Watch) -> None:
    """The faults, and the verdict."""
    nemesis = Nemesis(world, run.schedule, _tell)
    run.happened = nemesis.happened
    run.began_ms = time.time() * 1000
    nemesis.run(run.minutes * 60, lambda: watch.violation)
    stream = world.stream
    for load in stream.loads:
        load.stop()
    eventually(world.all_ready, RECOVERED_S, "every worker is ready again", world.workers_say)
    stream.settle(RECOVERED_S)
    last = stream.redecide_all()
    world.remember_tables()
    watch.stop()
    checked = stream.verify(tables=stream.known_tables)
    assert not watch.violation, watch.violation
    run.tracks = stream.hold_redecided(checked, last)
    run.keep(checked)


def _note_failure(run: Run, error: Exception, world: World, folder: Path) -> None:
    run.failure = (str(error) or repr(error))[:2000]
    (folder / "failure.txt").write_text(traceback.format_exc() + f"\nworkers: {world.workers_say()}\n")


def command(seed: int, minutes: float, size: Size, kinds: Sequence[str], pace: str) -> str:
    """The command that has the same schedule and the same world again."""
    usual = Size()
    parts = ["make", "chaos", f"MINUTES={minutes:.12g}", f"SEED={seed}"]
    more = [f"--{name} {value:g}" for name, value, other in (
        ("brokers", size.brokers, usual.brokers), ("workers", size.workers, usual.workers),
        ("rate", size.rate, usual.rate), ("bulk-rate", size.bulk_rate, usual.bulk_rate)) if value != other]  # fmt: skip
    if pace != "usual":
        more.append(f"--pace {pace}")
    if list(kinds) != list(BY_NAME):
        more.append(f"--only {shlex.quote(';'.join(kinds))}")
    return " ".join([*parts, *([f"ARGS={shlex.quote(' '.join(more))}"] if more else [])])


def _title(run: Run) -> str:
    count = sum(1 for one in run.happened if one.injected_ms)
    verdict = f"FAILED: {run.failure[:150]}" if run.failure else run.line or "no verdict"
    return f"seed {run.seed}, {count} faults: {verdict}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
