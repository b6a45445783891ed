"""Bulk messages on the hot path: rows of their own coordinates, dead letters of one row, and one offset for all."""

import asyncio

from streamer.core.ids import decision_id
from tests.fakes import FakeRecord, until
from tests.pipeline_bench import ARROW, DEAD, INPUT, SCORES, TAGS, bench


def bulk(offset: int, *lines: str) -> FakeRecord:
    return FakeRecord(offset, "\n".join(lines).encode(), b"ignored", ARROW)


def tracks(count: int) -> list[str]:
    return [f"B-{n} 0.5" for n in range(count)]


async def test_a_message_larger_than_a_micro_batch_is_committed_with_its_last_row():
    async with bench(batch_max=4, linger_s=0.001) as b:
        b.sink.hold = True
        await b.feed_records(0, [bulk(7, *tracks(10)), FakeRecord(8, b"A 0.5", b"A")])
        await until(lambda: len(b.sink.sent) == 6)  # three micro-batches, decisions and scores of each
        b.sink.acknowledge(0, 1, 2, 3)
        await until(lambda: b.committable() == {0: 7})  # eight rows of ten are done
        b.sink.acknowledge()
        await until(lambda: b.committable() == {0: 9})
        assert b.keys(TAGS, 0) == b.keys(SCORES, 0) == [*(f"B-{n}" for n in range(10)), "A"]
        record = b.sink.records(TAGS)[9]
        headers = dict(record.headers)
        assert headers["decision-id"].decode() == decision_id(
            INPUT, 0, 7, 9, headers["model"].decode(), headers["thresholds"].decode()
        )
        assert dict(b.sink.records(SCORES)[9].headers)["source"] == f"{INPUT}/0/7/9".encode()
        assert dict(b.sink.records(SCORES)[10].headers)["source"] == f"{INPUT}/0/8/0".encode()


async def test_a_bad_row_is_a_dead_letter_alone():
    async with bench(batch_max=8, linger_s=0.001) as b:
        await b.feed_records(2, [bulk(3, "A 0.5", "B 1.5", " 0.5", "C 0.5")])
        await until(lambda: b.committable() == {2: 4})
        assert b.keys(TAGS, 2) == ["A", "C"]
        no_id, no_number = b.sink.records(DEAD)
        assert (no_id.key, no_id.value) == (None, b" 0.5")
        assert (no_number.key, no_number.value) == (b"B", b"B 1.5")
        told = [dict(letter.headers) for letter in (no_id, no_number)]
        assert [one["source"] for one in told] == [f"{INPUT}/2/3/2".encode(), f"{INPUT}/2/3/1".encode()]
        assert [one["error.code"] for one in told] == [b"bad-track-id", b"not-a-probability"]
        assert told[1]["error.field"] == b"genres.tags[0]" and told[1]["content-type"] == ARROW[0][1]
        report = b.metrics.reports[0]
        assert (report.decided, report.dead) == (2, {"bad-track-id": 1, "not-a-probability": 1})


async def test_a_message_that_is_none_is_a_dead_letter_whole_and_both_lanes_keep_their_order():
    async with bench(batch_max=3, linger_s=0.001) as b:
        records = [
            FakeRecord(0, b"A 0.25", b"A"),
            bulk(1, "bad"),
            bulk(2, "A 0.5", "B 0.5", "A 0.75"),
            FakeRecord(3, None, b"B"),
            bulk(4, "A 1.0"),
        ]
        await b.feed_records(0, records)
        await until(lambda: b.committable() == {0: 5})
        assert [(r.key, r.value is None) for r in b.sink.records(TAGS)] == [
            (b"A", False), (b"A", False), (b"B", False), (b"A", False), (b"B", True), (b"A", False),
        ]  # fmt: skip
        (dead,) = b.sink.records(DEAD)
        assert (dead.key, dead.value) == (b"ignored", b"bad")


async def test_an_epoch_that_ends_in_the_middle_of_a_message_commits_nothing_of_it():
    async with bench(batch_max=2, linger_s=0.001) as b:
        b.scorer.gate.clear()
        task = asyncio.create_task(b.feed_records(0, [bulk(5, *tracks(40))]))  # more than all micro-batches hold
        await until(lambda: b.scorer.entered == 1)
        b.scorer.gate.set()
        await b.pipeline.drain(5)
        await task
        assert b.committable() == {0: 5} and 0 < len(b.keys(TAGS, 0)) < 40
