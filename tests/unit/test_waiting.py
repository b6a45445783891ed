"""What a worker waits for before it begins is said at once and each ten seconds; the moment it is there, it goes on."""

import asyncio
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamer import lifecycle
from streamer.bootstrap import compose
from streamer.lifecycle import Lifecycle, NotYet
from streamer.settings import load_settings

SOON_S = 47.0  # until what is missing is there

pytestmark = pytest.mark.usefixtures("one_thread")  # composing a worker sets torch's


class Clock:
    """Seconds that pass by sleeping alone."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lifecycle, "time", made)
    monkeypatch.setattr(lifecycle, "asyncio", SimpleNamespace(sleep=made.sleep))
    return made


def waiting(tmp_path: Path, *, fail_fast: bool = False) -> Lifecycle:
    settings = load_settings(models_dir=tmp_path / "models", state_dir=tmp_path / "state")
    return compose(settings, fail_fast=fail_fast)[0]


async def test_a_line_at_once_and_then_each_ten_seconds(clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    told_at_s: list[float] = []
    began_s, worker = clock.now_s, waiting(tmp_path)

    async def step() -> None:
        if clock.now_s < began_s + SOON_S:
            raise NotYet("no topic tracks.probabilities: run `tagstream topics create`")

    caplog.handler.emit = lambda record: told_at_s.append(clock.now_s - began_s)  # type: ignore[method-assign]
    assert await worker._until(step)
    pauses = [later - earlier for earlier, later in pairwise(told_at_s)]
    assert told_at_s[0] == 0 and len(told_at_s) == 5, told_at_s
    assert all(10 <= pause < 11 for pause in pauses), pauses
    assert clock.now_s - began_s < SOON_S + 1


async def test_told_to_stop_it_waits_no_longer(clock: Clock, tmp_path: Path):
    worker = waiting(tmp_path)

    async def step() -> None:
        worker.stopping = clock.now_s > 1_003
        raise NotYet("a model")

    assert not await worker._until(step)


async def test_fail_fast_waits_for_nothing(clock: Clock, tmp_path: Path):
    async def step() -> None:
        raise NotYet("a model")

    with pytest.raises(NotYet):
        await waiting(tmp_path, fail_fast=True)._until(step)
    assert clock.now_s == 1_000.0
