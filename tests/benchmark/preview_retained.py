"""How long `tagstream thresholds preview` takes over many retained tracks: at first, and once they are cached.

python -m tests.benchmark.preview_retained 1000000
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaProducer

from model.artifact import fixed_network, new_artifact
from ops.local.services import start_services
from ops.thresholds_admin import ThresholdsAdmin
from streamer.adapters.kafka_client import client_options, running
from streamer.adapters.kafka_topics import create_topics
from streamer.settings import Settings, load_settings
from tests.harness import a_vocabulary

PARTITIONS = 4
PIECE_TRACKS = 4_000
BATCH_BYTES = 900_000
VOCABULARY = a_vocabulary()


async def fill(settings: Settings, model: str, tracks: int) -> None:
    """Scores of so many tracks, as workers retain them."""
    await create_topics(settings, PARTITIONS, 1)
    random = np.random.default_rng(1)
    headers = [("model", model.encode()), ("vocabulary", VOCABULARY.fingerprint.encode()), ("thresholds", b"abc")]
    producer = AIOKafkaProducer(**client_options(settings), compression_type="lz4", max_batch_size=BATCH_BYTES)
    async with running(producer, settings):
        for start in range(0, tracks, PIECE_TRACKS):
            scores = (random.random((PIECE_TRACKS, len(VOCABULARY.tags))) ** 3).astype("<f2")
            for partition in range(PARTITIONS):
                batch = producer.create_batch()
                for number in range(partition, min(PIECE_TRACKS, tracks - start), PARTITIONS):
                    track = start + number
                    source = f"{settings.topic_probabilities}/{partition}/{track}/0".encode()
                    row = {"key": b"T-%08d" % track, "value": scores[number].tobytes(), "timestamp": track}
                    assert batch.append(**row, headers=[*headers, ("source", source)]) is not None
                await producer.send_batch(batch, settings.topic_scores, partition=partition)
        await producer.flush()


def preview(environment: dict[str, str], tag: str) -> tuple[float, dict]:
    """Seconds that the whole command took, and what it said."""
    command = [Path(sys.executable).with_name("tagstream"), "thresholds", "preview", f"{tag}=0.4", "--json"]
    began_s = time.perf_counter()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - began_s, json.loads(done.stdout)


def main(tracks: int) -> None:
    """Fill, preview twice, tell."""
    with tempfile.TemporaryDirectory(prefix="tagstream-preview-") as name:
        folder = Path(name)
        with start_services(data_dir=folder / "services", die_with_parent=True) as services:
            options = {"kafka_bootstrap": services.kafka_bootstrap, "redis_url": services.redis_url}
            settings = load_settings(**options, models_dir=folder / "models")
            tuned = dict.fromkeys(VOCABULARY.tags, 0.5)
            model = new_artifact(fixed_network(VOCABULARY), VOCABULARY, tuned, settings.models_dir)
            ThresholdsAdmin(settings, "benchmark").promote(model, "")
            asyncio.run(fill(settings, model, tracks))
            environment = {f"TAGSTREAM_{name.upper()}": value for name, value in options.items()}
            environment |= {
                "TAGSTREAM_MODELS_DIR": str(settings.models_dir),
                "TAGSTREAM_CACHE_DIR": str(folder / "cache"),
            }
            for what in ("reading them", "once cached"):
                seconds, said = preview(environment, VOCABULARY.tags[0])
                assert said["tracks"] == tracks and said["touched"] == said["tags"][0]["gained"] > 0
                print(f"{tracks:,} tracks, {what}: {seconds:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]))
