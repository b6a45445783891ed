"""The hot path when something breaks, and at the end of an epoch: nothing lost, nothing published that must not be."""

import asyncio

import numpy as np
import pytest

from streamer.core.batch import RecordBatch
from streamer.core.errors import TagstreamError
from tests.fakes import FakeRecord, Refusal, a_while, until
from tests.pipeline_bench import DEAD, SCORES, TAGS, Bench, bench


async def failure(b: Bench) -> BaseException:
    await until(b.pipeline.failed.done)
    error = b.pipeline.failed.exception()
    assert error is not None
    return error


async def assert_nothing_more_goes_out(b: Bench, committable: dict[int, int]) -> None:
    """Feed, linger and drain on: nothing is published, nothing becomes committable."""
    sent = len(b.sink.sent)
    assert b.committable() == committable
    b.scorer.crash_at = b.sink.refuse_at = b.sink.lose_at = None
    feeding = asyncio.create_task(b.feed(0, *b.tracks(8)))
    await a_while()
    await asyncio.wait_for(b.pipeline.drain(0.05), 2)
    await a_while()
    feeding.cancel()
    assert len(b.sink.sent) == sent and b.committable() == committable


async def test_a_scorer_that_breaks():
    async with bench(batch_max=2, linger_s=0.001) as b:
        b.scorer.crash_at = 1
        await b.feed(0, *b.tracks(2))
        await until(lambda: b.committable() == {0: 2})
        await b.feed(0, *b.tracks(2))
        assert str(await failure(b)) == "the scorer has a bug"
        await assert_nothing_more_goes_out(b, {0: 2})
        assert len(b.sink.records(TAGS)) == 2


@pytest.mark.parametrize("scores", [np.zeros((2, 2), np.float16), np.zeros((2, 3), np.float32)])
async def test_a_scorer_that_gives_something_else(scores):
    async with bench(batch_max=2, linger_s=60) as b:
        b.scorer.score = lambda probabilities: scores  # type: ignore[method-assign]
        await b.feed(0, *b.tracks(2))
        assert "expected float16 of shape (2, 3)" in str(await failure(b))
        await assert_nothing_more_goes_out(b, {})


async def test_a_record_batch_that_was_lost_on_its_way_here():
    async with bench(batch_max=2, linger_s=0.001) as b:
        first, _lost, third = ([FakeRecord(at, f"T-{at} 0.5".encode())] for at in (10, 11, 12))
        await b.pipeline.feed(RecordBatch(b.pipeline.epoch, 0, first))
        await until(lambda: b.committable() == {0: 11})
        with pytest.raises(TagstreamError, match="records of partition 0 before offset 12 were fetched and lost"):
            await b.pipeline.feed(RecordBatch(b.pipeline.epoch, 0, third, follows=12))
        await failure(b)
        await assert_nothing_more_goes_out(b, {0: 11})


async def test_the_first_record_batch_that_was_lost_on_its_way_here():
    async with bench(batch_max=2, linger_s=0.001) as b:
        await b.pipeline.feed(RecordBatch(b.pipeline.epoch, 0, [FakeRecord(11, b"T-1 0.5")]))
        await b.pipeline.drain(1)  # ends the epoch: what this one took is no predecessor of the next one's
        with pytest.raises(TagstreamError, match="before offset 12"):
            await b.pipeline.feed(RecordBatch(b.pipeline.epoch, 0, [FakeRecord(12, b"T-1 0.5")], follows=12))


async def test_no_model_at_all():
    async with bench(batch_max=1, linger_s=60) as b:
        b.serving.current = lambda: (_ for _ in ()).throw(RuntimeError("no model"))  # type: ignore[method-assign]
        await b.feed(0, *b.tracks(1))
        assert str(await failure(b)) == "no model"


@pytest.mark.parametrize("number", [0, 1, 2, 3])
async def test_a_hand_over_that_is_refused(number):
    async with bench(batch_max=2, linger_s=0.001) as b:
        b.sink.refuse_at = number
        await b.feed(0, *b.tracks(2))
        await b.feed(0, *b.tracks(2))
        assert isinstance(await failure(b), Refusal)
        assert len(b.sink.sent) == number, "nothing after the one that was refused"
        await a_while()
        await assert_nothing_more_goes_out(b, {0: 2} if number >= 2 else {})


@pytest.mark.parametrize(("number", "committable"), [(0, {}), (1, {}), (2, {0: 2}), (3, {0: 2})])
async def test_an_acknowledgement_that_fails(number, committable):
    async with bench(batch_max=2, linger_s=0.001) as b:
        b.sink.lose_at = number
        await b.feed(0, *b.tracks(2))
        await b.feed(0, *b.tracks(2))
        assert str(await failure(b)) == f"hand-over {number} lost"
        await a_while()
        await assert_nothing_more_goes_out(b, committable)


async def test_a_dead_letter_that_fails_holds_its_batch_back():
    async with bench(batch_max=3, linger_s=60) as b:
        b.sink.lose_at = 2
        await b.feed(0, b"A 0.5", b"bad", b"B 0.5")
        await failure(b)
        assert b.sink.sent[2].topic == DEAD
        await assert_nothing_more_goes_out(b, {})


async def test_after_a_lost_acknowledgement_the_rest_of_a_waiting_batch_stays_here():
    """Batch 2 waits inside the producer while batch 1's acknowledgement fails: its scores must not follow its tags."""
    async with bench(batch_max=1, linger_s=60) as b:
        b.sink.hold = True
        await b.feed(0, *b.tracks(1))
        await until(lambda: len(b.sink.sent) == 2)
        b.sink.open.clear()
        await b.feed(0, *b.tracks(1))
        await until(lambda: b.sink.waiting == 1)
        b.sink.sent[0].acknowledged.set_exception(Refusal("lost"))
        await failure(b)
        b.sink.open.set()
        await a_while()
        assert [sent.topic for sent in b.sink.sent] == [TAGS, SCORES, TAGS], "only what had been handed over before"
        await assert_nothing_more_goes_out(b, {})


@pytest.mark.parametrize("before", [0, 2])
async def test_a_decoder_that_breaks(before):
    """What was decoded before it in the same batch must not be committed as if it were all."""
    async with bench(batch_max=10, linger_s=0.01) as b:
        await b.feed(0, *b.tracks(before))
        with pytest.raises(Refusal):
            await b.feed(0, b"A 0.5", b"crash", b"B 0.5")
        assert isinstance(await failure(b), Refusal)
        await assert_nothing_more_goes_out(b, {})


@pytest.mark.parametrize("full", [True, False])
async def test_a_validator_that_breaks(full):
    """Also where the linger closes the batch, which no one awaits."""
    async with bench(batch_max=2 if full else 10, linger_s=0.01) as b:
        try:
            await b.feed_records(0, [FakeRecord(0, b"A 0.5"), FakeRecord(1, b"crashing 7")])
        except Refusal:
            assert full
        assert isinstance(await failure(b), Refusal)
        await b.pipeline.drain(0.05)
        await assert_nothing_more_goes_out(b, {})


async def test_a_drain_finishes_what_was_taken_in_and_drops_the_rest():
    async with bench(batch_max=4, linger_s=60) as b:
        epoch = b.pipeline.epoch
        await b.feed(0, *b.tracks(6))  # 4 dispatched, 2 waiting for more
        assert await b.pipeline.drain(5)
        assert b.committable() == {0: 6}
        await b.feed_records(0, [FakeRecord(n, b"stale 0.5") for n in range(6, 12)], epoch)
        await a_while()
        assert await b.pipeline.drain(5)
        assert b.committable() == {0: 6} and "stale" not in b.keys(TAGS, 0)


async def test_records_that_wait_for_a_place_when_their_epoch_ends_are_dropped():
    async with bench(batch_max=1, linger_s=60) as b:
        b.sink.hold = True
        feeding = asyncio.create_task(b.feed(0, *b.tracks(20)))
        await until(lambda: len(b.sink.sent) == 12)
        draining = asyncio.create_task(b.pipeline.drain(5))
        await a_while()
        assert not draining.done(), "hand-overs are awaited"
        b.sink.hold = False
        b.sink.acknowledge()
        assert await draining
        await feeding
        assert b.committable() == {0: 6}
        b.pipeline.forget()
        assert b.committable() == {}
        await b.feed_records(0, [FakeRecord(n, b"again 0.5") for n in range(6, 9)])
        await until(lambda: b.committable() == {0: 9})


async def test_a_drain_of_nothing_ends_at_once():
    async with bench() as b:
        assert await b.pipeline.drain(5)


async def test_a_drain_that_takes_too_long_awaits_what_was_handed_over():
    async with bench(batch_max=1, linger_s=60) as b:
        b.sink.hold = True
        await b.feed(0, *b.tracks(1))
        await until(lambda: len(b.sink.sent) == 2)
        b.scorer.gate.clear()
        await b.feed(0, *b.tracks(2))
        await until(lambda: b.scorer.entered == 2)
        draining = asyncio.create_task(b.pipeline.drain(0.1))
        await asyncio.sleep(0.15)
        b.scorer.gate.set()  # too late: what comes out of it now is abandoned
        await a_while()
        assert not draining.done()
        b.sink.acknowledge()
        assert await draining is False
        assert b.committable() == {0: 1} and len(b.sink.sent) == 2


async def test_what_a_drain_gave_up_is_never_published_later():
    """The partition has another owner by then."""
    async with bench(batch_max=1, linger_s=60) as b:
        b.scorer.gate.clear()
        await b.feed(0, *b.tracks(2))
        await until(lambda: b.scorer.entered == 1)
        assert await b.pipeline.drain(0.02) is False
        b.pipeline.forget()
        b.scorer.gate.set()
        await until(lambda: len(b.scorer.batches) == 2)
        await a_while()
        assert b.sink.sent == [] and b.committable() == {}
        await b.feed_records(1, [FakeRecord(0, b"new 0.5")])
        await until(lambda: b.committable() == {1: 1})
        assert b.keys(TAGS, 1) == ["new"], "the new epoch goes on"


async def test_what_a_drain_gave_up_halfway_is_not_finished_later():
    async with bench(batch_max=1, linger_s=60) as b:
        b.sink.open.clear()
        await b.feed(0, *b.tracks(1))
        await until(lambda: b.sink.waiting == 1)
        assert await b.pipeline.drain(0.02) is False
        b.sink.open.set()
        await a_while()
        assert [sent.topic for sent in b.sink.sent] == [TAGS], "the hand-over that was under way, and no other"
        assert b.committable() == {}, "it was not published whole"
        await b.feed_records(1, [FakeRecord(0, b"new 0.5")])
        await until(lambda: b.committable() == {1: 1})


async def test_a_drain_of_a_failed_pipeline_keeps_no_one_waiting():
    async with bench(batch_max=1, linger_s=60) as b:
        b.scorer.crash_at = 0
        await b.feed(0, *b.tracks(1))
        await failure(b)
        assert await asyncio.wait_for(b.pipeline.drain(30), 1) is False


async def test_closing_ends_its_tasks():
    async with bench(batch_max=1, linger_s=60) as b:
        b.sink.hold = True
        await b.feed(0, *b.tracks(1))
        await until(lambda: len(b.sink.sent) == 2)
        await b.pipeline.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("pipeline-")]
        assert b.pipeline.failed.cancelled()
