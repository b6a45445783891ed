"""Thresholds, active model and heartbeats in Redis (contract section 4).

Reads are one transaction; writes that must be right together are one script each, so a worker killed in between
leaves nothing half-written. Every failure of Redis comes out as `StoreUnavailable`. A change is pushed to us by
`CLIENT TRACKING .. BCAST` (redirected to a subscribed connection, which works from Redis 6 on); the poll beside it
is what holds when a push is lost.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamer.adapters.redis_client import (
    INVALIDATIONS,
    REDIS_FAILURES,
    RedisRefuses,
    connection_options,
    redis_error,
)
from streamer.adapters.redis_keys import Keys
from streamer.adapters.redis_rights import check_worker_rights
from streamer.core.thresholds import ThresholdTable
from streamer.serving import Snapshot, StoreUnavailable
from streamer.settings import Settings

log = logging.getLogger(__name__)

SOCKET_TIMEOUT_S = 2.0  # a Redis that is frozen counts as down after this
HEARTBEAT_EXPIRES_S = 5
HISTORY_MAX_ENTRIES = 100_000
RECONNECT_S = 0.5
LIVE_FIELDS_MAX = 100_000  # of a live hash; a field is a tag

T = TypeVar("T")

# KEYS: live, tables, history. ARGV: version, canonical, who, before, n, then n pairs of the live hash as it was read.
# The history entry is written only where the hash still is what this table was made of, and the newest entry does
# not already end in this version: so an outside edit is entered once, by whoever sees it first.
ADOPT = f"""
redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
local n = tonumber(ARGV[5])
if redis.call('HLEN', KEYS[1]) ~= n then return 0 end
for i = 0, n - 1 do
  if redis.call('HGET', KEYS[1], ARGV[6 + 2 * i]) ~= ARGV[7 + 2 * i] then return 0 end
end
local before = ARGV[4]
local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
if newest[1] then
  local fields = newest[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == 'after' then before = fields[i + 1] end
  end
end
if before == ARGV[1] then return 0 end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', {HISTORY_MAX_ENTRIES}, '*',
           'who', 'outside', 'why', 'edited with another tool', 'action', 'outside-edit',
           'before', before, 'after', ARGV[1], 'seen_by', ARGV[3])
return 1
"""

# KEYS: live, tables, history. ARGV: version, canonical, who, why, n, then n pairs. Per tag only where absent.
RESTORE = f"""
local written = 0
for i = 0, tonumber(ARGV[5]) - 1 do
  written = written + redis.call('HSETNX', KEYS[1], ARGV[6 + 2 * i], ARGV[7 + 2 * i])
end
written = written + redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2])
if written > 0 then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', {HISTORY_MAX_ENTRIES}, '*', 'who', ARGV[3], 'why', ARGV[4],
             'action', 'restore', 'before', '', 'after', ARGV[1])
end
return written
"""


# KEYS: model. ARGV: version. An empty name names nothing.
NAME_MODEL = """
local now = redis.call('GET', KEYS[1])
if not now or now == '' then redis.call('SET', KEYS[1], ARGV[1]) end
"""


def redis_client(settings: Settings, retries: int = 1) -> "Redis":
    """An asyncio client of the deployment's Redis, with bounded waits and no hidden retries but the one."""
    return Redis.from_url(
        settings.redis_url.get_secret_value(),
        encoding_errors="replace",  # bytes that are no text are refused as a value, not as an answer
        protocol=2,
        retry=Retry(NoBackoff(), retries),
        **connection_options(settings, SOCKET_TIMEOUT_S),
    )


class RedisStore:
    """`streamer.serving.ThresholdStore` on Redis, and the worker's heartbeat."""

    def __init__(self, settings: Settings) -> None:
        self.changed = asyncio.Event()
        self._keys = Keys(settings.redis_prefix)
        self._worker = settings.worker
        self._settings = settings
        self._redis = redis_client(settings)

    async def active_model(self) -> str | None:
        return await self._ask(self._redis.get(self._keys.model)) or None

    async def name_model(self, model: str) -> None:
        await self._ask(self._redis.eval(NAME_MODEL, 1, self._keys.model, model))

    async def read(self, model: str, version: str | None) -> Snapshot:
        fields = await self._ask(self._redis.hlen(self._keys.live(model)))
        if fields > LIVE_FIELDS_MAX:  # a hash of millions would stop the event loop at each poll; this one is refused
            return Snapshot({f"({fields:,} fields)": ""}, True)
        transaction = self._redis.pipeline(transaction=True)
        transaction.hgetall(self._keys.live(model))
        transaction.hexists(self._keys.tables(model), version or "")
        live, knows = await self._ask(transaction.execute())
        return Snapshot(live or None, bool(knows))

    async def adopt(self, model: str, table: ThresholdTable, live: Mapping[str, str], before: str | None) -> None:
        pairs = [text for pair in live.items() for text in pair]
        await self._script(ADOPT, model, table, self._worker, before or "", len(live), *pairs)

    async def enter(self, model: str, table: ThresholdTable) -> None:
        await self._ask(self._redis.hsetnx(self._keys.tables(model), table.version, table.canonical))

    async def restore(self, model: str, table: ThresholdTable, why: str) -> None:
        pairs = [text for pair in table.as_hash().items() for text in pair]
        await self._script(RESTORE, model, table, self._worker, why, len(table.tags), *pairs)

    async def _script(self, script: str, model: str, table: ThresholdTable, *arguments: Any) -> None:
        keys = self._keys.live(model), self._keys.tables(model), self._keys.history(model)
        await self._ask(self._redis.eval(script, len(keys), *keys, table.version, table.canonical, *arguments))

    async def heartbeat(self, fields: Mapping[str, str]) -> str:
        """Say what this worker is doing; it vanishes by itself when the worker does.

        Returns:
            The `process` of the heartbeat before: another one than this worker's is of another with its name.
        """
        transaction = self._redis.pipeline(transaction=True)
        transaction.hget(self._keys.worker(self._worker), "process")
        transaction.hset(self._keys.worker(self._worker), mapping=dict(fields))  # type: ignore[arg-type]
        transaction.expire(self._keys.worker(self._worker), HEARTBEAT_EXPIRES_S)
        return (await self._ask(transaction.execute()))[0] or ""

    async def resume_token(self) -> str | None:
        """What `tagstream deadletter resume` last wrote: another value than before is a new request."""
        return await self._ask(self._redis.get(self._keys.resume))

    async def farewell(self) -> None:
        """Take the heartbeat away: this worker has stopped on purpose."""
        await self._ask(self._redis.delete(self._keys.worker(self._worker)))

    async def _ask(self, answer: Awaitable[T] | Any) -> Any:
        try:
            return await answer
        except REDIS_FAILURES as error:
            raise StoreUnavailable(str(redis_error(self._settings, error)).rstrip(".")) from error

    async def check_rights(self) -> None:
        """Pass where Redis lets a worker do all it needs; one that is away is no reason not to begin.

        Raises:
            RedisRefuses: the login, a certificate or a right is wrong.
        """
        try:
            await check_worker_rights(self._redis, self._settings, self._keys.trial(self._worker))
        except REDIS_FAILURES as error:
            told = redis_error(self._settings, error)
            if isinstance(told, RedisRefuses):
                raise told from error

    async def listen(self) -> None:
        """Set `changed` whenever a watched key changes; reconnects for ever. Run it as a side task."""
        while True:
            try:
                await self._listen_once()
            except REDIS_FAILURES as error:
                log.debug("no push from Redis: %s", error)
            self.changed.set()  # something may have been missed
            await asyncio.sleep(RECONNECT_S * random.uniform(0.5, 1.5))  # many workers, not all at the same moment

    async def _listen_once(self) -> None:
        # Without retries: a connection that was silently replaced is tracked, or told, no more.
        client = redis_client(self._settings, retries=0)
        tracker, pubsub = client.client(), client.pubsub()
        try:
            await pubsub.connect()
            assert pubsub.connection is not None
            await pubsub.connection.send_command("CLIENT", "ID")
            listener_id = await pubsub.connection.read_response()
            await pubsub.subscribe(INVALIDATIONS)
            await tracker.initialize()
            prefixes = [word for prefix in self._keys.watched() for word in ("PREFIX", prefix)]
            await tracker.execute_command("CLIENT", "TRACKING", "ON", "REDIRECT", str(listener_id), "BCAST", *prefixes)
            self.changed.set()
            while True:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=SOCKET_TIMEOUT_S)
                if message is None:
                    await tracker.ping()  # the tracking dies with this connection
                elif _concerns_us(message.get("data")):
                    self.changed.set()
        finally:
            with suppress(*REDIS_FAILURES):
                await pubsub.aclose()
                await tracker.aclose()
                await client.aclose()

    async def close(self) -> None:
        with suppress(*REDIS_FAILURES):
            await self._redis.aclose()


def _concerns_us(keys: Any) -> bool:
    """Tables and history are written by workers themselves; None means that Redis was emptied."""
    if keys is None:
        return True
    names = [keys] if isinstance(keys, str) else keys
    return any(not str(name).endswith((":tables", ":history")) for name in names)
