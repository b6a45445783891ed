"""Whatever is done to the thresholds, and whenever: each decision names the table that explains it, and that is stored.

Two workers' hot paths decide from one real Redis while anybody edits, drops, breaks, loses or restores what it holds,
or names another model, at any moment of their own reading and writing. What they decided is held against the stored
tables by comparing numbers here, apart from the product's own decisions.
"""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.adapters.json_decisions import JsonDecisionEncoder
from streamer.adapters.redis_keys import Keys
from streamer.adapters.redis_store import RedisStore
from streamer.core.outputs import OutputRecord
from streamer.core.thresholds import BadThreshold, ThresholdTable
from streamer.serving import ServingControl
from streamer.settings import load_settings
from tests.checks_content import effective, version_of
from tests.fakes import LAYOUT, MODEL, OTHER_MODEL, TUNED, FakeClock, FakeLastGood, FakeModelLoader, a_model
from tests.pipeline_bench import TAGS, Bench, bench

pytestmark = pytest.mark.redis

WORKERS = ("a", "b")
MODELS = {MODEL: TUNED, OTHER_MODEL: {**TUNED, "jazz": 0.9}}
NUMBERS = ("0.1", "0.25", "0.5", "0.75", "0.9")  # of events, and near the thresholds

SPOILT = [("jazz", "1.5"), ("jazz", "nan"), ("polka", "0.5")]

TAG = st.sampled_from(sorted(TUNED))
VALUE = st.sampled_from(["0.1", "0.25", "0.3", "0.500061", "0.75", "0.9", "off", "1", "0"])
WHICH = st.sampled_from(sorted(MODELS))
ACTION = st.one_of(
    st.tuples(st.just("edit"), WHICH, st.dictionaries(TAG, VALUE, min_size=1)),
    st.tuples(st.just("edit"), WHICH, st.dictionaries(TAG, VALUE, min_size=1)),
    st.tuples(st.just("spoil"), WHICH, st.sampled_from(SPOILT)),
    st.tuples(st.just("drop"), WHICH, TAG),
    st.tuples(st.just("replace"), WHICH, st.fixed_dictionaries(dict.fromkeys(TUNED, VALUE))),
    st.tuples(st.just("lose"), WHICH, st.sampled_from(["live", "tables", "both", "model"])),
    st.tuples(st.just("name"), WHICH, st.none()),
    st.tuples(st.just("refresh"), st.sampled_from(WORKERS), st.none()),
    st.tuples(st.just("refresh"), st.sampled_from(WORKERS), st.none()),
    st.tuples(st.just("events"), st.sampled_from(WORKERS), st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=9)),
    st.tuples(st.just("events"), st.sampled_from(WORKERS), st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=9)),
)
MOMENTS = st.integers(0, 4)  # that pass after an action: of the event loop, then of the clock


class World:
    """One Redis prefix, two workers, and what has been written so far."""

    def __init__(self, url: str) -> None:
        prefix = f"test-{uuid.uuid4().hex[:8]}:"
        self.redis = redis.Redis.from_url(url, decode_responses=True, protocol=2)
        self.keys = Keys(prefix)
        self.stored: dict[str, str] = {}  # every table that was ever stored, by version
        self.written: set[str] = set()  # versions that follow from what the live hashes held
        self.lost: set[tuple[str, str]] = set()  # model and version of tables that were taken out of Redis
        self.too_early: set[str] = set()  # versions that were decided by before they were stored
        self.fed: dict[str, list[str]] = {name: [] for name in WORKERS}
        self.controls: dict[str, ServingControl] = {}
        self.stores = {
            name: RedisStore(load_settings(redis_url=url, redis_prefix=prefix, worker=name)) for name in WORKERS
        }
        self.benches: dict[str, Bench] = {}
        self.refreshing: dict[str, asyncio.Task] = {}
        for model, tuned in MODELS.items():
            self.redis.hset(self.keys.live(model), mapping={tag: f"{value:.6f}" for tag, value in tuned.items()})
        self.redis.set(self.keys.model, MODEL)

    async def live_through(self, script: list) -> None:
        """All of the script, then quiet."""
        async with AsyncExitStack() as running:
            for name in WORKERS:
                models = FakeModelLoader(
                    *(a_model(model, tuned=tuned) for model, tuned in MODELS.items()), champion=MODEL
                )
                self.controls[name] = ServingControl(self.stores[name], models, FakeLastGood(), FakeClock())
                self.observe()
                await self.controls[name].refresh()
                self.benches[name] = await running.enter_async_context(
                    bench(4, 0.001, serving=self.controls[name], encoder=JsonDecisionEncoder(LAYOUT))
                )
                self.watch(self.benches[name])
            for (action, which, what), moments in script:
                self.observe()
                await getattr(self, action)(which, what)
                self.observe()
                for moment in range(moments):
                    await asyncio.sleep(0 if moment < 2 else 0.0005)
            await self.quiet()
            for name in WORKERS:
                assert await self.benches[name].pipeline.drain(10)

    def watch(self, one: Bench) -> None:
        """Look, at each hand-over of decisions, whether the table they name is stored by then."""
        hand_over = one.sink.send

        async def send(topic: str, partition: int | None, records: Sequence[OutputRecord]) -> Awaitable[None]:
            for record in records if topic == TAGS else ():
                headers = {name: value.decode() for name, value in record.headers}
                model, version = headers["model"], headers["thresholds"]
                if (model, version) not in self.lost and not self.redis.hexists(self.keys.tables(model), version):
                    self.too_early.add(version)
            return await hand_over(topic, partition, records)

        one.sink.send = send  # type: ignore[method-assign]

    def observe(self) -> None:
        """Remember what Redis holds at this moment."""
        for model, tuned in MODELS.items():
            with self.redis.pipeline(transaction=True) as both:
                both.hgetall(self.keys.live(model))
                both.hgetall(self.keys.tables(model))
                live, tables = both.execute()
            self.stored |= tables
            try:
                ThresholdTable.build(LAYOUT.tags, live, tuned)
            except BadThreshold:
                continue
            self.written.add(version_of(effective(tuned, live)))

    async def edit(self, model: str, values: dict[str, str]) -> None:
        self.redis.hset(self.keys.live(model), mapping=values)

    async def spoil(self, model: str, field: tuple[str, str]) -> None:
        self.redis.hset(self.keys.live(model), *field)

    async def drop(self, model: str, tag: str) -> None:
        self.redis.hdel(self.keys.live(model), tag)

    async def replace(self, model: str, values: dict[str, str]) -> None:
        with self.redis.pipeline(transaction=True) as change:
            change.delete(self.keys.live(model))
            change.hset(self.keys.live(model), mapping=values)
            change.execute()

    async def lose(self, model: str, what: str) -> None:
        if what in ("tables", "both"):
            self.lost |= {(model, version) for version in self.redis.hkeys(self.keys.tables(model))}
        lost = {"live": [self.keys.live(model)], "tables": [self.keys.tables(model)], "model": [self.keys.model]}
        self.redis.delete(*lost.get(what, [self.keys.live(model), self.keys.tables(model)]))

    async def name(self, model: str, _: None) -> None:
        self.redis.set(self.keys.model, model)

    async def refresh(self, worker: str, _: None) -> None:
        """As a worker does it: beside all else, one pass at a time."""
        if worker in self.refreshing:
            await self.refreshing[worker]
        self.refreshing[worker] = asyncio.create_task(self.controls[worker].refresh())

    async def events(self, worker: str, numbers: list[str]) -> None:
        start = len(self.fed[worker])
        self.fed[worker] += numbers
        values = [f"T-{start + n} {number}".encode() for n, number in enumerate(numbers)]
        await self.benches[worker].feed(0, *values)

    async def quiet(self) -> None:
        """What is wrong is taken out, each worker looks once more, and decides once more."""
        for model in MODELS:
            live = self.redis.hgetall(self.keys.live(model))
            bad = [field for field, text in live.items() if (field, text) in SPOILT]
            if bad:
                self.redis.hdel(self.keys.live(model), *bad)
        for worker in (*WORKERS, *WORKERS):  # the second pass: what the other has restored
            self.observe()
            await self.refresh(worker, None)
            await self.refreshing[worker]
        self.observe()
        for worker in WORKERS:
            await self.events(worker, list(NUMBERS))

    def check(self) -> None:
        """Every decision, the history, and that at the end what is live is obeyed."""
        assert not self.too_early, f"decided by tables that were not stored yet: {self.too_early}"
        for worker in WORKERS:
            seen = 0
            for sent in self.benches[worker].sink.sent:
                if sent.topic == TAGS:
                    decisions = [json.loads(record.value or b"") for record in sent.records]
                    assert len({(one["model"], one["thresholds"]) for one in decisions}) == 1, "a batch is mixed"
                    for one in decisions:
                        self.check_decision(one, self.fed[worker][one["source"]["offset"]])
                        seen += 1
            assert seen == len(self.fed[worker])
            model = self.redis.get(self.keys.model)
            now = self.controls[worker].current()
            live = self.redis.hgetall(self.keys.live(model))
            assert (now.model.version, now.table.version) == (model, version_of(effective(MODELS[model], live)))
        for model in MODELS:
            entries = [entry for _, entry in self.redis.xrange(self.keys.history(model))]
            twice = [
                second
                for first, second in pairwise(entries)
                if first["after"] == second["after"] and second["action"] == "outside-edit"
            ]
            assert not twice, f"an edit was entered twice: {entries}"

    def check_decision(self, decision: dict[str, Any], number: str) -> None:
        version = decision["thresholds"]
        assert version in self.stored, f"{version} is not stored"
        text = self.stored[version]
        assert hashlib.sha256(text.encode()).hexdigest()[:12] == version
        assert version in self.written, f"{version} follows from nothing that anybody wrote"
        score = float(np.float16(float(number)))
        wanted = {tag for tag, value in json.loads(text).items() if value != "off" and score >= float(value)}
        assert {tag for tags in decision["tags"].values() for tag in tags} == wanted, (decision, text)

    async def close(self) -> None:
        for store in self.stores.values():
            await store.close()
        found = list(self.redis.scan_iter(f"{self.keys.model.removesuffix('model')}*"))
        if found:
            self.redis.delete(*found)
        self.redis.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=st.lists(st.tuples(ACTION, MOMENTS), max_size=20))
def test_each_decision_is_explained_by_the_stored_table_it_names(redis_url, script):
    async def run() -> World:
        world = World(redis_url)
        try:
            await world.live_through(script)
            world.check()
        finally:
            await world.close()
        return world

    asyncio.run(run())
