"""`tagstream doctor` on a real Kafka and a real Redis: quiet where all is well, and each fault with its remedy."""

import asyncio
import json
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ops.local.process import free_ports
from streamer.adapters.kafka_client import Admin, client_options, running
from tests.fixtures_secure import Command
from tests.harness import Stream

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


def look(command: Command, settings: dict[str, object]) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and the findings by state."""
    ended = command(settings, "doctor", "--json")
    told = json.loads(ended.out)
    assert told["ok"] is (ended.code == 0)
    by_state: dict[str, list[dict[str, Any]]] = {}
    for finding in told["findings"]:
        by_state.setdefault(finding["state"], []).append(finding)
        assert finding["remedy"] or finding["state"] in ("ok", "skip"), finding
    return ended.code, by_state


def said(findings: list[dict[str, Any]]) -> str:
    return "\n".join(f"{f['check']}: {f['what']} -> {f['remedy']}" for f in findings)


def alter(stream: Stream, topic: str, **config: str) -> None:
    async def send() -> None:
        async with running(Admin(**client_options(stream.settings)), stream.settings) as admin:
            configs = {name.replace("_", "."): value for name, value in config.items()}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])

    asyncio.run(send())


def test_from_health_to_many_faults(stream: Stream, command: Command) -> None:
    settings = stream.worker_settings
    assert command(settings, "models", "promote", "champion", "--no-wait").code == 0
    code, found = look(command, settings)
    assert code == 0 and "fail" not in found and "warn" not in found, found
    well = said(found["ok"])
    for words in ("Python 3", "aiokafka", "torch", "Kafka", "all that a worker needs", "4 partitions", "clock: Redis",
                  "golden decisions as recorded", "200 tags"):  # fmt: skip
        assert words in well, f"{words!r} is not in {well}"

    alter(stream, stream.settings.topic_tags, cleanup_policy="delete")
    alter(stream, stream.settings.topic_deadletter, max_message_bytes="1000000")
    alter(stream, stream.settings.topic_probabilities, max_message_bytes="9437184", retention_ms="3600000")
    stream.redis.hset(stream.keys.live(stream.artefacts.first), "genres-t0", "loud")
    manifest = stream.models_dir / stream.artefacts.first / "model.safetensors"
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"?")
    code, found = look(command, settings)
    failed, warned = said(found["fail"]), said(found["warn"])
    assert code == 1
    for words in ("model.safetensors", "rollback", "'loud'", "thresholds set", "could not hold the largest input",
                  "max.message.bytes="):  # fmt: skip
        assert words in failed, f"{words!r} is not in {failed}"
    for words in ("cleanup.policy=delete", "cleanup.policy=compact", "keeps 1.0 h", "retention.ms=604800000"):
        assert words in warned, f"{words!r} is not in {warned}"


def test_nothing_answers(command: Command, tmp_path) -> None:
    kafka, redis = free_ports(2)
    ended = command(
        {"kafka_bootstrap": f"127.0.0.1:{kafka}", "redis_url": f"redis://127.0.0.1:{redis}/0", "models_dir": tmp_path},
        "doctor",
    )
    failed = [line for line in ended.out.splitlines() if line.startswith("FAIL")]
    assert ended.code == 1 and [line.split()[1] for line in failed] == ["kafka", "redis", "models"]
    assert ended.out.count("->") == 3 and "tagstream train" in ended.out and "Traceback" not in ended.out + ended.err
