"""Redis: whether it answers, lets a worker work, keeps what is written, and agrees with us about the time."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ops.doctor.finding import Broken, Finding, fail, failing, ok, skip, warn
from streamer.adapters.redis_client import REDIS_FAILURES, RedisRefuses, is_no_right, redis_error
from streamer.adapters.redis_keys import Keys
from streamer.adapters.redis_rights import check_worker_rights
from streamer.adapters.redis_store import redis_client
from streamer.core.errors import TagstreamError
from streamer.settings import Settings

OLDEST = (6, 2)
NOTABLE_SKEW_S, WRONG_SKEW_S = 1.0, 30.0
MEND_ADDRESS = "check TAGSTREAM_REDIS_URL and the server; workers go on with their last good table meanwhile"
MEND_RIGHTS = "docs/security.md has the ACL of each principal"


async def check_redis(settings: Settings) -> AsyncIterator[Finding]:
    """All of it, as it is found; ends where Redis does not answer or does not let us in."""
    client: Any = redis_client(settings)
    try:
        with failing("redis", MEND_ADDRESS, TagstreamError):
            hello = await _asked(settings, client, "HELLO")
        told = dict(zip(hello[::2], hello[1::2], strict=True)) if isinstance(hello, list) else hello
        yield _version(str(told["version"]))
        yield await _rights(settings, client)
        for check in (_clock, _keeping, _eviction):
            yield await check(settings, client)
    except Broken as broken:
        yield broken.finding
    finally:
        await client.aclose()


async def _asked(settings: Settings, client: Any, *command: str) -> Any:
    """The answer, or None where this user may not ask that."""
    try:
        return await client.execute_command(*command)
    except REDIS_FAILURES as error:
        if is_no_right(error):
            return None
        raise redis_error(settings, error) from error


def _version(text: str) -> Finding:
    if tuple(map(int, text.split(".")[:2])) < OLDEST:
        return fail("redis", f"Redis {text}: 6.2 is the oldest that works", "upgrade it")
    return ok("redis", f"Redis {text}")


async def _rights(settings: Settings, client: Any) -> Finding:
    try:
        await check_worker_rights(client, settings, Keys(settings.redis_prefix).trial(settings.worker))
    except RedisRefuses as error:
        return fail("redis rights", str(error).rstrip("."), MEND_RIGHTS)
    return ok("redis rights", "all that a worker needs")


async def _clock(settings: Settings, client: Any) -> Finding:
    before_s = time.time()
    told = await _asked(settings, client, "TIME")
    after_s = time.time()
    if told is None:
        return skip("clock", "this user may not ask Redis for the time (+time)")
    return clock_finding(int(told[0]) + int(told[1]) / 1e6 - (before_s + after_s) / 2, (after_s - before_s) / 2)


def clock_finding(skew_s: float, uncertain_s: float) -> Finding:
    """`decided_at`, latencies and the lag in seconds come from this clock; half the answer's time is uncertain."""
    what = f"Redis is {abs(skew_s):.3f} s {'ahead' if skew_s > 0 else 'behind'} (+/- {uncertain_s:.3f} s)"
    remedy = "let a time service (chrony, systemd-timesyncd) set the clocks of all machines"
    beyond_s = abs(skew_s) - uncertain_s
    if beyond_s > WRONG_SKEW_S:
        return fail("clock", what, remedy)
    return warn("clock", what, remedy) if beyond_s > NOTABLE_SKEW_S else ok("clock", what)


async def _keeping(settings: Settings, client: Any) -> Finding:
    told = await _asked(settings, client, "INFO", "persistence")
    if told is None:
        return skip("redis keeps", "this user may not ask whether Redis writes to disk (+info)")
    saved = await _config(settings, client, "save")
    if int(told.get("aof_enabled", 0)) or saved.get("save"):
        return ok("redis keeps", "thresholds and history survive its restart")
    what = "Redis writes nothing to disk: after a restart the history is gone, and workers put the last good table back"
    return warn("redis keeps", what, "CONFIG SET appendonly yes, and the same in redis.conf")


async def _eviction(settings: Settings, client: Any) -> Finding:
    policy = (await _config(settings, client, "maxmemory-policy")).get("maxmemory-policy")
    if policy is None:
        return skip("redis memory", "this user may not ask what Redis does when its memory is full (+config|get)")
    limit = int((await _config(settings, client, "maxmemory")).get("maxmemory", 0))
    if limit and policy.startswith("allkeys"):
        what = f"maxmemory-policy is {policy}: thresholds go when the memory is full"
        return warn("redis memory", what, "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf")
    return ok("redis memory", f"{policy}, {f'at most {limit / 2**20:.0f} MiB' if limit else 'no limit'}")


async def _config(settings: Settings, client: Any, name: str) -> Mapping[str, str]:
    told = await _asked(settings, client, "CONFIG", "GET", name)
    if told is None:
        return {}
    return told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
