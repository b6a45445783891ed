"""deadletter list, show and replay on letters written by hand: a real broker, real processes, no worker."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord
from typer.testing import CliRunner

from ops.cli.main import app
from ops.deadletter_memory import Commits, committed_at_once, committed_now, memory
from ops.errors import OpsError
from ops.kafka_io import read_topic
from streamer.adapters.kafka_client import client_options, running
from streamer.adapters.kafka_topics import create_topics
from streamer.core.errors import TagstreamError
from streamer.settings import Settings, load_settings
from tests.harness import eventually

pytestmark = pytest.mark.kafka

TAGSTREAM = str(Path(sys.executable).with_name("tagstream"))
PARTITIONS = 3
MIB = 1024 * 1024
Letter = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


@pytest.fixture
def settings(kafka_bootstrap) -> Settings:
    """Topics of this test alone on the session's broker."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    made = load_settings(
        kafka_bootstrap=kafka_bootstrap,
        group=name,
        topic_probabilities=f"{name}.probabilities",
        topic_tags=f"{name}.tags",
        topic_scores=f"{name}.scores",
        topic_deadletter=f"{name}.deadletter",
    )
    asyncio.run(create_topics(made, partitions=PARTITIONS, replication=1))
    return made


def environment(settings: Settings) -> dict[str, str]:
    names = "kafka_bootstrap", "group", "topic_probabilities", "topic_tags", "topic_scores", "topic_deadletter"
    return os.environ | {f"TAGSTREAM_{name.upper()}": str(getattr(settings, name)) for name in names}


class Ended(NamedTuple):
    """What a command said, and how it ended."""

    code: int
    stdout: bytes
    stderr: bytes


def run_process(settings: Settings, *arguments: str) -> Ended:
    """`tagstream deadletter ARGUMENTS` as a process without a terminal."""
    ended = subprocess.run(
        [TAGSTREAM, "deadletter", *arguments], env=environment(settings), stdin=subprocess.DEVNULL,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert b"Traceback" not in ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_on_terminal(settings: Settings, answer: bytes) -> Ended:
    """`replay` where a person answers its question."""
    person, terminal = os.openpty()
    os.write(person, answer)
    ended = subprocess.run(
        [TAGSTREAM, "deadletter", "replay"], env=environment(settings), stdin=terminal, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    os.close(person)
    os.close(terminal)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run(settings: Settings, *arguments: str) -> Ended:
    """The same within this process: a second less for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamer.adapters.kafka_client.quiet_client_logs", lambda: None)  # the session's log stays
        result = CliRunner().invoke(app, ["deadletter", *arguments], env=environment(settings))
    error = result.exception
    if isinstance(error, OpsError | TagstreamError):  # as `main` tells it
        return Ended(1, result.stdout_bytes, f"tagstream: {error}\n".encode())
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return Ended(result.exit_code, result.stdout_bytes, result.stderr_bytes)


def listed(settings: Settings, *filters: str) -> dict:
    return json.loads(run(settings, "list", "--json", *filters).stdout)


def replay(settings: Settings, *arguments: str) -> dict:
    ended = run(settings, "replay", "--yes", "--json", *arguments)
    assert ended.code == 0, ended
    return json.loads(ended.stdout)


def letter(
    settings: Settings, offset: int, code: str = "not-json", *, partition: int = 0, attempt: int = 1, field: str = "",
    key: bytes | None = b"T-1", value: bytes | None = b"bad", worker: str = "w", original: tuple = (), more: tuple = (),
    source: str | None = None,
) -> Letter:  # fmt: skip
    """A dead letter as a worker writes it, of the event at `offset`."""
    source = source or f"{settings.topic_probabilities}/{partition}/{offset}/0"
    added = {
        "error.code": code, "error.message": "no", "error.field": field, "source": source, "worker": worker,
        "failed_at": "2026-11-22T09:45:00.123Z", "attempt": str(attempt),
    }  # fmt: skip
    return key, value, [*original, *((name, text.encode()) for name, text in added.items()), *more]


def write(settings: Settings, letters: list[Letter], age_s: float = 0, partition: int | None = None) -> None:
    """Put letters into the dead-letter topic, in this order where a partition is named."""

    async def produce() -> None:
        producer = AIOKafkaProducer(
            **client_options(settings), max_request_size=64 * MIB, max_batch_size=16 * MIB, compression_type="gzip"
        )
        at_ms = int((time.time() - age_s) * 1000)
        async with running(producer, settings):
            for number, (key, value, headers) in enumerate(letters):
                target = number % PARTITIONS if partition is None else partition
                batch = producer.create_batch()
                batch.append(timestamp=at_ms + number, key=key, value=value, headers=headers)
                batch.close()
                await producer.send_batch(batch, settings.topic_deadletter, partition=target)
            await producer.flush()

    asyncio.run(produce())


def records(settings: Settings, topic: str) -> list[ConsumerRecord]:
    async def read() -> list[ConsumerRecord]:
        async with aclosing(read_topic(settings, topic, from_start=True, follow=False)) as found:
            return [record async for record in found]

    return asyncio.run(read())


def replayed(settings: Settings) -> list[ConsumerRecord]:
    return records(settings, settings.topic_probabilities)


def test_a_replayed_event_is_the_one_that_came_and_is_sent_once(settings):
    own = (("content-type", b"application/json"), ("source", b"upstream's own"), ("trace", b"\xff\x00"))
    write(
        settings,
        [
            letter(settings, 7, partition=2, attempt=2, key=b"T-1", value=b"one\x00\xff", original=own),
            letter(settings, 8, key=None, value=b"without a key"),
            letter(settings, 9, partition=1, key=b"", value=None),
            letter(settings, 10, partition=1, key=None, value=None),
            letter(settings, 11, key=b"zeros", value=bytes(11 * MIB)),  # larger than the topic takes, unless compressed
            letter(settings, 12, attempt=3),
            letter(settings, 13, value=b"", more=(("value.omitted", b"99999999"),)),
            letter(settings, 14, source="another.topic/0/3/0"),
            letter(settings, 15, source=f"{settings.topic_probabilities}/99/3/0"),
            letter(settings, 16, source="nonsense/x"),
            (b"foreign", b"not of a worker", [("h", b"v")]),
            letter(settings, 7, partition=2, attempt=2, key=b"T-1", value=b"one\x00\xff", original=own),  # redelivered
        ],
    )
    skipped = {"max-attempts": 1, "value-omitted": 1, "other-topic": 2, "no-source": 2, "same-source": 1}
    plan = json.loads(run_process(settings, "replay", "--dry-run", "--json").stdout)
    assert (plan["chosen"], plan["sent"], plan["skipped"]) == (5, 0, skipped) and replayed(settings) == []
    unasked = run(settings, "replay")
    assert unasked.code == 1 and b"--yes" in unasked.stderr and replayed(settings) == []
    done = replay(settings)
    assert (done["sent"], done["skipped"], done["too_large"], done["unread"]) == (5, skipped, 0, 0)
    found = {(record.partition, record.key, record.value): list(record.headers) for record in replayed(settings)}
    assert found == {
        (2, b"T-1", b"one\x00\xff"): [*own, ("attempt", b"2")],
        (0, None, b"without a key"): [("attempt", b"1")],
        (1, b"", None): [("attempt", b"1")],
        (1, None, None): [("attempt", b"1")],
        (0, b"zeros", bytes(11 * MIB)): [("attempt", b"1")],
    }
    once_more = replay(settings)
    assert once_more["sent"] == once_more["chosen"] == 0 and once_more["skipped"]["replayed-before"] == 5
    write(settings, [letter(settings, 20, key=b"noise", value=random.Random(7).randbytes(9 * MIB + 1))])
    refused = run(settings, "replay", "--yes", "--json")
    assert refused.code == 1 and json.loads(refused.stdout)["too_large"] == 1 and b"max.message.bytes" in refused.stderr
    assert len(replayed(settings)) == 5
    again = replay(settings, "--again", "--limit", "2")
    assert again["sent"] == 2 and len(replayed(settings)) == 7


def test_filters_choose_and_what_they_leave_is_still_to_be_replayed(settings):
    codes = ["not-json", "wrong-length", "unknown-name"]
    letters = [
        letter(settings, n, codes[n % 3], partition=n % 2, field=["", "genres.tags[17]", "genres.tags.[/jazz]"][n % 3],
               key=b"T-%d" % (n % 5), worker=f"w{n % 4}", attempt=1 + n % 2)
        for n in range(60)
    ]  # fmt: skip
    write(settings, [letter(settings, 99)], age_s=20 * 86_400)
    write(settings, letters[:30], age_s=3 * 3600)
    write(settings, letters[30:])

    def count(*filters: str) -> int:
        return listed(settings, *filters)["total"]

    assert count() == 61
    assert count("--code", "not-json", "--code", "wrong-length", "--since", "1d") == 40
    assert count("--field", "genres.tags") == 40 and count("--since", "2h", "--source-partition", "1") == 15
    assert count("--until", "2h", "--since", "1d", "--track", "T-3", "--worker", "w3", "--attempt-max", "2") == 2
    everything = listed(settings, "--limit", "1")
    group = everything["codes"]["wrong-length"]
    assert group["count"] == 20 and len(group["examples"]) == 1 and group["fields"] == {"genres.tags": 20}
    assert group["last_ms"] - group["first_ms"] > 2 * 3600 * 1000 and everything["fields"]["genres.tags.[/jazz]"] == 20
    text = run_process(settings, "list", "--limit", "1", "--since", "1d").stdout.decode()
    assert "60 dead letters" in text and "first seen" in text and "genres.tags.[/jazz]" in text

    assert replay(settings, "--code", "wrong-length", "--limit", "15")["sent"] == 15
    rest = replay(settings, "--attempt-max", "1")
    assert rest["sent"] == Counter(n % 2 for n in range(60))[0] - Counter(n % 2 for n in range(1, 45, 3))[0]
    whole = replay(settings)
    assert whole["skipped"] == {"replayed-before": 15 + rest["sent"]} and whole["older"] == 1
    assert whole["sent"] == 60 - 15 - rest["sent"]
    sources = Counter(record.value for record in replayed(settings))
    assert sum(sources.values()) == 60
    assert replay(settings, "--since", "30d")["sent"] == 1


def test_one_letter_in_full(settings, tmp_path):
    event = {"track_id": "T-1", "vocabulary": "0" * 12, "genres": {"tags": [0.5] * 110}, "note": "\x1b[2J"}
    write(
        settings,
        [
            letter(settings, 3, "wrong-length", field="genres.tags", value=json.dumps(event).encode()),
            letter(settings, 4, value=bytes(range(256)) * 4, original=(("\x1b[31m", b"\x9b2J"),)),
            letter(settings, 5, value=b"", more=(("value.omitted", b"30000000"),)),
            letter(settings, 6, value=None),
        ],
        partition=1,
    )
    topic = settings.topic_deadletter
    first = run_process(settings, "show", f"{topic}/1/0").stdout.decode()
    assert "wrong-length at genres.tags" in first and "110 in all" in first and "\x1b" not in first
    source = run(settings, "show", "--source", f"{settings.topic_probabilities}/0/4/0").stdout.decode()
    assert "00000000  00 01 02" in source and "768 more bytes" in source and "\x1b" not in source
    omitted = run(settings, "show", "1/2").stdout.decode()
    assert "30000000 bytes" in omitted and f"{settings.topic_probabilities}/0/5/0" in omitted
    seen = json.loads(run(settings, "show", "1/0", "--json").stdout)
    assert seen["json"]["genres"]["tags"] == [0.5] * 110 and seen["attempt"] == 1 and seen["worker"] == "w"
    out = tmp_path / "value"
    run(settings, "show", "1/1", "--raw", "--out", str(out))
    assert out.read_bytes() == bytes(range(256)) * 4 == run_process(settings, "show", "1/1", "--raw").stdout
    for arguments, says in [
        (("show", "1/1", "--out", str(out)), "exists already"),
        (("show", "1/99"), "no offset 99; it has 0 to 3"),
        (("show", "9/0"), "no partition 9"),
        (("show", "other/1/0"), "not in other"),
        (("show", "1/3", "--raw"), "is null"),
        (("show", "--source", "x"), "no source"),
        (("list", "--code", "nope"), "no error code"),
        (("list", "--since", "yesterday"), "no time"),
        (("replay", "--since", "1h", "--until", "2h", "--yes"), "not before"),
    ]:
        ended = run(settings, *arguments)
        assert ended.code == 1 and says in ended.stderr.decode() and ended.stderr.count(b"\n") == 1, ended


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen]]:
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start_replay(settings: Settings, processes: list[subprocess.Popen], *arguments: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [TAGSTREAM, "deadletter", "replay", "--yes", "--json", *arguments], env=environment(settings),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    processes.append(process)
    return process


def test_a_replay_that_is_ended_goes_on_where_it_stopped(settings, processes):
    count = 400
    write(settings, [letter(settings, n, partition=n % 3, value=b"%d" % n) for n in range(count)])
    process = start_replay(settings, processes, "--rate", "100")
    eventually(lambda: len(replayed(settings)) >= 20, 30, "some replayed")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 130, errors
    told = json.loads(output)
    assert told["interrupted"] and 20 <= told["sent"] < count and f"after {told['sent']} of 400" in errors
    assert told["sent"] <= 100 * (told["seconds"] + 0.2) + 1, "the rate was held"
    assert len(replayed(settings)) == told["sent"], "what it says it sent is what is there"

    process = start_replay(settings, processes, "--rate", "100")
    eventually(lambda: len(replayed(settings)) >= told["sent"] + 150, 30, "some more replayed")
    process.kill()
    process.wait()
    before = len(replayed(settings))
    rest = replay(settings, "--rate", "5000")
    found = Counter(record.value for record in replayed(settings))
    assert len(found) == count, "every letter was sent"
    assert max(found.values()) <= 2 and sum(found.values()) == before + rest["sent"]
    assert sum(found.values()) - count <= 250, "again only what a kill -9 left uncommitted: a second and a little"
    assert replay(settings)["sent"] == 0


def test_of_two_replays_at_a_time_one_ends_and_says_why(settings, processes):
    """The second ends, having sent nothing, where the first has committed since its plan; else the first does."""
    write(settings, [letter(settings, n, value=b"%d" % n) for n in range(300)], partition=0)
    first = start_replay(settings, processes, "--rate", "5")
    eventually(lambda: len(replayed(settings)) >= 3, 30, "the first is at work")
    second = run(settings, "replay", "--yes", "--json", "--rate", "2000")
    if second.code:
        assert b"another replay" in second.stderr and b"has sent 0 letters" in second.stderr
        first.send_signal(signal.SIGTERM)
        output, errors = first.communicate(timeout=60)
        assert first.returncode == 130 and json.loads(output)["sent"] == len(replayed(settings)), errors
        assert replay(settings, "--rate", "2000")["skipped"]["replayed-before"] == json.loads(output)["sent"]
    else:
        _, errors = first.communicate(timeout=60)
        assert first.returncode == 1 and "another replay" in errors and errors.count("\n") == 1
    assert {record.value for record in replayed(settings)} == {b"%d" % n for n in range(300)}
    assert replay(settings)["sent"] == 0


def test_a_commit_between_the_two_looks_at_what_was_replayed(settings):
    """Another replay commits each second: a plan that is made meanwhile looks again, and is made."""
    place = TopicPartition(settings.topic_deadletter, 0)

    async def look() -> Commits:
        async with memory(settings, range(PARTITIONS)) as (consumer, admin):
            committed, commits = consumer.committed, iter([(1, ""), (2, "")])

            async def and_then_another(tp: TopicPartition) -> int | None:
                offset = await committed(tp)
                if tp == place and (another := next(commits, None)):
                    await consumer.commit({tp: another})
                return offset

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(consumer, "committed", and_then_another)
                return await committed_now(settings, consumer, admin, range(PARTITIONS))

    write(settings, [letter(settings, n) for n in range(3)], partition=0)
    assert asyncio.run(look()) == {0: (2, "")}


def test_the_group_may_be_set_by_hand_and_a_foreign_commit_is_not_heeded(settings):
    """As with `kafka-consumer-groups --reset-offsets`: an offset without our text means all below it."""
    write(settings, [letter(settings, n) for n in range(6)], partition=0)

    async def commit(*at: tuple[int, str]) -> Commits:
        async with memory(settings, range(PARTITIONS)) as (consumer, admin):
            for offset, text in at:
                await consumer.commit({TopicPartition(settings.topic_deadletter, 0): (offset, text)})
            return await committed_at_once(settings, admin, range(PARTITIONS))

    asked = run_on_terminal(settings, b"n\n")
    assert asked.code == 1 and b"6 dead letters" in asked.stdout and b"Replay 6 dead letters? [y/N]" in asked.stderr
    assert replayed(settings) == [] and asyncio.run(commit()) == {}, "a plan commits nothing"
    asyncio.run(commit((4, "")))
    assert replay(settings)["sent"] == 2
    for foreign in ((3, "of another program"), (99, "")):  # the latter of a topic that was longer once
        asyncio.run(commit(foreign))
        told = run(settings, "replay", "--dry-run")
        assert b"6 dead letters" in told.stdout and b"of partitions 0" in told.stderr
