"""A poll hands over little, in order, and loses nothing to an error on the way."""

from dataclasses import dataclass

import pytest

from streamer.adapters.bounded_poll import PIECE_CHUNKS, POLL_BYTES, poll_bounded


@dataclass(frozen=True)
class Fetched:
    """What a poll reads of a chunk."""

    offset: int
    size_bytes: int


class Source:
    """aiokafka's side of it: partitions with what was fetched, given out in pieces, one partition after the other."""

    def __init__(self, **partitions: list[Fetched]) -> None:
        self.partitions = partitions
        self.waited: list[float] = []
        self.fails_at = -1

    async def fetch(self, timeout_s: float, most: int) -> dict[str, list[Fetched]]:
        if len(self.waited) == self.fails_at:
            self.fails_at = -1
            raise ConnectionError("the broker went away")
        self.waited.append(timeout_s)
        given: dict[str, list[Fetched]] = {}
        for name, left in self.partitions.items():
            piece, self.partitions[name] = left[:most], left[most:]
            most -= len(piece)
            if piece:
                given[name] = piece
        return given


def records(count: int, size: int) -> list[Fetched]:
    """So many, of that size each."""
    return [Fetched(offset, size) for offset in range(count)]


async def drained(source: Source) -> dict[str, list[Fetched]]:
    """All of it, poll by poll; each poll is held to the bound."""
    found: dict[str, list[Fetched]] = {}
    while polled := await poll_bounded(source.fetch, 1.0):
        sizes = [one.size_bytes for batch in polled.values() for one in batch]
        assert sum(sizes) <= POLL_BYTES + PIECE_CHUNKS * max(sizes)
        for name, batch in polled.items():
            found.setdefault(name, []).extend(batch)
    return found


@pytest.mark.parametrize(("count", "size"), [(1, 10), (PIECE_CHUNKS, 100), (5_000, 2_100), (100, 256 * 1024)])
async def test_everything_comes_in_order_and_no_poll_is_large(count, size):
    wanted = {"a": records(count, size), "b": records(count // 2 + 1, size), "c": records(3, size)}
    source = Source(**{name: list(batch) for name, batch in wanted.items()})
    assert await drained(source) == wanted


async def test_only_the_first_piece_waits():
    source = Source(a=records(1_000, 10))
    await poll_bounded(source.fetch, 1.5)
    assert source.waited[0] == 1.5 and set(source.waited[1:]) == {0.0}


async def test_an_error_after_some_pieces_loses_nothing():
    wanted = records(1_000, 10)
    source = Source(a=list(wanted))
    source.fails_at = 3
    found = (await poll_bounded(source.fetch, 1.0))["a"]
    assert found == wanted[: 3 * PIECE_CHUNKS]
    assert found + (await poll_bounded(source.fetch, 1.0))["a"] == wanted


async def test_an_error_at_once_is_raised():
    source = Source(a=records(10, 10))
    source.fails_at = 0
    with pytest.raises(ConnectionError):
        await poll_bounded(source.fetch, 1.0)


async def test_nothing_is_fine():
    assert await poll_bounded(Source().fetch, 0.0) == {}
