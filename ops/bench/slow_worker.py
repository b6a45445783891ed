"""A real worker whose scorer can be slowed while it runs, for `tagstream bench memory`.

Run as a process: `python -m ops.bench.slow_worker`, with TAGSTREAM_* as for any worker. The file that
BENCH_SLOW_FILE names holds the tracks per second that the scorer may carry; without the file it is as fast as it is.
The consumer group's joins are logged, so that a rebalance is seen from outside.
"""

import logging
import os
import time
from pathlib import Path
from typing import Any

from streamer.adapters.torch_scorer import TorchScorer
from streamer.agents import run_worker
from streamer.settings import load_settings

SLOW_FILE_VARIABLE = "BENCH_SLOW_FILE"
PIECE_S = 0.05  # the wait is cut into pieces, so that it ends soon after the file has gone


def slowed(score: Any, control: Path) -> Any:
    """`score`, kept to the tracks per second that the control file names."""

    def slow_score(self: TorchScorer, probabilities: Any) -> Any:
        started_s = time.monotonic()
        scores = score(self, probabilities)
        while (rate := _tracks_per_s(control)) and time.monotonic() - started_s < len(probabilities) / rate:
            time.sleep(PIECE_S)
        return scores

    return slow_score


def _tracks_per_s(control: Path) -> float:
    try:
        return float(control.read_text())
    except (FileNotFoundError, ValueError):  # not there, or just being written
        return 0.0


def main() -> None:
    """Slow the scorer, then be a worker."""
    TorchScorer.score = slowed(TorchScorer.score, Path(os.environ[SLOW_FILE_VARIABLE]))  # type: ignore[method-assign]
    logging.getLogger("aiokafka.consumer.group_coordinator").setLevel(logging.INFO)
    run_worker(load_settings())


if __name__ == "__main__":
    main()
