"""What a worker takes part in, and when: its own partitions, caught up, under what it decides by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.core.errors import TagstreamError
from streamer.core.pace import Pace
from streamer.core.redecide_runs import State
from streamer.core.stall import Standing
from streamer.redecide import Redecider
from streamer.redecide_walk import CannotPublish
from tests.fakes import a_while, until
from tests.redecide_bench import SCORES, TAGS, WalkBench, walk_bench


@dataclass
class FakeOwner:
    """`streamer.redecide.Owner`."""

    flow_active: bool = True
    done: dict[int, int] = field(default_factory=dict)  # committed, by assigned partition
    ends: dict[int, int] = field(default_factory=dict)
    answered: bool = True

    def standings(self) -> dict[int, Standing]:
        return {p: Standing(end=None, done=done, read=None, queued=False) for p, done in self.done.items()}

    async def look(self) -> SimpleNamespace:
        return SimpleNamespace(answered=self.answered, ends=dict(self.ends))


@asynccontextmanager
async def redecider(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[WalkBench, FakeOwner, Redecider, asyncio.Task]]:
    """A worker's part over one decided track that the run changes; it owns partition 0."""
    monkeypatch.setattr("streamer.redecide.IDLE_S", 0.002)
    async with walk_bench(rock=0.6) as w:
        await w.b.feed(0, b"A 0.5")
        await until(lambda: w.b.committable() == {0: 1})
        w.swap()
        owner = FakeOwner(done={0: 1}, ends={0: 1})
        made = Redecider(
            w.store, w.scores, w.b.serving, w.b.sink, Pace(w.b.clock.monotonic_s()), w.b.clock, JsonDecisionEncoder,
            TAGS, SCORES, "w-1",
        )  # fmt: skip
        stopping: list[int] = []
        task = asyncio.create_task(made.run(w.b.pipeline, owner, lambda: bool(stopping)))
        yield w, owner, made, task
        stopping.append(1)
        if not task.done():
            await asyncio.wait_for(task, 5)


async def test_it_does_its_part_and_lets_go(monkeypatch: pytest.MonkeyPatch):
    async with redecider(monkeypatch) as (w, _, made, _task):
        await until(lambda: w.run.is_over)
        await until(lambda: not w.scores.is_open)
        assert (made.examined, made.changed, made.doing) == (1, 1, "")


async def not_begun(w: WalkBench) -> None:
    await a_while()
    assert w.run.progress == {}


async def test_not_before_it_has_caught_up_with_what_was_there_when_it_came(monkeypatch: pytest.MonkeyPatch):
    """A predecessor that was killed may have decided what it did not commit: that comes again first."""
    async with redecider(monkeypatch) as (w, owner, made, _task):
        await until(lambda: w.run.is_over)
        owner.ends = {0: 9}
        await w.b.pipeline.drain(1)
        w.run.progress.clear()
        await not_begun(w)
        owner.done = {0: 9}
        await until(lambda: w.run.is_over)
        assert made.examined == 2


@pytest.mark.parametrize("how", ["flow", "not assigned", "no answer", "commit unknown"])
async def test_not_while_the_partition_is_not_its_own(how: str, monkeypatch: pytest.MonkeyPatch):
    async with redecider(monkeypatch) as (w, owner, _, _task):
        await until(lambda: w.run.is_over)
        if how == "flow":
            owner.flow_active = False
        elif how == "not assigned":
            owner.done = {}
        elif how == "no answer":
            owner.answered = False
        else:
            owner.done = {0: None}  # type: ignore[dict-item]
        await w.b.pipeline.drain(1)
        w.run.progress.clear()
        await not_begun(w)


async def test_the_thresholds_of_the_request_are_waited_for_and_not_for_ever(monkeypatch: pytest.MonkeyPatch):
    async with redecider(monkeypatch) as (w, _, _, _task):
        await until(lambda: w.run.is_over)
        w.run.progress.clear()
        w.run.name, w.run.thresholds = "another", "0123456789ab"
        await not_begun(w)
        w.b.clock.now_s += 6
        await until(lambda: w.run.is_over)


async def test_what_cannot_be_read_fails_its_partition_and_says_why(monkeypatch: pytest.MonkeyPatch):
    async with redecider(monkeypatch) as (w, _, _, _task):
        await until(lambda: w.run.is_over)
        for error, told in ((TagstreamError("no right"), "no right"), (ValueError("a bug"), "ValueError: a bug")):
            w.scores.error = error
            w.run.progress.clear()
            await until(lambda: w.run.is_over)
            assert (w.run.progress[0].state, w.run.progress[0].error) == (State.FAILED, told)


async def test_an_output_that_is_refused_ends_the_worker(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.fakes.Refusal", TagstreamError)
    async with redecider(monkeypatch) as (w, _, _, task):
        await until(lambda: w.run.is_over)
        w.b.sink.refuse_at = len(w.b.sink.sent)
        w.swap(w.before)
        w.run.name = "another"
        w.run.progress.clear()
        w.run.thresholds = w.before.version
        with pytest.raises(CannotPublish):
            await asyncio.wait_for(asyncio.shield(task), 5)


async def test_a_cancel_is_told(monkeypatch: pytest.MonkeyPatch):
    async with redecider(monkeypatch) as (w, _, _, _task):
        await until(lambda: w.run.is_over)
        w.store.cancel_at = 2  # reports from now
        w.run.progress.clear()
        await until(lambda: w.run.cancelled and w.run.progress[0].state is State.CANCELLED)


async def test_redis_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streamer.redecide_walk.STORE_RETRY_S", 0.001)
    async with redecider(monkeypatch) as (w, _, _, _task):
        await until(lambda: w.run.is_over)
        w.run.progress.clear()
        w.store.down = 5
        await until(lambda: w.run.is_over)
