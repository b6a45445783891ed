"""The examples of docs/examples against the real thing: a neighbour who copies one must not be let down.

One stream, decided by a real worker, is produced by the examples and folded by the examples, from the beginning, and
then again with everything delivered once more.
"""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiokafka.structs import ConsumerRecord

from ops.kafka_io import event_producer, read_topic
from streamer.adapters.kafka_client import running
from tests.fixtures_services import start_or_skip
from tests.harness import Stream, eventually
from tests.java_compiler import compiled
from tests.postgres_server import PostgresServer

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
EXAMPLE_S = 60
TRACKS = 40  # of each producer
WITHDRAWN = 5
TAGSTREAM = str(Path(sys.executable).with_name("tagstream"))

Catalogue = dict[str, Any]  # track -> its tags by class


@dataclass
class Neighbour:
    """Runs the examples on one stream, as the documents say, and knows what the catalogue must be."""

    stream: Stream
    folder: Path

    def run(self, *command: str, **environment: str) -> str:
        """Run a command with the stream's settings: its stdout, once it has ended well."""
        done = subprocess.run(
            command, check=False, env=self.environment(environment), cwd=self.folder, capture_output=True, text=True,
            timeout=EXAMPLE_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def example(self, name: str, *words: str, **environment: str) -> str:
        return self.run(sys.executable, str(EXAMPLES / name), *words, **environment)

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        own = {f"TAGSTREAM_{name.upper()}": str(value) for name, value in self.stream.worker_settings.items()}
        return {**os.environ, **own, **more}

    def records(self) -> list[ConsumerRecord]:
        """All of the decisions' topic, in order within each partition."""

        async def read() -> list[ConsumerRecord]:
            settings = self.stream.settings
            return [r async for r in read_topic(settings, settings.topic_tags, from_start=True, follow=False)]

        return asyncio.run(read())

    def deliver_again(self, records: Sequence[ConsumerRecord]) -> None:
        """What a worker does after a crash: the same decisions once more, behind those that are there."""

        async def send() -> None:
            producer = event_producer(self.stream.settings)
            async with running(producer, self.stream.settings):
                for r in records:
                    await producer.send_and_wait(
                        r.topic, r.value, key=r.key, partition=r.partition, headers=list(r.headers)
                    )

        asyncio.run(send())


@pytest.fixture
def neighbour(stream: Stream, tmp_path: Path) -> Neighbour:
    """A stream with a worker, and the vocabulary as upstream gets it."""
    stream.start("a")
    made = Neighbour(stream, tmp_path)
    shown = made.run(TAGSTREAM, "models", "show", "champion", "--vocabulary", "--json")
    (tmp_path / "vocabulary.json").write_text(shown)
    return made


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this module's own."""

    def start() -> PostgresServer:
        server = PostgresServer()
        server.start()
        server.wait_ready()
        return server

    server = start_or_skip(start)
    yield server
    server.close()


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The Java example's command line, compiled on the JRE that Kafka runs on."""
    folder = tmp_path_factory.mktemp("java")
    return start_or_skip(lambda: compiled(EXAMPLES / "CatalogueConsumer.java", folder))


def test_produced_and_folded_by_the_examples(neighbour: Neighbour, postgres: PostgresServer, java: list[str]) -> None:
    wanted = _produce(neighbour)
    database, backup = neighbour.folder / "catalogue.db", neighbour.folder / "backup.db"

    def sqlite(database: Path) -> tuple[Catalogue, int]:
        neighbour.example("fold_into_sqlite.py", str(database), "--once")
        with closing(sqlite3.connect(database)) as connection:
            return _catalogue(connection.execute("SELECT track_id, decision, changes FROM tracks").fetchall())

    def postgresql(group: str) -> tuple[Catalogue, int]:
        neighbour.example("fold_into_postgres.py", "--once", CATALOGUE=postgres.dsn, CATALOGUE_GROUP=group)
        with psycopg.connect(postgres.dsn) as connection:
            return _catalogue(connection.execute("SELECT track_id, decision::text, changes FROM tracks").fetchall())

    def lines(*command: str) -> tuple[Catalogue, int]:
        changes = [json.loads(line) for line in neighbour.run(*command, "--once").splitlines()]
        catalogue = {change["track"]: change["tags"] for change in changes}
        return {track: tags for track, tags in catalogue.items() if tags is not None}, len(changes)

    aiokafka, group = (sys.executable, str(EXAMPLES / "follow_catalogue.py")), neighbour.stream.settings.group
    _fold_and_kill(neighbour, database)
    shutil.copy(database, backup)
    first = _side_by_side(
        lambda: sqlite(database), lambda: postgresql(group), lambda: lines(*aiokafka), lambda: lines(*java)
    )
    for (catalogue, _), name in zip(first, ("SQLite", "PostgreSQL", "aiokafka", "Java"), strict=True):
        assert catalogue == wanted, name

    # Once more: by a worker, at the end of the topic; by Kafka, from the beginning, where a group's offsets are lost;
    # and into a database that was restored from a backup.
    neighbour.deliver_again(list({record.key: record for record in neighbour.records()}.values()))
    again = _side_by_side(
        lambda: sqlite(database), lambda: postgresql(f"{group}-afresh"), lambda: lines(*aiokafka), lambda: lines(*java)
    )
    assert again == first
    assert sqlite(backup) == first[0]


def _fold_and_kill(neighbour: Neighbour, database: Path) -> None:
    """SIGKILL to the SQLite example once a transaction of it is there."""
    command = [sys.executable, str(EXAMPLES / "fold_into_sqlite.py"), str(database)]
    process = subprocess.Popen(command, env=neighbour.environment({}), cwd=neighbour.folder)

    def tracks() -> int:
        try:
            with closing(sqlite3.connect(database, timeout=5)) as connection:
                return connection.execute("SELECT count(*) FROM tracks").fetchone()[0]
        except sqlite3.OperationalError:  # no tables yet
            return 0

    try:
        eventually(tracks, EXAMPLE_S, "a first transaction")
    finally:
        process.kill()
        process.wait()


def _produce(neighbour: Neighbour) -> Catalogue:
    """By each of the producers, some tracks twice, some withdrawn: the catalogue that must come of it."""
    ids = {name: [f"{name}-{n:03d}" for n in range(TRACKS)] for name in ("a", "c", "bulk")}
    said = [
        neighbour.example("produce_aiokafka.py", "vocabulary.json", *ids["a"], *ids["c"][:7]),
        neighbour.example("produce_confluent.py", "vocabulary.json", *ids["c"]),
        neighbour.example("produce_arrow.py", "vocabulary.json", *ids["bulk"]),
        neighbour.example("produce_confluent.py", "--withdraw", *ids["c"][:WITHDRAWN]),
    ]
    assert [int(re.findall(r"\d+", text)[0]) for text in said] == [TRACKS + 7, TRACKS, TRACKS, WITHDRAWN]
    neighbour.stream.settle()
    records = neighbour.records()
    last = {record.key.decode(): record.value for record in records}
    wanted = {track: json.loads(value)["tags"] for track, value in last.items() if value is not None}
    assert wanted.keys() == {track for names in ids.values() for track in names} - set(ids["c"][:WITHDRAWN])
    # One partition for a track, whoever produced it: librdkafka's own hash would break that.
    places: dict[bytes, set[int]] = {}
    for record in records:
        places.setdefault(record.key, set()).add(record.partition)
    assert {len(found) for found in places.values()} == {1}
    return wanted


def _catalogue(rows: Sequence[tuple[str, str | None, int]]) -> tuple[Catalogue, int]:
    """Of a database's rows: tags by track, and how many changes were counted."""
    return (
        {track: json.loads(decision)["tags"] for track, decision, _ in rows if decision is not None},
        sum(changes for _, _, changes in rows),
    )


def _side_by_side(*jobs: Callable[[], tuple[Catalogue, int]]) -> list[tuple[Catalogue, int]]:
    with ThreadPoolExecutor(len(jobs)) as threads:
        return [job.result() for job in [threads.submit(one) for one in jobs]]
