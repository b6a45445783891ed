"""A worker that has no partitions at first, and then gets some: it must learn of them, and lose nothing of them.

A network that failed just as a worker joined: what it could not learn of its topic then, it asks for again.

aiokafka looks again only after its metadata's age, five minutes by default; a leader of the group that does not know
the topic gives nobody any partition for that long, with all of them connected. (Seen by the laboratory.)

Its first records arrive while Faust still gets ready: it had nothing to let go of before, so Faust let its flow go on,
and emptied the channel, with them in it, once it was ready. (Seen by this test on a busy machine; the pause makes it
happen each time.)
"""

import sys

import pytest

from ops.local.worker import WorkerProcess
from tests.harness import Stream

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

LEARNT_WITHIN_S = 40.0  # the watchdog ends a worker without partitions after 60

# When it first has to share out the topic, it does not know it, and nothing is under way that would tell it. And there
# is a pause between the moment from which it can read its partitions and the one from which Faust lets it, which what
# it reads of them spends in the channel.
UNLUCKY_WORKER = """
import asyncio
from aiokafka.consumer.group_coordinator import GroupCoordinator
from streamer.adapters.faust_transport import BulkConsumer
from streamer.agents import run_worker
from streamer.pipeline import Pipeline
from streamer.settings import load_settings

settings = load_settings()
share_out = GroupCoordinator._perform_assignment
perform_seek, feed = BulkConsumer.perform_seek, Pipeline.feed
shared, fed = [], []

async def unlucky(self, response):
    if not shared:
        self._cluster._partitions.pop(settings.topic_probabilities, None)
    shared.append(response)
    return await share_out(self, response)

async def slow(self):
    await perform_seek(self)
    await asyncio.sleep(2)

async def late(self, batch):
    if not fed:
        fed.append(batch)
        await asyncio.sleep(4)
    await feed(self, batch)

Pipeline.feed = late
GroupCoordinator._perform_assignment = unlucky
BulkConsumer.perform_seek = slow
run_worker(settings)
"""


class UnluckyWorker(WorkerProcess):
    """A worker that cannot learn at first what partitions there are."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", UNLUCKY_WORKER]


def test_a_leader_that_does_not_know_its_topic_learns_of_it(stream: Stream):
    worker = UnluckyWorker("a", stream.worker_settings, folder=stream.folder / "worker-a")
    stream.workers["a"] = worker
    worker.start()
    stream.load(500)
    stream.wait_assigned("a", timeout_s=LEARNT_WITHIN_S)
    assert "No partition metadata for topic" in worker.log(), "the first look did not fail: nothing was tested"
    assert worker.is_running(), worker.log_tail()
    assert stream.verify().inputs == 500
