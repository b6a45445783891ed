"""A crash among Faust's own services, of the kind its way down hangs at: the worker ends, it never half-lives."""

import sys

import pytest

from ops.local.worker import WorkerProcess
from tests.harness import Stream

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

ENDS_WITHIN_S = 60.0

# The fetcher, cancelled in the middle of a rebalance: Faust takes that for a crash, and has no supervisor to tell.
CRASHING_WORKER = """
import asyncio
from streamer.adapters.faust_transport import BulkConsumer
from streamer.agents import run_worker
from streamer.settings import load_settings

drain = BulkConsumer._drain_messages

async def crash(self, fetcher):
    try:
        await asyncio.wait_for(drain(self, fetcher), 1)
    except TimeoutError:
        self.app.rebalancing = True
        raise asyncio.CancelledError

BulkConsumer._drain_messages = crash
run_worker(load_settings())
"""


class CrashingWorker(WorkerProcess):
    """A worker whose fetcher crashes."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", CRASHING_WORKER]


def test_a_crash_within_faust_ends_the_worker(stream: Stream):
    worker = CrashingWorker("a", stream.worker_settings, folder=stream.folder / "worker-a")
    stream.workers["a"] = worker
    load = stream.load(rate=500)
    worker.start()
    code = worker.wait_exit(ENDS_WITHIN_S)
    assert code == 1, f"exit code {code} ({'still running' if worker.is_running() else 'gone'}): {worker.log()[-2000:]}"
    assert "cannot go on: Faust has crashed" in worker.log(), worker.log()[-2000:]
    load.stop()
    stream.start("b")
    report = stream.verify()
    print(f"crash within Faust: {report.duplicates} duplicates")
