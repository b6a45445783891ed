"""Start-up order does not matter: a worker waits for its model and its topics, or says at once what is missing."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ops.local.services import Services
from ops.local.worker import WorkerProcess
from streamer.adapters.kafka_client import Admin, client_options, running
from tests.harness import Artefacts, Stream, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

SAID_WITHIN_S = 20.0  # importing torch included


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
