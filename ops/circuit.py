"""Lets workers go on that a surge of dead letters has paused: a word in Redis that each of them looks for."""

import getpass
import time
import uuid
from dataclasses import dataclass

from ops.thresholds_admin import client, telling_redis_errors
from streamer.adapters.redis_keys import Keys
from streamer.settings import Settings

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a paused worker: `resumed`, and why it is paused now (again), empty where it is not."""

    resumed: bool
    paused: str


def resume_workers(settings: Settings, timeout_s: float, who: str | None = None) -> dict[str, Outcome]:
    """Tell all paused workers to go on, and wait until they have; by worker.

    Raises:
        OpsError: Redis does not answer.
    """
    redis, keys = client(settings), Keys(settings.redis_prefix)

    def pauses() -> dict[str, tuple[str, str]]:
        """Of each worker that lives: why it is paused, and how often it has been."""
        names = [key.removeprefix(keys.worker("")) for key in redis.scan_iter(match=keys.workers, count=1000)]
        return {name: tuple(redis.hmget(keys.worker(name), "paused", "pauses")) for name in sorted(names)}

    with telling_redis_errors(settings):
        before = {name: times for name, (why, times) in pauses().items() if why}
        if not before:
            return {}
        redis.set(keys.resume, f"{who or getpass.getuser()} {uuid.uuid4().hex}")
        deadline = time.monotonic() + timeout_s
        while True:
            now = pauses()
            outcomes = {name: _outcome(times, *now.get(name, ("", ""))) for name, times in before.items()}
            if all(one.resumed for one in outcomes.values()) or time.monotonic() >= deadline:
                return outcomes
            time.sleep(POLL_S)


def _outcome(times_before: str, why: str, times: str) -> Outcome:
    return Outcome(resumed=not why or times != times_before, paused=why)
