"""The least rights of each principal: the one list that docs/security.md shows and the tests take apart.

`worker` is `tagstream worker`; `producer` whoever writes events; `ops` a person with the command line; the trainer
needs neither Kafka nor Redis, only its folders. Kafka's Read and Write imply Describe; an idempotent producer needs
nothing beyond Write (Kafka 3.0 on).
"""

from dataclasses import dataclass

from streamer.adapters.kafka_rights import Operation, Right, worker_rights
from streamer.adapters.kafka_topic_contract import plan_topics
from streamer.adapters.redis_client import INVALIDATIONS
from streamer.adapters.redis_rights import WORKER_COMMANDS
from streamer.settings import Settings

REPLAY_GROUP = "{group}-deadletter-replay"
# What thresholds, promote, resume and redecide send; redis-py's own HELLO and CLIENT SETINFO need no right or are
# not missed.
OPS_COMMANDS = (
    "get", "set", "hgetall", "hmget", "hset", "hsetnx", "xadd", "xrange", "xrevrange", "scan", "watch", "unwatch",
    "multi", "exec",
)  # fmt: skip
REDIS_COMMANDS = {"worker": WORKER_COMMANDS, "ops": OPS_COMMANDS}


@dataclass(frozen=True, slots=True)
class Needed:
    """A right on Kafka, and what does not work without it."""

    right: Right
    by: str


def kafka_rights(settings: Settings) -> dict[str, list[Needed]]:
    """By principal; the trainer's list is empty."""
    source = settings.topic_probabilities
    reads = {settings.topic_deadletter: "tail, deadletter", settings.topic_scores: "tail, redecide"}
    every = [plan.name for plan in plan_topics(settings, 1)]
    replays = Right(Operation.READ, "group", REPLAY_GROUP.format(group=settings.group))
    return {
        "worker": [Needed(right, "worker") for right in worker_rights(settings)],
        "producer": [Needed(Right(Operation.WRITE, "topic", source), "produce")],
        "trainer": [],
        "ops": [
            *(Needed(Right(Operation.CREATE, "topic", name), "topics create") for name in every),
            *(
                Needed(Right(Operation.DESCRIBE_CONFIGS, "topic", name), "topics create, topics check")
                for name in every
            ),
            *(Needed(Right(Operation.READ, "topic", name), reads.get(name, "tail")) for name in every),
            Needed(Right(Operation.WRITE, "topic", source), "deadletter replay"),
            Needed(replays, "deadletter replay"),
        ],
    }


def redis_rules(principal: str, prefix: str) -> list[str]:
    """The rules of the principal's Redis user, without its password."""
    channels = [f"&{INVALIDATIONS}"] if principal == "worker" else []
    commands = [f"+{command}" for command in REDIS_COMMANDS[principal]]
    return ["resetkeys", f"~{prefix}*", "resetchannels", *channels, "-@all", *commands]
