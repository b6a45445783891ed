"""Holds what the composed stream left behind against the contract, from inside its network.

python -m tests.compose.judge EVENTS           prints one JSON object; the checker is the one of the chaos tests
"""

import asyncio
import json
import sys
import time

import redis

from model.manifest import read_manifest
from model.registry import Registry
from model.vocabulary import Vocabulary
from ops.demo.observer import group_lag
from streamer.adapters.redis_keys import Keys
from streamer.core.layout import Layout
from streamer.settings import load_settings
from tests.checker import Sampler, check

SETTLE_S = 120.0
POLL_S = 0.5


def main(events: int) -> dict[str, object]:
    """What the checker found; it raises where the contract is broken."""
    settings = load_settings()
    deadline_s = time.monotonic() + SETTLE_S
    while lag := asyncio.run(group_lag(settings)):
        assert time.monotonic() < deadline_s, f"still {lag} events to decide after {SETTLE_S:g} s"
        time.sleep(POLL_S)
    sampler = Sampler(settings)
    sampler.sample_once()
    registry, keys = Registry(settings.models_dir), Keys(settings.redis_prefix)
    words = Vocabulary.from_json(read_manifest(registry.path("champion"))["vocabulary"])
    client = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True, protocol=2)
    tables = {
        name: json.loads(text)
        for version in registry.versions()
        for name, text in client.hgetall(keys.tables(version)).items()
    }
    report = check(settings, Layout.build(words.fingerprint, words.classes), sampler.samples, tables)
    assert report.inputs == events, f"{report.inputs} events are in the topic, {events} were produced"
    return {
        "inputs": report.inputs, "decided": report.decided, "dead": report.dead, "duplicates": report.duplicates,
        "tracks": len({decision.track for decision in report.decisions}),
        "thresholds": sorted({thresholds for _, thresholds in report.versions()}),
        "longest_pause_s": round(report.longest_pause_s(), 1),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
