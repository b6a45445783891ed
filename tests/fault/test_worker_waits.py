"""Start-up order does not matter: a worker waits for its model and its topics, or says at once what is missing."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ops.local.services import Services
from ops.local.worker import WorkerProcess
from streamer.adapters.kafka_client import Admin, client_options, running
from tests.harness import PARTITIONS, Artefacts, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

SAID_WITHIN_S = 60.0  # importing torch included, on a machine that is busy


@pytest.fixture
def bare(services: Services, artefacts: Artefacts, tmp_path: Path) -> Iterator[Stream]:
    """A stream that has neither topics nor a model yet."""
    made = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts, prepared=False)
    yield made
    made.close()


def says(worker: WorkerProcess, text: str) -> None:
    eventually(lambda: text in worker.log(), SAID_WITHIN_S, f"the log says {text!r}", lambda: worker.log()[-2000:])
    assert worker.is_running(), f"it ended: {worker.log_tail()}"


def test_a_worker_waits_for_its_model_and_its_topics(bare: Stream):
    worker = bare.worker("a")
    worker.start()
    says(worker, "waiting: no model to serve")
    assert worker.health().get("ready") is False, f"{worker.health()}"
    bare.install(bare.artefacts.first, champion=True)
    says(worker, f"waiting: no topic {bare.settings.topic_probabilities}")
    bare.make_topics()
    bare.load(1_000)
    bare.wait_assigned("a")
    report = bare.verify()
    assert report.inputs == 1_000 and report.duplicates == 0
    assert "Traceback" not in worker.log(), worker.log()[-3000:]


def test_sigterm_while_it_waits(bare: Stream):
    worker = bare.worker("a")
    worker.start()
    says(worker, "waiting: no model to serve")
    worker.terminate()
    assert worker.exit_code == 0, f"exit code {worker.exit_code}: {worker.log()[-2000:]}"
    assert "Traceback" not in worker.log(), worker.log()[-3000:]


MISSING = {"model": "no model to serve", "topics": "no topic", "broker": "no Kafka broker answers"}


def test_fail_fast_ends_with_one_sentence(bare: Stream, tmp_path: Path):
    bare.install(bare.artefacts.first, champion=True)
    settings = {"model": {"models_dir": tmp_path / "none"}, "topics": {}, "broker": {"kafka_bootstrap": "127.0.0.1:9"}}
    workers = {}
    for missing, more in settings.items():
        apart = {"redis_prefix": f"{bare.settings.redis_prefix}{missing}:", "state_dir": tmp_path / missing}
        workers[missing] = bare.worker(missing, arguments=("--fail-fast",), **apart, **more)
    for worker in workers.values():
        worker.start()
    for missing, worker in workers.items():
        code = worker.wait_exit(2 * SAID_WITHIN_S)
        lines = [json.loads(line) for line in worker.log().splitlines()]
        errors = {line["message"] for line in lines if line["level"] == "error"}
        assert code == 1, f"without {missing}: exit code {code}: {worker.log()[-2000:]}"
        told = [message for message in errors if MISSING[missing] in message]
        assert len(told) == 1 and len(errors) <= 2, f"without {missing} it said {errors}"
        assert not any("traceback" in line for line in lines), worker.log()[-3000:]
        print(f"--fail-fast: {told[0]}")


def test_a_dead_letter_topic_that_is_too_small_is_refused(bare: Stream):
    """It could not keep the largest input, so that would be lost or stop the stream: the worker does not start."""
    bare.install(bare.artefacts.first, champion=True)
    bare.make_topics()
    asyncio.run(_shrink(bare, "1048576"))
    worker = bare.worker("a")
    worker.start()
    assert worker.wait_exit(SAID_WITHIN_S) == 1, f"exit code {worker.exit_code}: {worker.log()[-2000:]}"
    said = [json.loads(line)["message"] for line in worker.log().splitlines() if '"error"' in line]
    assert any(bare.settings.topic_deadletter in text and "max.message.bytes" in text for text in said), said
    assert "Traceback" not in worker.log(), worker.log()[-3000:]


async def _shrink(stream: Stream, max_message_bytes: str) -> None:
    resource = ConfigResource(
        ConfigResourceType.TOPIC, stream.settings.topic_deadletter, configs={"max.message.bytes": max_message_bytes}
    )
    async with running(Admin(**client_options(stream.settings)), stream.settings) as admin:
        await admin.alter_configs([resource])


def test_a_port_that_is_taken_is_one_sentence(bare: Stream):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        worker = bare.worker("a")
        worker.port = taken.getsockname()[1]
        worker._settings["metrics_port"] = worker.port
        worker.start()
        assert worker.wait_exit(SAID_WITHIN_S) == 1, worker.log()[-2000:]
    assert "TAGSTREAM_METRICS_PORT" in worker.log() and "Traceback" not in worker.log(), worker.log()[-2000:]


def test_sigterm_while_it_imports(bare: Stream):
    """Torch and Faust take seconds, and nothing has begun that must be drained."""
    worker = bare.worker("a")
    worker.start()
    status = Path(f"/proc/{worker.pid}/status")
    eventually(lambda: _catches(status.read_text(), signal.SIGTERM), SAID_WITHIN_S, "it knows what to do at SIGTERM")
    assert worker.log() == "", f"too late to show anything: {worker.log()}"
    worker.terminate()
    assert worker.exit_code == 0, f"exit code {worker.exit_code}: {worker.log()[-2000:]}"


def _catches(status: str, number: int) -> bool:
    (caught,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_first_start_without_redis_and_without_kafka(bare: Stream):
    """Nothing is remembered: the tuned table decides, and says so; then Kafka is waited for."""
    bare.install(bare.artefacts.first, champion=True)
    worker = bare.worker("a", redis_url="redis://127.0.0.1:9", kafka_bootstrap="127.0.0.1:9")
    worker.start()
    says(worker, "no remembered thresholds: deciding with the tuned table")
    says(worker, "waiting: no Kafka broker answers")
    assert "the last good model and thresholds are used" in worker.log() and "Traceback" not in worker.log(), (
        worker.log()
    )
    health = worker.health()
    assert (health["redis"], health["kafka"], health["thresholds_source"]) == ("down", "down", "tuned"), f"{health}"
    assert health["ready"] is False and health["live"] is True


def test_a_namesake_is_told_and_partitions_that_are_added_end_the_workers(stream: Stream):
    (first,) = stream.start("a")
    namesake = WorkerProcess("a", stream.worker_settings, folder=stream.folder / "namesake")
    stream.workers["namesake"] = namesake
    namesake.start()
    both = first, namesake
    eventually(
        lambda: any("give each its own TAGSTREAM_WORKER" in worker.log() for worker in both),
        SAID_WITHIN_S,
        "a namesake is told",
        lambda: [worker.log()[-2000:] for worker in both],
    )
    stream.wait_assigned("a", "namesake")
    asyncio.run(_add_partitions(stream, PARTITIONS + 2))
    for worker in both:
        code = worker.wait_exit(2 * SAID_WITHIN_S)
        assert code == 1, f"exit code {code}: {worker.log()[-2000:]}"
        assert "Traceback" not in worker.log(), worker.log()[-3000:]
    told = [worker for worker in both if f"more partitions than the {PARTITIONS}" in worker.log()]
    assert told, [worker.log()[-2000:] for worker in both]
    again = stream.worker("again")
    again.start()
    assert again.wait_exit(SAID_WITHIN_S) == 1
    assert f"--partitions {PARTITIONS + 2}" in again.log(), again.log()[-2000:]


async def _add_partitions(stream: Stream, count: int) -> None:
    async with running(Admin(**client_options(stream.settings)), stream.settings) as admin:
        await admin.create_partitions({stream.settings.topic_probabilities: NewPartitions(count)})
