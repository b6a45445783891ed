"""The hot path over fakes: batching, order, acknowledgement and swaps. Faults are in test_pipeline_faults.py."""

import asyncio

import numpy as np

from streamer.core.events import Code
from streamer.pipeline import IN_FLIGHT_MICRO_BATCHES, LEAST_HELD_BYTES
from streamer.ports import LoadedModel, Serving
from tests.fakes import OTHER_MODEL, TUNED, FakeRecord, FakeScorer, a_table, a_while, until
from tests.pipeline_bench import DEAD, INPUT, SCORES, TAGS, Bench, bench


async def test_a_full_batch_does_not_wait():
    async with bench(batch_max=4, linger_s=60) as b:
        await b.feed(0, *b.tracks(4))
        await until(lambda: b.committable() == {0: 4})
        assert b.scorer.batches == [4]
        assert b.keys(TAGS, 0) == b.keys(SCORES, 0) == ["T-0", "T-1", "T-2", "T-3"]


async def test_a_batch_that_does_not_fill_goes_after_the_linger():
    async with bench(batch_max=100, linger_s=0.05) as b:
        await b.feed(0, *b.tracks(3))
        await a_while()
        assert b.scorer.entered == 0, "not before"
        await until(lambda: b.committable() == {0: 3})


async def test_the_linger_counts_from_the_first_record():
    async with bench(batch_max=1_000, linger_s=0.1) as b:
        started = asyncio.get_running_loop().time()
        while not b.scorer.entered:
            await b.feed(0, *b.tracks(1))
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - started < 1, "a trickle does not put it off for ever"


async def test_what_is_already_there_never_waits():
    async with bench(batch_max=4, linger_s=60) as b:
        b.sink.hold = True
        await b.feed(0, *b.tracks(12))
        await until(lambda: b.scorer.batches == [4, 4, 4])


async def test_partitions_share_a_batch_and_keep_their_own_outputs():
    async with bench(batch_max=4, linger_s=60) as b:
        await b.feed(0, b"A 0.5")
        await b.feed(3, b"B 0.5", b"C 0.5")
        await b.feed(0, b"D 0.5")
        await until(lambda: b.committable() == {0: 2, 3: 2})
        assert b.scorer.batches == [4]
        assert b.keys(TAGS, 0) == b.keys(SCORES, 0) == ["A", "D"]
        assert b.keys(TAGS, 3) == b.keys(SCORES, 3) == ["B", "C"]


async def test_rows_withdrawals_and_dead_letters_keep_their_order():
    async with bench(batch_max=7, linger_s=60) as b:
        records = [
            FakeRecord(0, b"A 0.5", b"A"),
            FakeRecord(1, b"bad 1", b"A"),
            FakeRecord(2, None, b"A"),
            FakeRecord(3, b"A 0.25", b"A"),
            FakeRecord(4, None, None),
            FakeRecord(5, b"A 1.5", b"A"),
            FakeRecord(6, None, b"B"),
        ]
        await b.feed_records(2, records)
        await until(lambda: b.committable() == {2: 7})
        assert [(r.key, r.value is None) for r in b.sink.records(TAGS, 2)] == [
            (b"A", False), (b"A", True), (b"A", False), (b"B", True),
        ]  # fmt: skip
        assert [r.value is None for r in b.sink.records(SCORES, 2)] == [False, True, False, True]
        dead = b.sink.records(DEAD)
        assert [(r.key, r.value) for r in dead] == [(b"A", b"bad 1"), (None, None), (b"A", b"A 1.5")]
        headers = [dict(r.headers) for r in dead]
        assert [h["error.code"] for h in headers] == [Code.NOT_JSON.encode(), b"empty-value", b"not-a-probability"]
        assert headers[2]["error.field"] == b"genres.tags[0]" and headers[2]["source"] == f"{INPUT}/2/5/0".encode()
        assert headers[2]["worker"] == b"w-1" and headers[2]["failed_at"] == b"2023-11-14T22:13:20.000Z"
        assert [sent.partition for sent in b.sink.sent if sent.topic == DEAD] == [None], "dead letters go by key"


async def test_a_number_out_of_range_is_a_dead_letter_alone():
    async with bench(batch_max=3, linger_s=60) as b:
        await b.feed(0, b"A 0.5", b"B 1.0000001", b"C 0.25")
        await until(lambda: b.committable() == {0: 3})
        assert b.keys(TAGS, 0) == b.keys(SCORES, 0) == ["A", "C"]
        assert [r.value for r in b.sink.records(DEAD)] == [b"B 1.0000001"]


async def test_an_unknown_content_type_is_a_dead_letter():
    async with bench(batch_max=2, linger_s=60) as b:
        await b.feed_records(
            0,
            [
                FakeRecord(0, b"A 0.5", headers=[("content-type", b"text/csv")]),
                FakeRecord(1, b"B 0.5", headers=[("content-type", b"application/json; charset=utf-8")]),
            ],
        )
        await until(lambda: b.committable() == {0: 2})
        headers = dict(b.sink.records(DEAD)[0].headers)
        assert headers["error.code"] == b"unsupported-content-type" and b"'text/csv'" in headers["error.message"]
        assert b.keys(TAGS, 0) == ["B"]


async def test_a_batch_of_dead_letters_only_is_not_scored():
    async with bench(batch_max=2, linger_s=60) as b:
        await b.feed(0, b"bad", b"bad")
        await until(lambda: b.committable() == {0: 2})
        assert b.scorer.entered == 0 and not b.sink.records(TAGS)


async def test_nothing_is_committable_before_all_its_outputs_are_acknowledged():
    async with bench(batch_max=3, linger_s=60) as b:
        b.sink.hold = True
        await b.feed(0, b"A 0.5", b"bad", b"B 0.5")
        await until(lambda: len(b.sink.sent) == 3)
        for number in range(3):
            await a_while()
            assert b.committable() == {}
            b.sink.acknowledge(number)
        await until(lambda: b.committable() == {0: 3})


async def test_acknowledgements_out_of_order_wait_for_the_first():
    async with bench(batch_max=2, linger_s=60) as b:
        b.sink.hold = True
        await b.feed(0, *b.tracks(2))
        await b.feed(0, *b.tracks(2))
        await until(lambda: len(b.sink.sent) == 4)
        b.sink.acknowledge(2, 3)
        await until(lambda: len(b.metrics.reports) == 1)
        assert b.committable() == {}
        b.sink.acknowledge()
        await until(lambda: b.committable() == {0: 4})


async def test_what_is_in_flight_is_bounded_and_the_feed_waits():
    async with bench(batch_max=10, linger_s=60) as b:
        b.sink.hold = True
        feeding = asyncio.create_task(b.feed(0, *b.tracks(10 * (IN_FLIGHT_MICRO_BATCHES + 4))))
        await until(lambda: len(b.sink.sent) == 2 * IN_FLIGHT_MICRO_BATCHES)
        await a_while()
        assert len(b.scorer.batches) == IN_FLIGHT_MICRO_BATCHES and not feeding.done()
        b.sink.acknowledge(0, 1)
        await until(lambda: len(b.scorer.batches) == IN_FLIGHT_MICRO_BATCHES + 1)
        assert not feeding.done()
        b.sink.hold = False
        b.sink.acknowledge()
        await feeding
        await until(lambda: b.committable() == {0: 100})


async def test_a_producer_with_a_full_queue_stops_the_feed_too():
    async with bench(batch_max=1, linger_s=60) as b:
        b.sink.open.clear()
        feeding = asyncio.create_task(b.feed(0, *b.tracks(20)))
        await until(lambda: len(b.scorer.batches) == IN_FLIGHT_MICRO_BATCHES)
        await a_while()
        assert not feeding.done() and len(b.scorer.batches) == IN_FLIGHT_MICRO_BATCHES
        b.sink.open.set()
        await feeding
        await until(lambda: b.committable() == {0: 20})


async def test_scoring_is_off_the_event_loop():
    async with bench(batch_max=1, linger_s=60) as b:
        b.scorer.gate.clear()
        await b.feed(0, *b.tracks(1))
        await until(lambda: b.scorer.entered == 1)
        await b.feed(0, *b.tracks(1))  # the next is decoded while this one is scored
        b.scorer.gate.set()
        await until(lambda: b.committable() == {0: 2})
        assert b.scorer.threads and all(name.startswith("scorer") for name in b.scorer.threads)


def swap(b: Bench, version: str, scorer: FakeScorer | None = None, **edits: object) -> Serving:
    before = b.serving.serving
    model = LoadedModel(version, before.model.layout, TUNED, scorer or b.scorer)
    b.serving.serving = Serving(model, a_table(model, **edits))
    return b.serving.serving


async def test_a_swap_between_batches_never_mixes():
    async with bench(batch_max=2, linger_s=60) as b:
        first = b.serving.serving
        b.scorer.gate.clear()
        await b.feed(0, *b.tracks(2))
        await until(lambda: b.scorer.entered == 1)
        other = FakeScorer()
        second = swap(b, OTHER_MODEL, other, rock=0.9)  # while the first batch is being scored
        await b.feed(0, *b.tracks(2))
        b.scorer.gate.set()
        await until(lambda: b.committable() == {0: 4})
        assert b.scorer.batches == [2] and other.batches == [2] and b.serving.asked == 2
        expected = [(s.model.version.encode(), s.table.version.encode()) for s in (first, first, second, second)]
        for topic in (TAGS, SCORES):
            headers = [dict(record.headers) for record in b.sink.records(topic, 0)]
            assert [(h["model"], h["thresholds"]) for h in headers] == expected
        texts = [record.value.decode().split()[1:] for record in b.sink.records(TAGS, 0)]
        assert [(model.encode(), table.encode()) for model, table in texts] == expected


async def test_scores_are_the_models_own():
    async with bench(batch_max=2, linger_s=60) as b:
        await b.feed(0, b"A 0.1", b"B 0.7")
        await until(lambda: b.committable() == {0: 2})
        rows = [np.frombuffer(r.value, "<f2").tolist() for r in b.sink.records(SCORES, 0)]
        assert rows == [[float(np.float16(0.1))] * 3, [float(np.float16(0.7))] * 3]


async def test_what_happened_is_told_once_per_batch():
    async with bench(batch_max=5, linger_s=60, partition_of=lambda key: 1) as b:
        await b.feed_records(
            0,
            [
                FakeRecord(0, b"A 0.5", b"A", timestamp=-1),
                FakeRecord(1, b"bad", b"A"),
                FakeRecord(2, None, b"A"),
                FakeRecord(3, b"B 0.5", b"B", timestamp=5),
                FakeRecord(4, b"bad", b"A"),
            ],
        )
        await until(lambda: len(b.metrics.reports) == 1)
        report = b.metrics.reports[0]
        assert (report.decided, report.withdrawn, report.dead, report.misrouted) == (2, 1, {"not-json": 2}, 1)
        assert np.concatenate(report.event_timestamps_ms).tolist() == [-1, 5]
        assert set(report.stage_s) == {
            "decode", "fill", "wait", "score", "decide", "encode", "send", "acknowledge",
        }  # fmt: skip


async def test_a_key_in_its_own_partition_is_not_misrouted():
    async with bench(batch_max=1, linger_s=60, partition_of=lambda key: 0) as b:
        await b.feed_records(0, [FakeRecord(0, b"A 0.5", b"A")])
        await b.feed_records(0, [FakeRecord(1, b"B 0.5", None)])
        await until(lambda: len(b.metrics.reports) == 2)
        assert [report.misrouted for report in b.metrics.reports] == [0, 0]


async def test_offsets_with_holes_are_committed_past_the_last_delivered():
    async with bench(batch_max=3, linger_s=60) as b:
        await b.feed_records(0, [FakeRecord(n, b"A 0.5") for n in (4, 90, 1_000)])
        await until(lambda: b.committable() == {0: 1_001})


async def test_an_empty_fetch_is_nothing():
    async with bench(batch_max=3, linger_s=0.001) as b:
        await b.feed_records(0, [])
        await a_while()
        assert b.committable() == {} and b.scorer.entered == 0


async def test_large_inputs_close_a_batch_before_it_is_full():
    async with bench(batch_max=100, linger_s=60) as b:
        large = b"bad" + b" " * LEAST_HELD_BYTES
        await b.feed(0, large)
        await until(lambda: b.committable() == {0: 1})
        await b.feed(0, *b.tracks(99))
        await a_while()
        assert b.committable() == {0: 1}, "what was held is counted anew"
