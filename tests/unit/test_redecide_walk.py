"""One partition's walk over fakes: what is published and what is left, and what ends it."""

import asyncio
import json

import pytest

from streamer.adapters.schema import Decision
from streamer.core.errors import TagstreamError
from streamer.core.ids import decision_id
from streamer.core.outputs import OutputRecord
from streamer.core.redecide_runs import State, label
from streamer.redecide_walk import Cancelled, CannotPublish, Interrupted
from tests.fakes import MODEL, OTHER_MODEL, FakeRecord, a_table, a_while, until
from tests.redecide_bench import INPUT, RUN, SCORES, TAGS, WalkBench, header, walk_bench

# Tuned: rock 0.5, jazz 0.25, calm 0.75; a track's number is the score of every tag.


async def decided(w: WalkBench, *values: str) -> None:
    """Have the pipeline decide these, acknowledged."""
    await w.b.feed(0, *(value.encode() for value in values))
    await until(lambda: w.b.committable().get(0) == w.b.next_offset[0])


async def test_what_differs_is_published_and_nothing_else():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5", "B 0.7", "C 0.1", "D 0.55", "E 0.75")
        w.swap()
        before = len(w.b.sink.sent)
        walk = w.walk()
        await walk.run()

        sent = w.b.sink.sent[before:]
        assert [one.topic for one in sent] == [TAGS, SCORES], "the decision first"
        assert [record.key for record in sent[0].records] == [record.key for record in sent[1].records] == [b"A", b"D"]
        decision = json.loads(sent[0].records[0].value or b"")
        assert Decision.model_validate(decision).redecided == RUN
        assert (decision["added"], decision["removed"]) == ([], ["rock"])
        assert decision["tags"] == {"genres": ["jazz"], "instruments": [], "moods": []}
        assert decision["source"] == {"topic": INPUT, "partition": 0, "offset": 0, "row": 0}
        wanted = decision_id(INPUT, 0, 0, 0, MODEL, w.now.version, RUN)
        assert header(sent[0].records[0], "decision-id") == wanted
        anew, original = sent[1].records[0], w.b.sink.records(SCORES)[0]
        assert (anew.value, anew.timestamp_ms) == (original.value, original.timestamp_ms)
        assert header(anew, "thresholds") == w.now.version != header(original, "thresholds")
        assert [h for h in anew.headers if h[0] != "thresholds"] == [
            h for h in original.headers if h[0] != "thresholds"
        ]
        counts = walk.progress.counts
        assert (counts.examined, counts.changed, counts.removed) == (5, 2, {"rock": 2})
        assert walk.progress.state is State.DONE and walk.progress.share == 1.0


async def test_a_second_run_changes_nothing_and_a_rollback_brings_the_tags_back():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5", "B 0.7")
        w.swap()
        await w.walk().run()
        sent = len(w.b.sink.sent)
        w.run.progress.clear()
        walk = w.walk()
        await walk.run()
        assert len(w.b.sink.sent) == sent and walk.progress.counts.changed == 0
        w.swap(w.before)
        w.run.progress.clear()
        w.run.name = "another"
        await w.walk().run()
        first, *_, last = (record for record in w.b.sink.records(TAGS) if record.key == b"A")
        assert json.loads(last.value or b"")["added"] == ["rock"]
        assert header(first, "decision-id") != header(last, "decision-id")
        assert header(first, "thresholds") == header(last, "thresholds")


async def test_only_the_newest_record_of_a_key():
    async with walk_bench(rock=0.6, batch_records=2) as w:
        await decided(w, "A 0.5", "B 0.5", "C 0.5", "A 0.9", "B 0.55")
        await w.b.feed_records(0, [FakeRecord(5, None, b"C")])
        w.b.next_offset[0] = 6
        await until(lambda: w.b.committable() == {0: 6})
        w.swap()
        walk = w.walk()
        await walk.run()
        assert walk.progress.counts.examined == 2, "of a withdrawn track nothing"
        assert [record.key for record in w.b.sink.records(TAGS)[6:]] == [b"B"]
        assert w.kept(TAGS)["C"].value is None and json.loads(w.kept(TAGS)["B"].value or b"")["source"]["offset"] == 4


async def test_a_dry_run_publishes_nothing():
    async with walk_bench(rock=0.6, dry_run=True) as w:
        await decided(w, "A 0.5", "B 0.7")
        w.swap()
        sent = len(w.b.sink.sent)
        walk = w.walk()
        await walk.run()
        assert len(w.b.sink.sent) == sent
        assert (walk.progress.counts.changed, walk.progress.counts.removed) == (1, {"rock": 1})


async def test_a_live_append_during_the_walk_is_newer():
    async with walk_bench(rock=0.6, batch_records=1) as w:
        await decided(w, "A 0.5", "B 0.5", "C 0.5")
        w.swap()
        original = w.scores.read

        async def read(partition: int, start: int, stop: int):
            if stop == 3:  # the walk has begun; what it will read is fixed
                await decided(w, "B 0.9")
            async for one in original(partition, start, stop):
                yield one

        w.scores.read = read  # type: ignore[method-assign]
        walk = w.walk()
        await walk.run()
        assert json.loads(w.kept(TAGS)["B"].value or b"")["source"]["offset"] == 3
        redecided = [r.key for r in w.b.sink.records(TAGS) if b"redecided" in (r.value or b"")]
        assert sorted(redecided) == [b"A", b"C"] and walk.progress.counts.changed == 2


async def test_a_live_append_between_the_comparison_and_the_turn_is_newer():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5", "B 0.5")
        w.swap()
        reading, original = asyncio.Event(), w.scores.read

        async def read(partition: int, start: int, stop: int):
            await reading.wait()
            async for one in original(partition, start, stop):
                yield one

        w.scores.read = read  # type: ignore[method-assign]
        walk = w.walk()
        walking = asyncio.create_task(walk.run())
        await a_while()
        async with w.b.pipeline.between_batches(1):
            await w.b.feed(0, b"A 0.9")
            await until(lambda: len(w.b.scorer.batches) == 2)
            await a_while()  # it waits for its turn, and the walk will behind it
            reading.set()
            await a_while()
        await asyncio.wait_for(walking, 5)
        sources = {key: json.loads(record.value or b"")["source"]["offset"] for key, record in w.kept(TAGS).items()}
        assert sources == {"A": 2, "B": 1}
        assert [r.key for r in w.b.sink.records(TAGS) if b"redecided" in (r.value or b"")] == [b"B"]
        assert (walk.progress.counts.changed, walk.progress.counts.removed) == (1, {"rock": 1}), "of A nothing"


@pytest.mark.parametrize("how", ["epoch", "lost", "swap"])
async def test_it_ends_where_things_change(how: str):
    async with walk_bench(rock=0.6) as w:
        await decided(w, *(f"T-{n} 0.5" for n in range(12)))
        w.swap()
        walk = w.walk()
        if how == "epoch":
            await w.b.pipeline.drain(1)
        elif how == "lost":
            w.mine = False
        else:
            w.swap(a_table(jazz=0.3))
        sent = len(w.b.sink.sent)
        with pytest.raises(Interrupted):
            await walk.run()
        assert len(w.b.sink.sent) == sent
        assert w.b.pipeline.on_hand_over is None


async def test_a_table_that_changes_begins_the_partition_again():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5", "B 0.7")
        w.swap()
        await w.walk().run()
        w.swap(a_table(rock=0.8))
        w.store.tables[a_table(rock=0.8).version] = a_table(rock=0.8).canonical
        walk = w.walk()
        await walk.run()
        assert walk.progress.counts.examined == 2 and walk.progress.counts.changed == 2, "one of each pass"
        assert json.loads(w.kept(TAGS)["B"].value or b"")["removed"] == ["rock"]


async def test_it_goes_on_where_another_left_it():
    async with walk_bench(rock=0.6, batch_records=2) as w:
        await decided(w, "A 0.5", "B 0.5", "A 0.55", "C 0.5")
        w.swap()
        first = w.walk()
        await first.run()
        sent, progress = len(w.b.sink.sent), w.run.progress[0]
        progress.state, progress.position = State.RUNNING, 2
        progress.counts.examined = progress.counts.changed = 2
        w.scores.reads.clear()
        walk = w.walk()
        await walk.run()
        assert w.scores.reads == [(2, 7), (0, 2)], "the keys behind it, then what lies below"
        assert len(w.b.sink.sent) == sent, "A and B have newer records"
        assert (walk.progress.counts.examined, walk.progress.position) == (2, 0)


async def test_a_cancel():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5")
        w.swap()
        walk = w.walk()
        w.run.cancelled = True
        with pytest.raises(Cancelled):
            await walk.run()


async def test_another_request_ends_it_too():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5")
        w.swap()
        walk = w.walk()
        w.store.run = type(w.run)("another", "2-0", False, "me", "", MODEL, w.now.version, 1)
        with pytest.raises(Cancelled):
            await walk.run()


async def test_redis_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streamer.redecide_walk.STORE_RETRY_S", 0.001)
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5")
        w.swap()
        w.store.down = 3
        await w.walk().run()
        assert "redecided" in json.loads(w.kept(TAGS)["A"].value or b"")


@pytest.mark.parametrize("number", [0, 1], ids=["the decision", "the scores"])
@pytest.mark.parametrize("how", ["refuse_at", "lose_at"])
async def test_an_output_that_kafka_refuses_ends_the_worker(number: int, how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tests.fakes.Refusal", TagstreamError)
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5")
        w.swap()
        setattr(w.b.sink, how, len(w.b.sink.sent) + number)
        with pytest.raises(CannotPublish):
            await w.walk().run()
        assert len(w.b.sink.records(TAGS)) - 1 == (1 if number or how == "lose_at" else 0)
        assert len(w.b.sink.records(SCORES)) - 1 == (1 if number and how == "lose_at" else 0), "only after the decision"


async def test_the_scores_wait_for_the_decision_s_acknowledgement():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5")
        w.swap()
        w.b.sink.hold = True
        walking = asyncio.create_task(w.walk().run())
        await until(lambda: len(w.b.sink.sent) == 3)
        await a_while()
        assert [one.topic for one in w.b.sink.sent[2:]] == [TAGS]
        w.b.sink.acknowledge()
        await until(lambda: len(w.b.sink.sent) == 4)
        assert not walking.done()
        w.b.sink.acknowledge()
        await asyncio.wait_for(walking, 5)


def spoiled(
    key: bytes | None, value: bytes | None, thresholds: str, model: str = MODEL, source: str = f"{INPUT}/0/9/0"
):
    headers = [("model", model.encode()), ("thresholds", thresholds.encode()), ("source", source.encode())]
    return OutputRecord(key, value, headers, 1)


async def test_what_is_not_a_worker_s_is_counted_and_left():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5")
        w.swap()
        half, version = b"\x00\x38", w.before.version  # 0.5
        strange = {
            "other model": spoiled(b"B", half * 3, version, OTHER_MODEL),
            "no such table": spoiled(b"C", half * 3, "0123456789ab"),
            "too short": spoiled(b"D", half * 2, version),
            "no source": spoiled(b"E", half * 3, version, source="somewhere"),
            "no track id": spoiled(b"\xff", half * 3, version),
            "above 1": spoiled(b"F", half + b"\x00\x40" + half, version),
            "no headers": OutputRecord(b"G", half * 3, [], 1),
        }
        await (await w.b.sink.send(SCORES, 0, list(strange.values())))
        sent = len(w.b.sink.sent)
        walk = w.walk()
        await walk.run()
        counts = walk.progress.counts
        assert [record.key for one in w.b.sink.sent[sent:] for record in one.records] == [b"A", b"A"]
        assert (counts.changed, counts.other_models, counts.unexplained, counts.unreadable) == (1, 2, 1, 4)
        assert (counts.added, counts.removed) == ({}, {"rock": 1})


async def test_a_decision_too_large_for_its_topic_is_left():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5")
        w.swap()
        w.b.sink.largest_value = 10
        walk = w.walk()
        await walk.run()
        assert (walk.progress.counts.changed, walk.progress.counts.unreadable) == (0, 1)


async def killed_between(w: WalkBench) -> None:
    """A walk under the run's table whose worker dies with its decisions in Kafka and their scores not."""
    w.swap()
    w.b.sink.hold = True
    killed, before = asyncio.create_task(w.walk().run()), len(w.b.sink.sent)
    await until(lambda: len(w.b.sink.sent) == before + 1)
    w.b.sink.acknowledge()
    await until(lambda: len(w.b.sink.sent) == before + 2)
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    w.b.sink.hold = False
    assert w.b.sink.sent.pop().topic == SCORES  # never reached Kafka


async def test_a_kill_between_the_two_and_then_another_table():
    """Nothing in Kafka names the table that the decision was made under; the run does."""
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5", "B 0.7")
        await killed_between(w)
        assert header(w.kept(TAGS)["A"], "thresholds") == w.now.version != header(w.kept(SCORES)["A"], "thresholds")
        w.swap(w.before)
        walk = w.walk()
        await walk.run()
        decision = json.loads(w.kept(TAGS)["A"].value or b"")
        assert decision["tags"]["genres"] == ["rock", "jazz"]
        assert (decision["added"], decision["removed"]) == (["rock"], [])
        assert {header(w.kept(topic)["A"], "thresholds") for topic in (TAGS, SCORES)} == {w.before.version}
        assert header(w.kept(TAGS)["B"], "thresholds") == w.before.version and walk.progress.counts.changed == 1
        assert walk.progress.left == (), "made good"


async def test_a_kill_between_the_two_and_then_another_run():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5", "B 0.7")
        await killed_between(w)
        left = w.run.in_doubt()
        w.run.progress.clear()
        w.run.name, w.run.left = "another", left
        w.swap(w.before)
        await w.walk().run()
        assert json.loads(w.kept(TAGS)["A"].value or b"")["added"] == ["rock"]
        assert w.run.in_doubt() == {}


async def test_a_dry_run_and_another_model_s_leave_the_doubt():
    async with walk_bench(rock=0.6) as w:
        await decided(w, "A 0.5")
        await killed_between(w)
        w.run.left = {0: (*w.run.in_doubt()[0], label(OTHER_MODEL, "0123456789ab"))}
        w.run.progress.clear()
        w.run.dry_run = True
        w.swap(w.before)
        walk = w.walk()
        await walk.run()
        assert walk.progress.counts.changed == 1 and w.run.in_doubt() == w.run.left
        w.run.progress.clear()
        w.run.dry_run = False
        await w.walk().run()
        assert w.run.in_doubt() == {0: (label(OTHER_MODEL, "0123456789ab"),)}


async def test_a_walk_that_a_swap_has_ended_leaves_no_doubt():
    """What it did not come to under its table is as it was, and is not published again for that."""
    async with walk_bench(rock=0.6, batch_records=1) as w:
        await decided(w, *(f"T-{n} 0.5" for n in range(4)))
        w.swap()
        walk = w.walk()
        w.swap(w.before)
        with pytest.raises(Interrupted):
            await walk.run()
        await walk.tell_whole()
        assert walk.progress.state is State.RUNNING and w.run.in_doubt() == {}
        sent = len(w.b.sink.sent)
        await w.walk().run()
        assert len(w.b.sink.sent) == sent


async def test_a_kill_between_a_decision_and_its_scores_is_made_good_by_the_next_owner():
    async with walk_bench(rock=0.6, batch_records=4) as w:
        await decided(w, *(f"T-{n} 0.5" for n in range(12)))
        w.swap()
        told: list[OutputRecord] = []
        w.b.sink.hold = True
        killed = asyncio.create_task(w.walk().run())
        for turn in range(2):  # the newest block whole, of the next one only the decisions
            await until(lambda turn=turn: len(w.b.sink.sent) == 6 + 2 * turn + 1)
            w.b.sink.acknowledge()
            if turn == 0:
                await until(lambda: len(w.b.sink.sent) == 8)
                w.b.sink.acknowledge()
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
        w.b.sink.hold = False
        for sent in list(w.b.sink.sent[8:]):
            told += sent.records if sent.topic == TAGS else []
            if sent.topic == SCORES:
                w.b.sink.sent.remove(sent)  # never reached Kafka
        assert len(told) == 4
        await w.walk().run()
        for key, decision in w.kept(TAGS).items():
            assert header(decision, "thresholds") == header(w.kept(SCORES)[key], "thresholds") == w.now.version
