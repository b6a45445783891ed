"""Re-decide against plain Python: which records are newest, which tags differ, and what any interleaving leaves."""

import asyncio
import json
from contextlib import suppress

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.core.outputs import OutputRecord
from streamer.core.redecide import examine, tags_changed
from streamer.core.seen_keys import SeenKeys
from streamer.core.thresholds import ThresholdTable
from streamer.redecide_walk import Interrupted
from tests.fakes import FakeRecord, a_table, until
from tests.redecide_bench import SCORES, TAGS, header, score_records, walk_bench

TAG_NAMES = ["a", "b", "c", "d", "e"]
THRESHOLDS = st.sampled_from(["off", "0", "0.25", "0.5", "0.50001", "0.3330078125", "0.333008", "1"])
TABLES = st.lists(THRESHOLDS, min_size=5, max_size=5).map(
    lambda values: ThresholdTable.build(TAG_NAMES, dict(zip(TAG_NAMES, values, strict=True)), {})
)
SCORE = st.sampled_from([0.0, -0.0, 0.25, 0.333, 0.5, 0.50049, 0.999, 1.0])
ROW = st.lists(SCORE, min_size=5, max_size=5)


@given(blocks=st.lists(st.lists(st.integers(-3, 12), max_size=12), max_size=12))
def test_a_walk_backwards_finds_the_newest_of_each_key(blocks: list[list[int]]):
    seen, met = SeenKeys(), set()
    for block in blocks:
        hashes = np.array(block, np.int64)
        wanted = [at for at, key in enumerate(block) if key not in met and key not in block[at + 1 :]]
        assert seen.newest(hashes).tolist() == wanted
        seen.settle()
        met |= set(block)
        assert len(seen) == len(met) and seen.has(np.arange(-3, 13)).tolist() == [key in met for key in range(-3, 13)]


@given(now=TABLES, before=st.lists(TABLES, min_size=1, max_size=3), rows=st.lists(st.tuples(ROW, st.integers(0, 2))))
def test_the_tags_that_differ_are_those_of_the_contract_s_comparison(now, before, rows):
    records, wanted, added, removed = [], [], {}, {}
    for number, (row, which) in enumerate(rows):
        scores, table = np.array(row, "<f2"), before[which % len(before)]
        headers = [("model", b"m"), ("thresholds", table.version.encode())]
        records.append(OutputRecord(b"%d" % number, scores.tobytes(), headers, 0))
        was, is_now = ({t for t, s, v in zip(TAG_NAMES, scores.astype(float), one.values, strict=True) if s >= v}
                       for one in (table, now))  # fmt: skip
        wanted += [number] if was != is_now else []
        assert tags_changed(scores, table, now) == (sorted(is_now - was), sorted(was - is_now))
        for tally, tags in ((added, is_now - was), (removed, was - is_now)):
            tally.update({tag: tally.get(tag, 0) + 1 for tag in tags})
    counts, changed = examine(
        score_records(records), np.arange(len(records)), "m", now, {table.version: table for table in before}
    )
    assert changed.tolist() == wanted and counts.changed == len(wanted) and counts.examined == len(records)
    assert (counts.added, counts.removed) == (added, removed)


TRACK = st.sampled_from("ABC")
EVENT = st.tuples(TRACK, st.sampled_from([None, 0.3, 0.5, 0.55, 0.55, 0.8]))
MOVES = st.lists(
    st.one_of(
        st.lists(EVENT, min_size=4, max_size=4),  # so many go out without a linger
        st.sampled_from(["run", "run", "wait", "wait", "swap", "drain"]),
    ),
    max_size=16,
)
PAUSES_S = st.lists(st.sampled_from([0.0, 0.002, 0.004]), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(EVENT, min_size=4, max_size=12), moves=MOVES, size=st.integers(1, 3), pauses_s=PAUSES_S)
def test_whatever_comes_between_each_track_ends_at_its_newest(monkeypatch, before, moves, size, pauses_s):
    """Live events, swaps, ends of epochs in the middle of a walk: no re-decision is of anything but the newest, and at
    the end one undisturbed run brings all in step."""
    monkeypatch.setattr("streamer.redecide_walk.PIECE_S", 0.0)  # a rest after everything
    asyncio.run(_any_interleaving(before, moves, size, pauses_s))


async def _any_interleaving(before, moves, size, pauses_s):
    async with walk_bench(batch_records=size, rock=0.6) as w:
        w.scores.pauses_s = list(pauses_s)
        tables = [w.now, a_table(jazz=0.3), w.before]
        w.store.tables[tables[1].version] = tables[1].canonical
        inputs: dict[str, float | None] = {}

        async def live(events) -> None:
            start = w.b.next_offset.get(0, 0)
            w.b.next_offset[0] = start + len(events)
            values = [None if number is None else f"{track} {number}".encode() for track, number in events]
            keys = [track.encode() for track, _ in events]
            inputs.update(events)
            await w.b.feed_records(
                0, [FakeRecord(start + n, v, k) for n, (v, k) in enumerate(zip(values, keys, strict=True))]
            )

        async def walk() -> None:
            with suppress(Interrupted):
                await w.walk().run()

        await live(before)
        await until(lambda: w.b.committable().get(0, 0) == w.b.next_offset[0])
        w.swap()
        walking: list[asyncio.Task] = []
        for move in moves:
            if move == "run" and not any(not one.done() for one in walking):
                walking.append(asyncio.create_task(walk()))
            elif move == "swap":
                tables.append(tables.pop(0))
                w.swap(tables[0])
            elif move == "drain":
                assert await w.b.pipeline.drain(5)
            elif isinstance(move, list):
                await live(move)
            elif move == "wait":
                await asyncio.sleep(0.001)
        await asyncio.gather(*walking)
        await until(lambda: w.b.committable().get(0, 0) == w.b.next_offset.get(0, 0))
        w.swap(w.now)
        w.run.progress.clear()
        await walk()
        check(w, inputs)


def check(w, inputs) -> None:
    newest: dict[bytes | None, int] = {}  # what a re-decision must be of: the event that was decided last
    for record in w.b.sink.records(TAGS):
        decision = json.loads(record.value) if record.value else {"source": {"offset": -1}}
        if "redecided" in decision:
            assert decision["source"]["offset"] == newest[record.key]
        newest[record.key] = decision["source"]["offset"]
    decisions, scores = w.kept(TAGS), w.kept(SCORES)
    assert decisions.keys() == scores.keys() == inputs.keys()
    for track, number in inputs.items():
        if number is None:
            assert decisions[track].value is None and scores[track].value is None
            continue
        decision = json.loads(decisions[track].value)
        kept = np.frombuffer(scores[track].value, "<f2").astype(float)
        wanted = {tag for tag, s, v in zip(w.now.tags, kept, w.now.values, strict=True) if s >= v}
        assert {tag for tags in decision["tags"].values() for tag in tags} == wanted
        assert abs(kept[0] - number) < 0.001, "of the newest event"
        assert header(decisions[track], "thresholds") == header(scores[track], "thresholds")
