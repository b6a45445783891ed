"""Thresholds, model and heartbeat on a real Redis: pushes, scripts that race, loss, and a server that is gone."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from streamer.adapters.clock import SystemClock
from streamer.adapters.redis_keys import Keys
from streamer.adapters.redis_store import HEARTBEAT_EXPIRES_S, RECONNECT_S, SOCKET_TIMEOUT_S, RedisStore, redis_client
from streamer.core.thresholds import ThresholdTable
from streamer.serving import ServingControl, StoreUnavailable
from streamer.settings import Settings, load_settings
from tests.fakes import MODEL, FakeLastGood, FakeModelLoader, a_model, a_table

pytestmark = pytest.mark.redis

BEFORE, AFTER = a_table(), a_table(rock=0.9)
PUSH_S = 1.0  # the contract's: live in under a second


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """A prefix of this test alone on the session's Redis; polling is as good as off, so only a push can tell."""
    return load_settings(redis_url=redis_url, redis_prefix=f"test-{uuid.uuid4().hex[:8]}:", worker="w-1")


@pytest.fixture
def keys(settings: Settings) -> Keys:
    return Keys(settings.redis_prefix)


@pytest.fixture
async def ops(settings: Settings) -> AsyncIterator[redis.asyncio.Redis]:
    """Any Redis tool in a person's hands; its prefix is emptied at the end."""
    client = redis_client(settings)
    yield client
    await lose_everything(client, settings)
    await client.aclose()


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[RedisStore]:
    made = RedisStore(settings)
    yield made
    await made.close()


async def lose_everything(client: redis.asyncio.Redis, settings: Settings) -> None:
    """What FLUSHDB would do to this prefix."""
    found = [key async for key in client.scan_iter(settings.redis_prefix + "*")]
    if found:
        await client.delete(*found)


async def listening(store: RedisStore) -> asyncio.Task:
    """Start listening and return when a push has been seen to arrive."""
    task = asyncio.create_task(store.listen())
    await asyncio.wait_for(store.changed.wait(), 5)
    await asyncio.sleep(0.1)
    store.changed.clear()
    return task


async def pushed(store: RedisStore) -> float:
    """Seconds until the push is there; clears it."""
    started = time.monotonic()
    await asyncio.wait_for(store.changed.wait(), PUSH_S)
    store.changed.clear()
    return time.monotonic() - started


async def history(ops: redis.asyncio.Redis, keys: Keys) -> list[dict[str, str]]:
    return [fields for _, fields in await ops.xrange(keys.history(MODEL))]


async def test_what_changes_is_pushed(store, ops, keys):
    task = await listening(store)
    try:
        await ops.set(keys.model, MODEL)
        await pushed(store)
        for tag in ("rock", "jazz", "rock"):
            await ops.hset(keys.live(MODEL), tag, "0.5")
            await pushed(store)
        await ops.hdel(keys.live(MODEL), "rock")
        await pushed(store)
        await ops.delete(keys.live(MODEL))
        await pushed(store)
    finally:
        task.cancel()


async def test_loss_is_pushed(store, ops, keys, settings):
    await store.restore(MODEL, BEFORE, "first use")
    task = await listening(store)
    try:
        await lose_everything(ops, settings)
        await pushed(store)
    finally:
        task.cancel()


async def test_what_workers_write_themselves_is_not_news(store, ops, keys):
    await store.restore(MODEL, BEFORE, "first use")
    task = await listening(store)
    try:
        await store.enter(MODEL, AFTER)
        await store.heartbeat({"tracks": "1"})
        await ops.xadd(keys.history(MODEL), {"who": "test"})
        await asyncio.sleep(0.2)
        assert not store.changed.is_set()
    finally:
        task.cancel()


@pytest.mark.parametrize("kinds", [("pubsub",), ("normal",), ("pubsub", "normal")])
async def test_pushes_come_again_after_a_connection_is_lost(own_services, kinds):
    """Each of the two connections alone, and both, as at a restart: none may be mended silently without the other."""
    server = own_services(kafka=False).redis
    settings = load_settings(redis_url=server.url, redis_prefix="t:")
    store, ops = RedisStore(settings), redis_client(settings)
    task = await listening(store)
    try:
        for kind in kinds:
            await ops.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        await asyncio.sleep(SOCKET_TIMEOUT_S + RECONNECT_S + 0.5)
        store.changed.clear()
        await ops.hset(Keys("t:").live(MODEL), "rock", "0.5")
        await pushed(store)
    finally:
        task.cancel()
        await store.close()
        await ops.aclose()


async def test_read_is_what_is_there(store, ops, keys):
    empty = await store.read(MODEL, BEFORE.version)
    assert empty.live is None and not empty.knows_version and await store.active_model() is None
    await store.restore(MODEL, BEFORE, "first use")
    found = await store.read(MODEL, BEFORE.version)
    assert found.live == BEFORE.as_hash() and found.knows_version
    assert not (await store.read(MODEL, AFTER.version)).knows_version
    assert not (await store.read(MODEL, None)).knows_version


async def test_a_model_is_named_only_where_none_is(store, ops, keys):
    await store.name_model(MODEL)
    await store.name_model("another")
    assert await store.active_model() == MODEL == await ops.get(keys.model)
    await ops.set(keys.model, "")
    await store.name_model("another")
    assert await store.active_model() == "another", "an empty name names nothing"


async def test_restore_writes_only_what_is_absent(store, ops, keys):
    await ops.hset(keys.live(MODEL), "rock", "0.1")  # somebody's later edit
    table = ThresholdTable.build(AFTER.tags, {"calm": "off"}, AFTER.as_hash())
    await store.restore(MODEL, table, "restored after data loss")
    assert await ops.hgetall(keys.live(MODEL)) == {**table.as_hash(), "rock": "0.1"}
    assert await ops.hgetall(keys.tables(MODEL)) == {table.version: table.canonical}
    (entry,) = await history(ops, keys)
    assert (entry["action"], entry["who"], entry["after"]) == ("restore", "w-1", table.version)
    assert entry["why"] == "restored after data loss"


async def test_workers_that_restore_at_once_write_it_once(settings, ops, keys):
    stores = [RedisStore(settings.model_copy(update={"worker": f"w-{n}"})) for n in range(5)]
    await asyncio.gather(*(one.restore(MODEL, BEFORE, "restored") for one in stores))
    assert len(await history(ops, keys)) == 1 and await ops.hgetall(keys.live(MODEL)) == BEFORE.as_hash()
    for one in stores:
        await one.close()


async def test_an_outside_edit_is_entered_once_by_whoever_sees_it_first(settings, ops, keys):
    stores = [RedisStore(settings.model_copy(update={"worker": f"w-{n}"})) for n in range(5)]
    await stores[0].restore(MODEL, BEFORE, "first use")
    await ops.hset(keys.live(MODEL), "rock", "0.9")
    live = await ops.hgetall(keys.live(MODEL))
    for _ in range(2):
        await asyncio.gather(*(one.adopt(MODEL, AFTER, live, BEFORE.version) for one in stores))
    first, entry = await history(ops, keys)
    assert first["action"] == "restore"
    assert (entry["action"], entry["who"]) == ("outside-edit", "outside") and entry["seen_by"].startswith("w-")
    assert (entry["before"], entry["after"]) == (BEFORE.version, AFTER.version)
    assert await ops.hget(keys.tables(MODEL), AFTER.version) == AFTER.canonical
    await ops.hset(keys.live(MODEL), mapping=BEFORE.as_hash())  # and back: an edit too
    await stores[1].adopt(MODEL, BEFORE, BEFORE.as_hash(), AFTER.version)
    assert [(e["before"], e["after"]) for e in (await history(ops, keys))[2:]] == [(AFTER.version, BEFORE.version)]
    for one in stores:
        await one.close()


async def test_a_table_that_was_overtaken_is_entered_without_a_history_entry(store, ops, keys):
    await store.restore(MODEL, BEFORE, "first use")
    live = await ops.hgetall(keys.live(MODEL))
    await ops.hset(keys.live(MODEL), "rock", "0.3")  # between reading and adopting
    await store.adopt(MODEL, AFTER, {**live, "rock": "0.9"}, BEFORE.version)
    assert len(await history(ops, keys)) == 1
    assert await ops.hexists(keys.tables(MODEL), AFTER.version), "used for a moment, so it stays explainable"


async def test_two_workers_follow_an_edit_and_a_loss(settings, ops, keys):
    """The whole of it: what serving makes of the store, twice, beside each other."""
    controls, stores = [], []
    for name in ("w-1", "w-2"):
        stores.append(RedisStore(settings.model_copy(update={"worker": name})))
        loader = FakeModelLoader(a_model(), champion=MODEL)
        controls.append(ServingControl(stores[-1], loader, FakeLastGood(), SystemClock()))

    async def refresh() -> list[str]:
        await asyncio.gather(*(control.refresh() for control in controls))
        assert [control.status.store_up for control in controls] == [True, True]
        return [control.current().table.version for control in controls]

    assert await refresh() == [BEFORE.version] * 2
    await ops.hset(keys.live(MODEL), "rock", "0.9")
    assert await refresh() == [AFTER.version] * 2
    await lose_everything(ops, settings)
    assert await refresh() == [AFTER.version] * 2
    assert await ops.hgetall(keys.live(MODEL)) == AFTER.as_hash() and await ops.get(keys.model) == MODEL
    assert [entry["why"] for entry in await history(ops, keys)] == ["restored after data loss"]
    assert sum(control.status.restored > 0 for control in controls) >= 1
    await ops.hset(keys.live(MODEL), "jazz", "off")
    assert len(set(await refresh())) == 1 and controls[0].current().table.as_hash()["jazz"] == "off"
    for one in stores:
        await one.close()


@pytest.mark.parametrize(("tag", "value"), [("rock", b"\xff\xfe"), (b"\xff\xfe", b"0.5")])
async def test_bytes_that_are_no_text_are_a_refused_table_and_not_the_end(store, ops, keys, tag, value):
    control = ServingControl(store, FakeModelLoader(a_model(), champion=MODEL), FakeLastGood(), SystemClock())
    await control.refresh()
    await ops.hset(keys.live(MODEL), tag, value)
    await control.refresh()
    assert control.status.store_up and control.status.refused_tables == 1
    assert control.current().table.version == BEFORE.version


async def test_bytes_that_are_no_text_as_the_model(store, ops, keys):
    control = ServingControl(store, FakeModelLoader(a_model(), champion=MODEL), FakeLastGood(), SystemClock())
    await control.refresh()
    await ops.set(keys.model, b"\xff\xfe")
    await control.refresh()
    assert control.status.store_up and control.status.model_failures == 1


async def test_keys_of_another_type_are_an_outage_and_not_the_end(store, ops, keys):
    control = ServingControl(store, FakeModelLoader(a_model(), champion=MODEL), FakeLastGood(), SystemClock())
    await control.refresh()
    await ops.delete(keys.live(MODEL))
    await ops.set(keys.live(MODEL), "a text")
    await control.refresh()
    assert not control.status.store_up and control.ready
    await ops.delete(keys.live(MODEL))
    await control.refresh()
    assert control.status.store_up and await ops.hgetall(keys.live(MODEL)) == BEFORE.as_hash()


async def test_a_live_hash_of_a_million_fields_is_refused_unread(store, ops, keys):
    model = a_model()
    control = ServingControl(store, FakeModelLoader(model, champion=MODEL), FakeLastGood(), SystemClock())
    await control.refresh()
    before = control.current().table.version
    fill = "for i = 1, 200000 do redis.call('HSET', KEYS[1], 'f' .. i, '0.5') end"
    await ops.execute_command("EVAL", fill, 1, keys.live(MODEL))
    began_s = time.thread_time()
    await control.refresh()
    assert time.thread_time() - began_s < 0.2
    assert control.current().table.version == before and control.status.refused_tables == 1
    assert "fields" in control.status.refusal
    await ops.delete(keys.live(MODEL))
    await control.refresh()
    assert control.status.refusal == ""


async def test_a_heartbeat_expires_by_itself_and_is_taken_away_at_the_end(store, ops, keys):
    await store.heartbeat({"tracks": "7", "model": MODEL})
    assert await ops.hgetall(keys.worker("w-1")) == {"tracks": "7", "model": MODEL}
    assert 0 < await ops.pttl(keys.worker("w-1")) <= HEARTBEAT_EXPIRES_S * 1000
    await store.heartbeat({"tracks": "8"})
    await ops.pexpire(keys.worker("w-1"), 1)  # as time would
    await asyncio.sleep(0.05)
    assert not await ops.exists(keys.worker("w-1"))
    await store.heartbeat({"tracks": "9"})
    await store.farewell()
    assert not await ops.exists(keys.worker("w-1"))


async def test_a_redis_that_is_frozen_killed_and_back(own_services):
    server = own_services(kafka=False).redis
    assert server is not None
    store = RedisStore(load_settings(redis_url=server.url, redis_prefix="t:", worker="w-1"))
    keys = Keys("t:")
    task = await listening(store)
    try:
        await store.name_model(MODEL)
        server.pause()
        await assert_unavailable_soon(store)
        server.resume()
        assert await store.active_model() == MODEL
        server.kill()
        await assert_unavailable_soon(store)
        server.start()
        await asyncio.to_thread(server.wait_ready)
        assert await store.active_model() == MODEL, "the same store goes on with the new server"
        await asyncio.sleep(1.0)
        store.changed.clear()
        other = redis.asyncio.Redis.from_url(server.url)
        await other.hset(keys.live(MODEL), "rock", "0.5")
        await other.aclose()
        await pushed(store)
    finally:
        task.cancel()
        await store.close()


async def assert_unavailable_soon(store: RedisStore) -> None:
    """Every call fails in bounded time with the one error that serving knows."""
    calls = (
        store.active_model(),
        store.read(MODEL, None),
        store.restore(MODEL, BEFORE, "why"),
        store.adopt(MODEL, BEFORE, {}, None),
        store.heartbeat({"tracks": "1"}),
    )
    started = time.monotonic()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - started < 2 * SOCKET_TIMEOUT_S + 1
    assert all(isinstance(end, StoreUnavailable) and "does not answer" in str(end) for end in ends), ends
