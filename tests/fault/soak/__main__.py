"""`python -m tests.fault.soak --hours 0.33 --seed 1`, or `make soak HOURS=0.33 SEED=1`."""

import argparse
import sys
from pathlib import Path

from streamer.adapters.kafka_client import quiet_client_logs
from tests.fault.soak.run import soak
from tests.fault.soak.stage import Plan

FOLDER = Path("build/soak")


def main() -> int:
    """Exit code 0 only where nothing grew, nothing was lost and every worker exited with 0."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="how long; fractions are allowed")
    parser.add_argument("--seed", type=int, default=1, help="of the thresholds that are written")
    parser.add_argument("--rate", type=float, default=Plan.rate, help="events per second")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the report goes")
    given = parser.parse_args()
    if given.hours <= 0 or given.rate <= 0:
        parser.error("hours and rate are more than 0")
    quiet_client_logs()

    def say(text: str) -> None:
        print(f"soak: {text}", flush=True)

    _, failures = soak(Plan(given.hours * 3600, given.seed, given.rate), given.out.absolute(), say)
    print((given.out / "report.md").read_text())
    for failure in failures:
        print(f"soak: FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
