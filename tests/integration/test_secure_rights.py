"""Each principal with exactly its rights of `ops.rights`, and with any one of them taken: the sentence names it.

The same list is the table of docs/security.md. A right is taken from a principal, tried, and given back.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.rights import Needed, kafka_rights, redis_rules
from streamer.adapters.kafka_rights import Operation, worker_rights
from streamer.adapters.kafka_topics import inspect_topics
from streamer.adapters.kafka_words import KafkaRefuses
from streamer.adapters.redis_client import RedisRefuses
from streamer.adapters.redis_store import RedisStore
from streamer.settings import Settings, load_settings
from tests.fixtures_secure import Command, Ended, Secure
from tests.harness import Artefacts, Stream

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

PRINCIPALS = ("worker", "producer", "ops")
DEFAULTS = kafka_rights(Settings())


def rows(principal: str) -> list:
    """One test per right, named as the table names it."""
    return [pytest.param(at, id=str(needed.right)) for at, needed in enumerate(DEFAULTS[principal])]


class Desk:
    """One stream's topics and models, and settings of any principal for it."""

    def __init__(self, secure: Secure, artefacts: Artefacts, folder: Path) -> None:
        own = secure.broker.scram("admin")
        bootstrap = str(own.pop("kafka_bootstrap"))
        self.secure, self.folder = secure, folder
        self.stream = Stream(bootstrap, secure.redis.harness_url(), folder, artefacts, **own)
        self.stream.install(artefacts.foreign)
        self.rights = kafka_rights(self.stream.settings)
        self.event = folder / "event.jsonl"
        self.event.write_text('{"track_id": "T-1"}\n')
        for principal in PRINCIPALS:
            secure.acls.give(principal, *(needed.right for needed in self.rights[principal]))
        for principal in ("worker", "ops"):
            secure.redis.let_in(principal, self.stream.settings.redis_prefix)

    def settings(self, principal: str, how: str = "mtls") -> dict[str, object]:
        """This stream's settings, as that principal."""
        names = ("redis_prefix", "group", "models_dir", "state_dir")
        names += tuple(f"topic_{name}" for name in ("probabilities", "tags", "scores", "deadletter"))
        return {name: self.stream.worker_settings[name] for name in names} | getattr(self.secure, how)(principal)


@pytest.fixture(scope="module")
def desk(secure: Secure, artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(secure, artefacts, tmp_path_factory.mktemp("desk"))
    yield made
    made.stream.close()


@pytest.fixture
def without(desk: Desk) -> Iterator:
    """Takes a right for the length of one test."""
    taken: list = []

    def take(principal: str, needed: Needed) -> str:
        desk.secure.acls.take(principal, needed.right)
        taken.append((principal, needed.right))
        return str(needed.right)

    yield take
    for principal, right in taken:
        desk.secure.acls.give(principal, right)


def test_with_these_rights_everything_works(desk: Desk, command: Command):
    """And nothing but these: no principal is a super user, and there is no rule for everybody."""
    ops, producer = desk.settings("ops"), desk.settings("producer", "scram")
    asyncio.run(inspect_topics(load_settings(**desk.settings("worker", "scram")), worker_rights(desk.stream.settings)))
    asyncio.run(RedisStore(load_settings(**desk.settings("worker"))).check_rights())
    ended = command(producer, "produce", "--file", desk.event)
    assert ended.code == 0 and "1 events" in ended.out, ended
    lines = ["topics create", "topics check", "tail --topic probabilities --no-follow", "deadletter list"]
    for line in [*lines, "deadletter replay --yes", "models promote champion --no-wait", "thresholds show"]:
        ended = command(ops, *line.split())
        assert ended.code == 0 and "not allow" not in ended.err, (line, ended)


def test_the_doctor_sees_what_a_worker_may(desk: Desk, without, command: Command):
    settings = desk.settings("worker", "scram")
    well = json.loads(command(settings, "doctor", "--json").out)
    assert well["ok"], well
    right = without("worker", desk.rights["worker"][0])
    ill = json.loads(command(settings, "doctor", "--json").out)
    (told,) = [finding for finding in ill["findings"] if finding["state"] == "fail"]
    assert told["check"] == "kafka rights" and right in told["what"] and "docs/security.md" in told["remedy"]


@pytest.mark.parametrize("at", rows("worker"))
def test_a_worker_without_one_right_does_not_begin(desk: Desk, without, at: int):
    right = without("worker", desk.rights["worker"][at])
    settings = load_settings(**desk.settings("worker", "scram"))
    with pytest.raises(KafkaRefuses) as told:
        asyncio.run(inspect_topics(settings, worker_rights(settings)))
    assert f"User:worker to {_verb(right)}" in str(told.value) and f"give it {right} (docs" in str(told.value)


def _verb(right: str) -> str:
    return "read the settings of" if right.startswith("DescribeConfigs") else right.split(maxsplit=1)[0].lower()


@pytest.mark.parametrize("at", rows("producer"))
def test_a_producer_without_its_right(desk: Desk, without, command: Command, at: int):
    right = without("producer", desk.rights["producer"][at])
    _names(command(desk.settings("producer", "scram"), "produce", "--file", desk.event), "User:producer", right)


@pytest.mark.parametrize("at", rows("ops"))
def test_ops_without_one_right(desk: Desk, without, command: Command, at: int):
    needed = desk.rights["ops"][at]
    settings = desk.settings("ops")
    if needed.right.operation is Operation.CREATE:  # of topics that are not there yet
        settings, needed = _topics_to_create(desk, settings, at)
    right = without("ops", needed)
    _names(command(settings, *_line_that_needs(needed, settings).split()), "ops.pem", right)


def _topics_to_create(desk: Desk, settings: dict[str, object], at: int) -> tuple[dict[str, object], Needed]:
    fresh = {name: f"new-{at}.{topic}" for name, topic in settings.items() if name.startswith("topic_")}
    mine = kafka_rights(load_settings(**settings | fresh))["ops"]
    topics = [needed.right for needed in mine if needed.right.resource == "topic"]
    desk.secure.acls.give("ops", *topics)
    return settings | fresh, mine[at]


def _line_that_needs(needed: Needed, settings: dict[str, object]) -> str:
    right = needed.right
    if right.operation is Operation.CREATE:
        return "topics create --partitions 1"
    if right.operation is Operation.DESCRIBE_CONFIGS:
        return "topics check"
    if right.resource == "group" or right.operation is Operation.WRITE:
        return "deadletter replay --yes"
    return f"tail --no-follow --topic {right.name}" if right.name != settings["topic_deadletter"] else "deadletter list"


def _names(ended: Ended, who: str, right: str) -> None:
    """One sentence, a non-zero exit, and nothing on stdout."""
    assert ended.code == 1 and ended.out == "", ended
    assert len(ended.err.strip().splitlines()) == 1 and "Traceback" not in ended.err, ended
    assert who in ended.err and f"give it {right} (docs/security.md)" in ended.err, (right, ended.err)


@pytest.mark.parametrize("rule", [rule for rule in redis_rules("worker", "P:") if rule[0] in "+~&"])
def test_a_worker_without_one_right_on_redis_does_not_begin(desk: Desk, rule: str):
    prefix = desk.stream.settings.redis_prefix
    rule = rule.replace("P:", prefix)
    desk.secure.redis.let_in("worker", prefix, without=rule)
    try:
        with pytest.raises(RedisRefuses) as told:
            asyncio.run(RedisStore(load_settings(**desk.settings("worker"))).check_rights())
    finally:
        desk.secure.redis.let_in("worker", prefix)
    assert f"'worker' all that it needs: give it {rule} (docs" in str(told.value)


LINES = (
    "thresholds show",
    "thresholds set genres-t0=0.5 --no-wait",
    "thresholds set genres-t0=0.6 --no-wait",  # one of the two is a change, and writes
    "thresholds history",
    "redecide --follow",  # refused where all is allowed: none is going on
    "models promote champion --no-wait",
    "deadletter resume --timeout 0",
    "models promote {foreign} --no-wait",  # refused: another vocabulary
)


@pytest.mark.parametrize("rule", [rule for rule in redis_rules("ops", "P:") if rule[0] in "+~"])
def test_ops_without_one_right_on_redis(desk: Desk, command: Command, rule: str):
    prefix = desk.stream.settings.redis_prefix
    rule = rule.replace("P:", prefix)
    desk.stream.redis.hset(desk.stream.keys.worker("w"), mapping={"paused": "a surge", "thresholds": "t"})
    desk.secure.redis.let_in("ops", prefix, without=rule)
    try:
        ended = _until_named(desk, command, rule)
    finally:
        desk.secure.redis.let_in("ops", prefix)
        desk.stream.redis.delete(desk.stream.keys.worker("w"))
    last = ended[-1]
    assert f"give it {rule} (docs/security.md)" in last.err, (rule, ended)
    assert last.code == 1 and last.out == "" and "Traceback" not in last.err, last


def _until_named(desk: Desk, command: Command, rule: str) -> list[Ended]:
    ended = []
    for line in LINES:
        ended.append(command(desk.settings("ops"), *line.format(foreign=desk.stream.artefacts.foreign).split()))
        if rule in ended[-1].err:
            break
    return ended
