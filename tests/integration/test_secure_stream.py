"""The whole stream under least rights, over both ways into Kafka and over Redis with TLS; and workers that may not.

The broker has no port without TLS, so a worker that decides has spoken it: Faust would go in plaintext without a word
where its credentials are put together wrongly.
"""

import json
import time
from collections.abc import Iterator, Mapping

import pytest

from ops.local.worker import WorkerProcess
from ops.rights import kafka_rights
from streamer.adapters.kafka_rights import Operation, Right
from streamer.settings import Settings
from tests.fixtures_secure import Command, Secure
from tests.harness import Artefacts, Load, Stream, eventually
from tests.secure_redis import Front
from tests.secure_services import HOST

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

SAID_WITHIN_S = 60.0
AFTER = 60  # events that find a right gone
WATCHED_S = 5.0  # how long a worker that waits is counted
MOST_ATTEMPTS_PER_S = 3.0


@pytest.fixture(scope="module")
def stream(secure: Secure, artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    """Topics and a champion, made by the admin; the evidence is read by the admin too."""
    own = secure.broker.scram("admin")
    bootstrap = str(own.pop("kafka_bootstrap"))
    made = Stream(bootstrap, secure.redis.harness_url(), tmp_path_factory.mktemp("secure"), artefacts, **own)
    print(f"TLS of Redis: {secure.redis.how}")
    yield made
    made.close()


def as_principal(stream: Stream, login: Mapping[str, object]) -> dict[str, object]:
    """This stream's settings with somebody's login, and nothing of the admin's."""
    kept = {name: value for name, value in stream.worker_settings.items() if not name.startswith(("kafka_", "redis_u"))}
    return kept | dict(login)


def worker(stream: Stream, name: str, login: Mapping[str, object], *arguments: str) -> WorkerProcess:
    made = WorkerProcess(
        name, as_principal(stream, login), folder=stream.folder / f"worker-{name}", arguments=arguments
    )
    stream.workers[name] = made
    made.start()
    return made


def test_events_in_decisions_out_thresholds_swapped(secure: Secure, stream: Stream, command: Command, monkeypatch):
    """One worker logs in by password, the other by certificate; events come from a producer with one right."""
    rights = kafka_rights(stream.settings)
    for principal in ("worker", "producer"):
        secure.acls.give(principal, *(needed.right for needed in rights[principal]))
    for principal in ("worker", "ops"):
        secure.redis.let_in(principal, stream.settings.redis_prefix)
    worker(stream, "scram", secure.scram("worker"))
    worker(stream, "mtls", secure.mtls("worker"))
    owned = stream.wait_assigned("scram", "mtls", timeout_s=2 * SAID_WITHIN_S)
    admin, stream.settings = stream.settings, Settings(**as_principal(stream, secure.scram("producer")))
    try:
        load = stream.load(rate=300)
        load.wait(300)
        _swap(stream, secure, command, load)
        load.stop()
    finally:
        stream.settings = admin
    report = stream.verify()
    both = {decision.partition for decision in report.decisions}
    assert both == {partition for mine in owned.values() for partition in mine}
    assert report.dead, "a dead letter was written under these rights"
    assert len({decision.thresholds for decision in report.decisions}) == 2, "decided before and after the swap"
    stream.workers["scram"].terminate()
    assert stream.workers["scram"].exit_code == 0 and "Traceback" not in stream.workers["scram"].log()
    _ends_without(secure, stream, Right(Operation.WRITE, "topic", stream.settings.topic_tags), stream.workers["mtls"])
    again = worker(stream, "again", secure.scram("worker"))
    assert stream.verify().inputs == report.inputs + AFTER, "what a right that was taken away held up is decided"
    _ends_without(secure, stream, Right(Operation.READ, "topic", stream.settings.topic_probabilities), again)


def _ends_without(secure: Secure, stream: Stream, right: Right, one: WorkerProcess) -> None:
    """A right that is taken away while it works ends a worker by name, with nothing committed that was not done."""
    secure.acls.take("worker", right)
    stream.load(AFTER).finish()
    assert one.wait_exit(SAID_WITHIN_S) == 1, f"exit code {one.exit_code}: {one.log()[-2000:]}"
    assert f"give it {right} (docs" in one.log() and "Traceback" not in one.log(), one.log()[-3000:]
    assert stream.lag() > 0
    secure.acls.give("worker", right)


def _swap(stream: Stream, secure: Secure, command: Command, load: Load) -> None:
    """`thresholds set` as ops waits until both workers obey, and says so."""
    ops = as_principal(stream, secure.scram("ops"))
    ended = command(ops, "thresholds", "set", f"{stream.layout.tags[0]}=0.123", "--timeout", "30", "--json")
    assert ended.code == 0, ended
    assert set(json.loads(ended.out)["obeyed_ms"]) == {"scram", "mtls"}, ended.out
    load.wait(load.acked + 300)


def test_a_worker_that_is_wrong_ends_and_one_that_cannot_tell_waits(secure: Secure, stream: Stream):
    """Started side by side: a right that is missing, either password wrong; and a port that hangs up."""
    prefix, deadletter = stream.settings.redis_prefix, stream.settings.topic_deadletter
    lacking = Right(Operation.WRITE, "topic", deadletter)
    all_rights = [needed.right for needed in kafka_rights(stream.settings)["worker"]]
    secure.acls.give("worker", *all_rights)
    secure.acls.give("nobody", *all_rights)
    secure.acls.take("nobody", lacking)
    secure.redis.let_in("worker", prefix)
    kafka, plain = Front(secure.broker.port), Front(secure.broker.port)
    through = {"kafka_bootstrap": f"{HOST}:{kafka.port}"}
    said = {
        "no-right": (secure.redis.settings("worker") | secure.broker.scram("nobody"), f"give it {lacking} (docs"),
        "password": (secure.scram("worker") | through | {"kafka_sasl_password": "guess"}, "TAGSTREAM_KAFKA_SASL_PASS"),
        "redis-password": (
            secure.scram("worker") | {"redis_url": str(secure.scram("worker")["redis_url"]).replace("secret", "guess")},
            "login of 'worker' (TAGSTREAM_REDIS_URL)",
        ),
    }
    try:
        ending = {name: worker(stream, name, login) for name, (login, _) in said.items()}
        away = {"kafka_bootstrap": f"{HOST}:{plain.port}", "kafka_security_protocol": "PLAINTEXT"}
        waits = worker(stream, "plaintext", secure.redis.settings("worker") | away)
        for name, one in ending.items():
            assert one.wait_exit(SAID_WITHIN_S) == 1, f"{name}: exit code {one.exit_code}: {one.log()[-2000:]}"
            assert said[name][1] in one.log() and "Traceback" not in one.log(), one.log()[-3000:]
            assert "guess" not in one.log(), f"{name} tells a password"
        assert kafka.came <= 2, f"a wrong password was tried {kafka.came} times"
        _waits_without_hammering(waits, plain)
    finally:
        kafka.close()
        plain.close()


def _waits_without_hammering(waits: WorkerProcess, front: Front) -> None:
    said = "waiting: no Kafka broker answers"
    eventually(lambda: said in waits.log(), SAID_WITHIN_S, said, lambda: waits.log()[-2000:])
    assert "is that port for PLAINTEXT (TAGSTREAM_KAFKA_SECURITY_PROTOCOL)" in waits.log()
    before, began = front.came, time.monotonic()
    eventually(lambda: time.monotonic() - began >= WATCHED_S, WATCHED_S + 5, "it is watched")
    attempts_per_s = (front.came - before) / (time.monotonic() - began)
    print(f"a worker that waits asks {attempts_per_s:.1f} times a second")
    assert waits.is_running() and attempts_per_s <= MOST_ATTEMPTS_PER_S, f"{attempts_per_s:.1f} attempts a second"
    waits.terminate()
    assert waits.exit_code == 0, f"exit code {waits.exit_code}: {waits.log()[-2000:]}"
