"""Re-decide runs in Redis: the stream `tagstream:redecide` (contract section 4), as the workers see it."""

from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from streamer.adapters.redis_client import REDIS_FAILURES, redis_error
from streamer.adapters.redis_keys import Keys
from streamer.adapters.redis_store import redis_client
from streamer.core.redecide_runs import ENTRIES_MAX, Progress, Run, newest_run
from streamer.serving import StoreUnavailable
from streamer.settings import Settings

PAGE = 200  # entries


class RedisRuns:
    """`streamer.redecide_walk.RunStore`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.redis_prefix)
        self._redis = redis_client(settings)
        self._over: tuple[str, Run | None] = ("", None)  # the stream's last entry, and the run that was over with it

    async def newest(self) -> Run | None:
        """The run that was asked for last."""
        last = await self._ask(self._redis.xrevrange(self._keys.redecide, "+", "-", count=1))
        if not last:
            return None
        if last[0][0] == self._over[0]:
            return self._over[1]
        run = newest_run(reversed(await self._since_the_request()))
        self._over = (last[0][0], run) if run is None or run.is_over else ("", None)
        return run

    async def _since_the_request(self) -> list[tuple[str, dict[str, str]]]:
        """The stream's entries, newest first, down to the last request."""
        found: list[tuple[str, dict[str, str]]] = []
        upper = "+"
        while True:
            page = await self._ask(self._redis.xrevrange(self._keys.redecide, upper, "-", count=PAGE))
            for entry, fields in page:
                found.append((entry, fields))
                if fields.get("kind") == "request":
                    return found
            if len(page) < PAGE:
                return found
            upper = f"({page[-1][0]}"

    async def report(self, run: Run, progress: Progress) -> None:
        """The new entry of a partition instead of the one before, so that the stream does not grow."""
        transaction = self._redis.pipeline(transaction=True)
        fields: Any = progress.fields(run.name)
        transaction.xadd(self._keys.redecide, fields, maxlen=ENTRIES_MAX, approximate=True)
        if progress.entry:
            transaction.xdel(self._keys.redecide, progress.entry)
        progress.entry = (await self._ask(transaction.execute()))[0]

    async def table(self, model: str, version: str) -> str | None:
        return await self._ask(self._redis.hget(self._keys.tables(model), version))

    async def close(self) -> None:
        with suppress(*REDIS_FAILURES):
            await self._redis.aclose()

    async def _ask(self, answer: Awaitable[Any] | Any) -> Any:
        try:
            return await answer
        except REDIS_FAILURES as error:
            raise StoreUnavailable(str(redis_error(self._settings, error)).rstrip(".")) from error
