"""A worker that is killed, told to stop, joins or leaves, while events flow: nothing lost, nothing unrecognised."""

import time
from bisect import bisect_right

import pytest

from streamer.pipeline import IN_FLIGHT_MICRO_BATCHES
from tests.checker import Report
from tests.harness import BATCH_MAX, Stream

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

EXIT_S = 30.0  # what an orchestrator allows after SIGTERM


def most_within(report: Report, partitions: list[int], window_s: float) -> int:
    """The most decisions that these partitions saw in any window of this length."""
    times = sorted(d.at_ms for d in report.decisions if d.partition in partitions)
    return max(bisect_right(times, at + window_s * 1000) - index for index, at in enumerate(times))


def test_kill_9_of_one_of_two_loses_nothing(stream: Stream):
    _, victim = stream.start("a", "b")
    owned = stream.wait_assigned("a", "b")["b"]
    load = stream.load(20_000, rate=5_000)
    load.wait(8_000)
    victim.kill()
    killed_ms = time.time() * 1000
    load.finish()
    stream.wait_assigned("a")
    report = stream.verify()
    # Done but not committed: at most two commit intervals' worth (one running, one being answered) and the window.
    interval_s = stream.settings.commit_interval_s
    bound = IN_FLIGHT_MICRO_BATCHES * BATCH_MAX + most_within(report, owned, 2 * interval_s)
    waited = min(d.at_ms for d in report.decisions if d.partition in owned and d.at_ms > killed_ms + 1000) - killed_ms
    print(f"kill -9: {report.duplicates} duplicates (bound {bound}), its partitions waited {waited / 1000:.1f} s")
    assert report.inputs == 20_000
    assert report.duplicates <= bound, f"{report.duplicates} duplicates, more than {bound}"
    strange = {p: n for p, n in report.duplicates_by_partition.items() if n and p not in owned}
    assert not strange, f"duplicates in partitions of the worker that lived: {strange}"


def test_sigterm_loses_and_duplicates_nothing(stream: Stream):
    last, first = stream.start("a", "b")
    load = stream.load(20_000, rate=4_000)
    for worker, mark in ((first, 5_000), (last, 10_000)):  # one of two, then the only one
        load.wait(mark)
        asked = time.monotonic()
        worker.terminate(EXIT_S)
        took = time.monotonic() - asked
        print(f"SIGTERM: worker {worker.name} exited with {worker.exit_code} after {took:.1f} s")
        assert worker.exit_code == 0, f"worker {worker.name} exited with {worker.exit_code} after {took:.1f} s"
        assert took < EXIT_S, f"worker {worker.name} took {took:.1f} s"
    stream.start("c")
    report = stream.verify()
    assert report.inputs == 20_000
    assert report.duplicates == 0, f"{report.duplicates} duplicates: {report.duplicates_by_partition}"


def test_a_worker_joins_and_leaves_under_load(stream: Stream):
    (stayer,) = stream.start("a")
    pid = stayer.pid
    load = stream.load(rate=1_500)
    load.wait(1_500)
    (guest,) = stream.start("b")
    joined = load.acked
    load.wait(joined + 2_000)
    guest.terminate(EXIT_S)
    assert guest.exit_code == 0, f"the guest exited with {guest.exit_code}"
    stream.wait_assigned("a")
    load.wait(load.acked + 1_500)
    load.stop()
    report = stream.verify()
    assert stayer.is_running() and stayer.pid == pid, "the worker that stayed was restarted"
    assert report.duplicates == 0, f"{report.duplicates} duplicates: {report.duplicates_by_partition}"
    print(f"join and leave: longest pause {report.longest_pause_s():.2f} s")
