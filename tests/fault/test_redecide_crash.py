"""A re-decide under live load, and a worker killed in the middle of it: every track ends at its newest decision."""

import pytest

from ops.redecide import Redecisions
from ops.thresholds_admin import ThresholdsAdmin
from streamer.core.redecide_runs import Run, State
from tests.checks_content import check_redecided
from tests.harness import Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

TRACKS = 8_000
RATE_PER_S = 500


def test_killed_in_the_middle(stream: Stream):
    stream.load(TRACKS, tracks=TRACKS).finish()
    stream.start("a", "b")
    stream.settle()
    load = stream.load(rate=RATE_PER_S, tracks=TRACKS, withdraw_every=25)
    admin, runs = ThresholdsAdmin(stream.settings), Redecisions(stream.settings)
    written = admin.change(admin.live(), dict.fromkeys(stream.layout.tags[::3], "0.6"), "too strict")
    assert None not in admin.wait_obeyed(written, 5).values()

    run = runs.begin(runs.look_up(), "", dry_run=False)
    middle = eventually(lambda: in_the_middle(runs, run, "b"), 60, "b is at work", lambda: runs.newest(run.entry))
    stream.workers["b"].kill()
    seen: list[Run] = []
    runs.follow(run, seen.append)
    load.stop()

    assert not middle.is_over and seen[-1].is_over
    taken_over = {p for p, one in middle.progress.items() if one.worker == "b" and one.state is State.RUNNING}
    after = {p: one for p, one in seen[-1].progress.items() if p in taken_over}
    assert after and {one.worker for one in after.values()} == {"a"}
    assert {one.state for one in seen[-1].progress.values()} == {State.DONE}
    report = stream.verify(written={written.before, written.after})
    tracks = check_redecided(stream.layout, report.found, stream.tables(), written.after)
    redecided = [d for d in report.decisions if d.redecided]
    assert {d.redecided for d in redecided} == {run.name} and len(redecided) >= TRACKS // 4
    assert tracks >= TRACKS * 0.9
    again = len(redecided) - len({d.source for d in redecided})
    print(f"{len(redecided):,} re-decided of {tracks:,} tracks, {again} of them twice")


def in_the_middle(runs: Redecisions, run: Run, worker: str) -> Run | None:
    """The run, once this worker is at a partition that it has not finished."""
    now = runs.newest(run.entry)
    assert now is not None and not now.is_over, "the run was too quick for this test"
    mine = [one for one in now.progress.values() if one.worker == worker]
    return now if any(one.state is State.RUNNING for one in mine) else None
