"""`python -m tests.fault.lab --minutes 30 --seed 7`: one long run, or one after another with `--seeds 10`.

Ends with 1 and the command that has the same schedule again where a promise was broken; everything stays in the
folder then.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ops.errors import OpsError
from tests.fault.lab.faults import BY_NAME
from tests.fault.lab.report import Run, write_summary
from tests.fault.lab.run import run_seed
from tests.fault.lab.schedule import PACES
from tests.fault.lab.world import Size


def main() -> int:
    """Run what the command line asks for."""
    asked = arguments()
    kinds = asked.only.split(";") if asked.only else list(BY_NAME)
    if unknown := [name for name in kinds if name not in BY_NAME]:
        print(f"chaos: there is no fault {unknown[0]!r}; there are: {', '.join(BY_NAME)}", file=sys.stderr)
        return 2
    size = Size(asked.brokers, asked.workers, asked.rate, bulk_rate=asked.bulk_rate)
    runs: list[Run] = []
    for seed in range(asked.seed, asked.seed + asked.seeds):
        minutes, folder = asked.minutes / asked.seeds, asked.folder / str(seed)
        runs.append(run_seed(seed, minutes, size, kinds, folder, asked.pace))
        if asked.seeds > 1:
            write_summary(runs, asked.folder)
    failed = [run for run in runs if run.failure]
    for run in failed:
        print(f"seed {run.seed} FAILED: {run.failure}\nagain: {run.command}", file=sys.stderr)
    return 1 if failed else 0


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked for, by default on the command line."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="of faults, all seeds together")
    parser.add_argument("--seed", type=int, default=1, help="the schedule's, or the first of --seeds")
    parser.add_argument("--seeds", type=int, default=1, help="so many runs, one after the other, sharing the minutes")
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=Size.rate, help="events a second")
    parser.add_argument("--bulk-rate", type=float, default=Size.bulk_rate, help="tracks a second in bulk messages")
    parser.add_argument("--only", default="", help="these kinds of faults, separated by semicolons")
    parser.add_argument("--pace", choices=list(PACES), default="usual", help="alone: so that each recovery is told")
    parser.add_argument("--folder", type=Path, default=Path("build/chaos"))
    return parser.parse_args(words)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OpsError as error:
        sys.exit(f"chaos: {error}")
