"""What is published between two micro-batches (a re-decide): nothing of its partition on its way, none beside it."""

import asyncio

from tests.fakes import FakeRecord, a_while, until
from tests.pipeline_bench import TAGS, bench


async def test_it_waits_for_what_its_partition_has_handed_over():
    async with bench(batch_max=2, linger_s=60) as b:
        b.sink.hold = True
        await b.feed(0, *b.tracks(2))
        await until(lambda: len(b.sink.sent) == 2)
        entered = asyncio.Event()

        async def enter(partition: int) -> None:
            async with b.pipeline.between_batches(partition):
                entered.set()

        async with asyncio.timeout(5):
            await enter(1)  # another partition waits for nothing
        entered.clear()
        waiting = asyncio.create_task(enter(0))
        await a_while()
        assert not entered.is_set()
        b.sink.acknowledge()
        await asyncio.wait_for(waiting, 5)
        assert b.committable() == {0: 2}


async def test_no_micro_batch_is_handed_over_beside_it():
    async with bench(batch_max=2, linger_s=60) as b:
        async with b.pipeline.between_batches(0):
            await b.feed(0, *b.tracks(2))
            await b.feed(1, *b.tracks(2))
            await until(lambda: b.scorer.batches == [2, 2])
            await a_while()
            assert b.sink.sent == []
        await until(lambda: b.committable() == {0: 2, 1: 2})
        assert b.keys(TAGS, 0) == ["T-0", "T-1"]


async def test_a_drain_waits_for_its_end():
    async with bench() as b:
        async with b.pipeline.between_batches(0):
            epoch = b.pipeline.epoch
            draining = asyncio.create_task(b.pipeline.drain(5))
            await a_while()
            assert not draining.done() and b.pipeline.epoch == epoch + 1, "who is inside can see that it is over"
        assert await asyncio.wait_for(draining, 5)


async def test_a_drain_does_not_wait_for_it_for_ever():
    async with bench() as b, b.pipeline.between_batches(0):
        assert not await b.pipeline.drain(0.01)


async def test_a_failed_pipeline_does_not_keep_it_waiting():
    async with bench(batch_max=2, linger_s=60) as b:
        b.sink.lose_at = 0
        await b.feed(0, *b.tracks(2))
        await until(b.pipeline.failed.done)
        async with asyncio.timeout(5), b.pipeline.between_batches(0):
            assert b.pipeline.failed.done()


async def test_keys_are_told_before_they_are_handed_over():
    async with bench(batch_max=3, linger_s=60) as b:
        told: list[tuple[int, list[bytes | None]]] = []
        b.pipeline.on_hand_over = lambda partition, keys: told.append((partition, keys))
        b.sink.open.clear()
        await b.feed_records(2, [FakeRecord(0, b"A 0.5", b"A"), FakeRecord(1, b"bad", b"B"), FakeRecord(2, None, b"C")])
        await until(lambda: b.sink.waiting > 0)
        assert told == [(2, [b"A", b"C"])], "decided and withdrawn"
        assert b.sink.sent == []
        b.sink.open.set()
