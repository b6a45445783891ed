"""topics, produce, tail and deadletter list on a real broker, as processes where a person would run them."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from ops.kafka_io import produce_events, read_topic
from streamer.adapters.kafka_client import Admin, client_options, running
from streamer.adapters.kafka_topics import create_topics, inspect_topics, partition_count
from streamer.core.errors import TagstreamError
from streamer.settings import Settings, load_settings

pytestmark = pytest.mark.kafka

TAGSTREAM = str(Path(sys.executable).with_name("tagstream"))


@pytest.fixture
def settings(kafka_bootstrap) -> Settings:
    """Topics of this test alone on the session's broker."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    return load_settings(
        kafka_bootstrap=kafka_bootstrap,
        topic_probabilities=f"{name}.probabilities",
        topic_tags=f"{name}.tags",
        topic_scores=f"{name}.scores",
        topic_deadletter=f"{name}.deadletter",
    )


def run(settings: Settings, *arguments: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    """`tagstream ARGUMENTS` as a process, pointed at the test's topics."""
    environment = os.environ | {
        "TAGSTREAM_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "TAGSTREAM_TOPIC_PROBABILITIES": settings.topic_probabilities,
        "TAGSTREAM_TOPIC_TAGS": settings.topic_tags,
        "TAGSTREAM_TOPIC_SCORES": settings.topic_scores,
        "TAGSTREAM_TOPIC_DEADLETTER": settings.topic_deadletter,
    }
    return subprocess.run(
        [TAGSTREAM, *arguments], env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def a_data_set(folder: Path, tracks: int) -> Path:
    """A small data set of one class in the challenge's layout, as a split `val`."""
    split = folder / "data" / "val"
    split.mkdir(parents=True)
    (folder / "data" / "train").mkdir()
    random = np.random.default_rng(5)
    rows = [f"T-{n:04d}," + ",".join(f"{p:.4f}" for p in random.random(3)) for n in range(tracks)]
    (split / "input_moods_tags_data.csv").write_text("ChallengeID,calm,dark,happy\n" + "\n".join(rows) + "\n")
    return folder / "data"


async def fatal_problems(settings: Settings) -> list[str]:
    """Those under which a worker does not start."""
    return [str(problem) for problem in (await inspect_topics(settings))[1] if problem.fatal]


async def test_topics_are_created_once_and_never_altered(settings):
    made = await create_topics(settings, partitions=3, replication=1)
    assert [topic.existed for topic in made] == [False] * 4
    assert {topic.partitions for topic in made} == {3}
    again = await create_topics(settings)
    assert [topic.existed for topic in again] == [True] * 4
    topics, problems = await inspect_topics(settings)
    assert problems == []
    tags = topics[settings.topic_tags].config
    assert tags is not None and tags["cleanup.policy"] == "compact"
    with pytest.raises(TagstreamError, match="3 partitions, not 5"):
        await create_topics(settings, partitions=5)


async def test_outputs_follow_an_input_that_exists(settings):
    small = {"max.message.bytes": "1048588"}  # Kafka's own default
    async with running(Admin(**client_options(settings)), settings) as admin:
        await admin.create_topics([NewTopic(settings.topic_probabilities, 5, 1, topic_configs=small)])
    made = await create_topics(settings)
    assert [(topic.existed, topic.partitions) for topic in made] == [(True, 5), *[(False, 5)] * 3]
    assert await partition_count(settings, settings.topic_tags) == 5
    _, problems = await inspect_topics(settings)
    assert [problem.topic for problem in problems] == [settings.topic_probabilities]  # it takes no bulk messages
    assert await fatal_problems(settings) == []


async def test_dead_letters_take_what_an_input_that_exists_takes(settings):
    large = {"max.message.bytes": str(12 << 20)}
    async with running(Admin(**client_options(settings)), settings) as admin:
        await admin.create_topics([NewTopic(settings.topic_probabilities, 2, 1, topic_configs=large)])
    await create_topics(settings)
    topics, problems = await inspect_topics(settings)
    dead = topics[settings.topic_deadletter].config
    assert problems == [] and dead is not None and int(dead["max.message.bytes"]) == 13 << 20


async def test_a_worker_would_refuse_a_small_dead_letter_topic(settings):
    async with running(Admin(**client_options(settings)), settings) as admin:
        small = {"max.message.bytes": "1048588"}
        await admin.create_topics([NewTopic(settings.topic_deadletter, 2, 1, topic_configs=small)])
    await create_topics(settings, partitions=2)
    (problem,) = await fatal_problems(settings)
    assert settings.topic_deadletter in problem and "kafka-configs" in problem
    checked = run(settings, "topics", "check", "--json")
    assert checked.returncode == 1 and not json.loads(checked.stdout)["ok"]


def test_topics_create_and_check_as_commands(settings):
    missing = run(settings, "topics", "check")
    assert missing.returncode == 1 and "tagstream topics create" in missing.stderr
    created = run(settings, "topics", "create", "--partitions", "2", "--json")
    assert created.returncode == 0, created.stderr
    assert [topic["existed"] for topic in json.loads(created.stdout)["topics"]] == [False] * 4
    assert run(settings, "topics", "check").returncode == 0


async def test_produce_keys_by_track_and_keeps_lines_as_they_are(settings, tmp_path):
    await create_topics(settings, partitions=3)
    produced = run(settings, "produce", "--data", str(a_data_set(tmp_path, 50)), "--json")
    assert produced.returncode == 0, produced.stderr
    assert json.loads(produced.stdout)["produced"] == 50
    lines = tmp_path / "events.jsonl"
    lines.write_bytes(b'{"track_id":"T-0001"}\nnot \xff json\n')
    assert run(settings, "produce", "--file", str(lines)).returncode == 0
    records = [r async for r in read_topic(settings, settings.topic_probabilities, from_start=True, follow=False)]
    by_value = {record.value: record for record in records}
    assert len(records) == 52
    assert by_value[b"not \xff json"].key is None
    assert by_value[b'{"track_id":"T-0001"}'].key == b"T-0001"
    of_track = [record for record in records if record.key == b"T-0001"]
    assert len(of_track) == 2 and len({record.partition for record in of_track}) == 1
    assert sorted(orjson.loads(of_track[0].value)) == ["moods", "track_id", "vocabulary"]


async def test_produce_keeps_to_its_rate_and_tells_progress(settings):
    await create_topics(settings, partitions=1)
    told: list[int] = []
    events = [(b"k", b"v", [("h", b"1")])] * 60
    started = time.perf_counter()
    count = await produce_events(settings, events, rate_per_s=100, on_progress=told.append)
    assert count == 60 and 0.59 <= time.perf_counter() - started < 3
    assert told[-1] == 60 and told == sorted(told) and len(told) > 2


async def test_produce_can_send_neither_key_nor_value(settings):
    await create_topics(settings, partitions=1)
    assert await produce_events(settings, [(None, None, [("h", b"1")])]) == 1
    (record,) = [r async for r in read_topic(settings, settings.topic_probabilities, from_start=True, follow=False)]
    assert record.key is None and record.value is None and list(record.headers) == [("h", b"1")]


async def test_tail_filters_follows_and_joins_no_group(settings):
    async def groups() -> set[str]:
        async with running(Admin(**client_options(settings)), settings) as admin:
            return {group for group, _ in await admin.list_consumer_groups()}

    await create_topics(settings, partitions=2)
    before = await groups()
    decisions = [
        (
            f"T-{n}".encode(),
            orjson.dumps({"track_id": f"T-{n}", "tags": {"genres": ["rock" if n % 2 else "jazz"]}, "scores": {}}),
            (),
        )
        for n in range(10)
    ]
    await produce_events(settings, [*decisions, (b"T-9", None, ())], topic=settings.topic_tags)
    rock = run(settings, "tail", "--no-follow", "--tag", "rock", "--json")
    assert {record["track_id"] for record in json.loads(rock.stdout)["records"]} == {"T-1", "T-3", "T-5", "T-7", "T-9"}
    one = run(settings, "tail", "--no-follow", "--track", "T-9", "--jsonl")
    assert [json.loads(line).get("tombstone") for line in one.stdout.splitlines()] == [None, True]
    followed = run(settings, "tail", "--from", "earliest", "--limit", "11")
    assert followed.returncode == 0 and "withdrawn" in followed.stdout and "jazz" in followed.stdout
    assert await groups() <= before


async def test_dead_letters_are_grouped_newest_first_and_escaped(settings):
    await create_topics(settings, partitions=2)

    def dead(code: bytes, number: int):
        headers = [("error.code", code), ("error.message", b"\x1b[31mno"), ("error.field", b"genres.tags")]
        return None, b"\x1b[2J" + b"x" * number, [*headers, ("source", b"in/0/%d/0" % number)]

    events = [dead(b"not-json", n) for n in range(1, 6)] + [dead(b"wrong-length", 9)]
    await produce_events(settings, events, rate_per_s=100, topic=settings.topic_deadletter)
    listed = json.loads(run(settings, "deadletter", "list", "--json", "--limit", "2").stdout)
    assert listed["total"] == 6 and {c: g["count"] for c, g in listed["codes"].items()} == {
        "not-json": 5,
        "wrong-length": 1,
    }
    assert [example["source"] for example in listed["codes"]["not-json"]["examples"]] == ["in/0/5/0", "in/0/4/0"]
    text = run(settings, "deadletter", "list", "--code", "wrong-length").stdout
    assert "1 dead letters" in text and "not-json" not in text and "\x1b" not in text and "\\x1b[2J" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "check"),
        ("topics", "create"),
        ("tail", "--no-follow"),
        ("deadletter", "list"),
        ("produce", "--file", os.devnull),
    ],
)
def test_no_broker_is_one_sentence(arguments):
    nowhere = load_settings(kafka_bootstrap="127.0.0.1:1")
    ended = run(nowhere, *arguments, timeout_s=12)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.count("\n") == 1 and "no Kafka broker answers at 127.0.0.1:1" in ended.stderr


def test_other_mistakes_are_one_sentence(settings, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, says in [
        (("tail", "--topic", "nope", "--no-follow"), "has no topic nope"),
        (("tail", "--json"), "--limit or --no-follow"),
        (("produce", "--data", str(tmp_path / "empty")), "not a data set"),
        (("produce", "--file", str(tmp_path / "absent")), "does not exist"),
        (("produce", "--file", "/dev/null"), "has no topic"),
        (("produce",), "either --data DIR or --file"),
    ]:
        ended = run(settings, *arguments)
        assert ended.returncode == 1 and says in ended.stderr, ended
        assert ended.stderr.count("\n") == 1 and "Traceback" not in ended.stderr


async def test_a_silent_port_is_given_up_in_time():
    import asyncio

    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(60), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    settings = load_settings(kafka_bootstrap=f"127.0.0.1:{port}")
    consumer = AIOKafkaConsumer(**client_options(settings))
    started = time.perf_counter()
    with pytest.raises(TagstreamError, match="no answer within 2 s"):
        async with running(consumer, settings, timeout_s=2):
            consumer.assign([TopicPartition("t", 0)])
    assert time.perf_counter() - started < 9
    silent.close()
