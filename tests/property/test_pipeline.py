"""The hot path under any script of fetches, acknowledgements, rebalances and faults.

Plays the consumer's part: it reads a log from the committed offsets, commits what is committable, and begins again
after a rebalance or a crash. Whatever happens: an offset is committed only when every output of every input before it
is acknowledged; per partition outputs go out in the input's order; without faults each goes out exactly once; and a
worker that starts again from what was committed leaves nothing out.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.batch import RecordBatch
from tests.fakes import FakeRecord
from tests.pipeline_bench import ARROW, DEAD, INPUT, SCORES, TAGS, Bench, bench

PARTITIONS = 3
LOG_RECORDS = 30  # per partition
PATIENCE_S = 0.01  # of a drain in a script; the last one waits for all

FETCH = st.tuples(st.just("fetch"), st.integers(0, PARTITIONS - 1), st.integers(1, 9))
ACKNOWLEDGE = st.tuples(st.just("acknowledge"), st.integers(0, 30), st.integers(0, 0))
PAUSE = st.tuples(st.just("pause"), st.integers(0, 6), st.integers(0, 0))
REBALANCE = st.tuples(st.just("rebalance"), st.booleans(), st.integers(0, 0))
FAULT = st.one_of(
    st.tuples(st.just("refuse"), st.integers(0, 12), st.integers(0, 0)),
    st.tuples(st.just("lose"), st.integers(0, 12), st.integers(0, 0)),
    st.tuples(st.just("crash"), st.integers(0, 6), st.integers(0, 0)),
)
OUTPUTS = {"r": 2, "w": 2, "b": 3 * 2 + 2}  # of the others one
KINDS = st.lists(st.sampled_from("rrrrwdoxb"), min_size=LOG_RECORDS, max_size=LOG_RECORDS)


def a_record(kind: str, offset: int) -> FakeRecord:
    """r: a row, w: a withdrawal, d: not decodable, o: out of range, x: null without a key, b: five rows, two of which
    are dead letters."""
    identity = f"T-{offset}"
    if kind == "b":
        rows = [f"{identity}.0 0.5", f"{identity}.1 1.5", " 0.5", f"{identity}.3 0.5", f"{identity}.4 0.5"]
        return FakeRecord(offset, "\n".join(rows).encode(), None, ARROW, timestamp=offset)
    values = {"r": f"{identity} 0.5", "w": None, "d": "bad", "o": f"{identity} 1.5", "x": None}
    value = values[kind]
    return FakeRecord(
        offset, None if value is None else value.encode(), None if kind == "x" else identity.encode(), timestamp=offset
    )


@dataclass
class Consumer:
    """What stands between the log and the pipeline, and what it has seen."""

    logs: list[list[FakeRecord]]
    kinds: list[list[str]]
    committed: dict[int, int] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    delivered: Counter = field(default_factory=Counter)  # (partition, offset) -> outputs acknowledged

    async def life(self, b: Bench, script: list) -> None:
        """One worker from its start to its end."""
        self.positions = dict(self.committed)
        channel: asyncio.Queue[RecordBatch] = asyncio.Queue()
        agent = asyncio.create_task(self._agent(b, channel))
        for action, number, count in script:
            if b.pipeline.failed.done():
                break
            if action == "fetch":
                start = self.positions.get(number, 0)
                records = self.logs[number][start : start + count]
                self.positions[number] = start + len(records)
                channel.put_nowait(RecordBatch(b.pipeline.epoch, number, records))
            elif action == "acknowledge":
                b.sink.acknowledge(*([number] if number < len(b.sink.sent) else []))
            elif action == "pause":
                await asyncio.sleep(number / 1000)
            elif action == "rebalance":
                await self._rebalance(b, acknowledge=number)
            await asyncio.sleep(0)
            self.check(b)
        b.sink.hold = False
        taken_in = asyncio.create_task(channel.join())
        while not b.pipeline.failed.done() and not taken_in.done():
            b.sink.acknowledge()
            await asyncio.sleep(0.001)
        taken_in.cancel()
        b.sink.acknowledge()
        await b.pipeline.drain(5)
        self.check(b)
        self.committed |= b.committable()
        agent.cancel()
        self._tell_acknowledged(b)

    @staticmethod
    async def _agent(b: Bench, channel: asyncio.Queue) -> None:
        while True:
            await b.pipeline.feed(await channel.get())
            channel.task_done()

    async def _rebalance(self, b: Bench, *, acknowledge: bool) -> None:
        if acknowledge:
            b.sink.acknowledge()
        await b.pipeline.drain(PATIENCE_S)
        self.check(b)
        self.committed |= b.committable()
        b.pipeline.forget()
        self.positions = dict(self.committed)

    def check(self, b: Bench) -> None:
        """Everything before a committable offset is acknowledged, in this life or an earlier one."""
        acknowledged = self.delivered + outputs(b, acknowledged_only=True)
        for partition, offset in b.committable().items():
            for before in range(offset):
                wanted = OUTPUTS.get(self.kinds[partition][before], 1)
                assert acknowledged[partition, before] >= wanted, (partition, before, offset)

    def _tell_acknowledged(self, b: Bench) -> None:
        self.delivered += outputs(b, acknowledged_only=True)


def outputs(b: Bench, *, acknowledged_only: bool) -> Counter:
    """How many records went out for each (partition, offset) of the input."""
    counted: Counter = Counter()
    for sent in b.sink.sent:
        done = sent.acknowledged.done() and sent.acknowledged.exception() is None
        if done or not acknowledged_only:
            counted.update(sources(sent))
    return counted


def sources(sent) -> list[tuple[int, int]]:
    """The input coordinates of one hand-over's records."""
    if sent.topic != DEAD:
        return [(sent.partition, int((record.key or b"")[2:].partition(b".")[0])) for record in sent.records]
    texts = [dict(record.headers)["source"].decode().split("/") for record in sent.records]
    assert all(text[0] == INPUT for text in texts)
    return [(int(partition), int(offset)) for _, partition, offset, _ in texts]


def assert_in_order(b: Bench) -> None:
    """Per partition and topic never backwards, but for a rebalance that reads again."""
    for topic in (TAGS, SCORES):
        for partition in range(PARTITIONS):
            keys = [float(key[2:]) for key in b.keys(topic, partition)]
            assert keys == sorted(set(keys)), (topic, partition, keys)


@given(
    st.lists(KINDS, min_size=PARTITIONS, max_size=PARTITIONS),
    st.lists(st.one_of(FETCH, FETCH, FETCH, ACKNOWLEDGE, ACKNOWLEDGE, PAUSE, REBALANCE), max_size=30),
    st.lists(FAULT, max_size=1),
    st.integers(1, 9),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_every_input_is_output_or_not_committable(kinds, script, faults, batch_max, hold):
    asyncio.run(play(kinds, script, faults, batch_max, hold))


async def play(kinds, script, faults, batch_max, hold) -> None:
    logs = [[a_record(kind, offset) for offset, kind in enumerate(one)] for one in kinds]
    consumer = Consumer(logs, kinds)
    async with bench(batch_max, 0.002) as first:
        first.sink.hold = hold
        for what, number, _ in faults:
            if what == "crash":
                first.scorer.crash_at = number
            elif what == "refuse":
                first.sink.refuse_at = number
            else:
                first.sink.lose_at = number
        await consumer.life(first, script)
        failed = first.pipeline.failed.done()
        if not any(action == "rebalance" for action, _, _ in script):
            assert_in_order(first)
            once = outputs(first, acknowledged_only=False)
            assert all(once[p, at] <= OUTPUTS.get(kinds[p][at], 1) for p, at in once)
            if not failed:
                assert consumer.committed == {p: at for p, at in consumer.positions.items() if at}
    everything = [("fetch", partition, 9) for _ in range(4) for partition in range(PARTITIONS)]
    async with bench(batch_max, 0.002) as second:
        await consumer.life(second, everything)
        assert_in_order(second)
    assert consumer.committed == dict.fromkeys(range(PARTITIONS), LOG_RECORDS)
    for partition in range(PARTITIONS):
        for offset, kind in enumerate(kinds[partition]):
            assert consumer.delivered[partition, offset] >= OUTPUTS.get(kind, 1)
