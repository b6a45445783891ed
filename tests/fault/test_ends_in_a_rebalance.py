"""A worker that is told to end while its group rebalances: what it has in flight goes out before it lets go."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from ops.bench.slow_worker import SLOW_FILE_VARIABLE
from ops.local.worker import WorkerProcess
from tests.harness import PARTITIONS, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

TRACKS_PER_S = 150  # of the worker that ends: nearly a second a micro-batch
EXIT_S = 30.0  # what an orchestrator allows after SIGTERM


class SlowableWorker(WorkerProcess):
    """A worker that becomes slow when its file appears."""

    @property
    def slow_file(self) -> Path:
        return self.log_path.with_name("slow")

    def command(self) -> list[str]:
        return [sys.executable, "-m", "ops.bench.slow_worker"]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), SLOW_FILE_VARIABLE: str(self.slow_file)}


def test_sigterm_while_another_joins(stream: Stream):
    """One of its partitions is wanted by the guest: it must have it only once nothing older can come."""
    ending = SlowableWorker("a", stream.worker_settings, folder=stream.folder / "worker-a")
    stream.workers["a"] = ending
    ending.start()
    stream.start("b")
    load = stream.load(6_000, rate=2_000, tracks=200)
    load.wait(2_000)
    ending.slow_file.write_text(str(TRACKS_PER_S))
    load.finish()
    guest = stream.worker("c")
    guest.start()
    eventually(lambda: "deciding with model" in guest.log(), 30, "the guest is about to join")
    os.kill(ending.pid, signal.SIGTERM)
    told_s = time.monotonic()
    assert ending.wait_exit(EXIT_S) == 0, f"exit code {ending.exit_code} after {time.monotonic() - told_s:.1f} s"
    stream.wait_assigned("b", "c")
    print(f"{time.monotonic() - told_s:.1f} s after SIGTERM {PARTITIONS} partitions are with the others")
    assert "LeaveGroup request succeeded" in ending.log(), "it left without a word: the others waited for its session"
    report = stream.verify()
    assert report.duplicates == 0, f"{report.duplicates} duplicates: {report.duplicates_by_partition}"
