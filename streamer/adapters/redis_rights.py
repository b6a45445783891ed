"""What a worker needs of Redis, tried before it begins: each command once, on a key of nobody, harmlessly.

Redis tells a client nothing of its own rights (`ACL DRYRUN` needs more rights than a worker has), and most of these
commands come only with the first change of a table or a model: too late to find out.
"""

from typing import Any

from redis.exceptions import NoPermissionError

from streamer.adapters.redis_client import INVALIDATIONS, is_no_right, missing_right, right_refused
from streamer.settings import Settings

ANSWER_S = 2.0

# Every command of `redis_store.py`, its scripts included, and of `redis_runs.py`, with arguments that change nothing;
# KEY does not exist.
KEY = object()
TRIALS: dict[str, tuple[object, ...]] = {
    "ping": (),
    "get": (KEY,),
    "set": (KEY, "", "XX"),
    "eval": ("return 1", 0),
    "hget": (KEY, "f"),
    "hgetall": (KEY,),
    "hexists": (KEY, "f"),
    "hlen": (KEY,),
    "hset": (KEY, "f", ""),
    "hsetnx": (KEY, "f", ""),
    "xadd": (KEY, "NOMKSTREAM", "*", "f", ""),
    "xrevrange": (KEY, "+", "-"),
    "xdel": (KEY, "0-0"),
    "client|id": (),
    "client|tracking": ("OFF",),
    "expire": (KEY, 1),
    "del": (KEY,),
    "multi": (),
    "exec": (),
}
WORKER_COMMANDS = (*TRIALS, "subscribe")


async def check_worker_rights(client: Any, settings: Settings, key: str) -> None:
    """Try everything on `key`, which is gone afterwards.

    Raises:
        RedisRefuses: naming every right that is missing.
        RedisError: Redis does not answer, or refuses the login.
    """
    trial = client.pipeline(transaction=False)
    for command, arguments in TRIALS.items():
        trial.execute_command(*command.split("|"), *(key if one is KEY else one for one in arguments))
    answers = await trial.execute(raise_on_error=False)
    refused = {
        missing_right(settings, answer, command)
        for command, answer in zip(TRIALS, answers, strict=True)
        if is_no_right(answer)
    }
    pubsub = client.pubsub()
    try:
        await pubsub.subscribe(INVALIDATIONS)
        await pubsub.get_message(timeout=ANSWER_S)
    except NoPermissionError as error:
        refused.add(missing_right(settings, error, "subscribe"))
    finally:
        await pubsub.aclose()
    if refused:
        raise right_refused(settings, sorted(refused))
