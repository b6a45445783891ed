"""A folder shared out over two workers, and the same folder through `tagstream score`: the same decisions."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from model.artifact import fixed_network, new_artifact
from model.dataset import Dataset
from model.registry import Registry
from ops.cli import main as cli
from ops.kafka_io import read_topic
from tests.harness import Artefacts, Stream, a_vocabulary
from tests.model_data import make_dataset, write_dataset

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

TRACKS = 1200


@pytest.fixture
def folder_and_data(tmp_path: Path) -> tuple[Path, Dataset]:
    data = make_dataset(TRACKS, a_vocabulary())
    return write_dataset(tmp_path / "data", data), data


@pytest.fixture
def stream(services, artefacts: Artefacts, tmp_path: Path, folder_and_data) -> Iterator[Stream]:
    """With a model whose thresholds are scores that tracks have: ties, and the steps beside them, decide."""
    made = Stream(services.kafka_bootstrap, services.redis_url, tmp_path, artefacts, prepared=False)
    words, (_, data) = a_vocabulary(), folder_and_data
    network = fixed_network(words, "tokens", seed=1)
    plain = new_artifact(network, words, dict.fromkeys(words.tags, 0.5), tmp_path / "plain")
    scores = Registry(tmp_path / "plain").load(plain).score(data.probabilities)  # [N, T]
    boundary = np.quantile(scores, 0.9, axis=0, method="nearest").astype(np.float64)
    version = new_artifact(network, words, dict(zip(words.tags, boundary.tolist(), strict=True)), made.models_dir)
    Registry(made.models_dir).set_alias("champion", version, "test", "twin")
    made.make_topics()
    yield made
    made.close()


@pytest.fixture
def run(monkeypatch, capsys, stream: Stream) -> Callable[..., dict]:
    """Run one command with --json."""
    for setting, value in stream.worker_settings.items():
        monkeypatch.setenv(f"TAGSTREAM_{setting.upper()}", str(value))

    def call(*words: object) -> dict:
        monkeypatch.setattr(sys, "argv", ["tagstream", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return call


async def last_values(stream: Stream, topic: str) -> dict[str, bytes]:
    """The newest value of every key."""
    async with aclosing(read_topic(stream.settings, topic, from_start=True, follow=False)) as records:
        return {record.key.decode(): record.value async for record in records}


@pytest.mark.parametrize("lane", ["json", "arrow"])
def test_a_folder_scored_both_ways_agrees(stream: Stream, run, folder_and_data, tmp_path: Path, capsys, lane: str):
    folder, data = folder_and_data
    stream.start("one", "two")
    assert run("produce", "--data", folder, "--lane", lane)["produced"] == TRACKS
    scored = run("score", "--model", "champion", "--data", folder, "--out", tmp_path / "twin.parquet")
    stream.settle()

    decisions = asyncio.run(last_values(stream, stream.settings.topic_tags))
    raw = asyncio.run(last_values(stream, stream.settings.topic_scores))
    offline = {row["track_id"]: row for row in pq.read_table(tmp_path / "twin.parquet").to_pylist()}
    assert set(decisions) == set(raw) == set(offline) == set(data.track_ids)

    tags = a_vocabulary().tags
    thresholds = Registry(stream.models_dir).load("champion").threshold_row()
    differing = steps = ties = decided = 0
    for track_id, value in decisions.items():
        live, twin = orjson.loads(value), offline[track_id]
        assert (live["model"], live["thresholds"]) == (twin["model"], twin["thresholds"])
        assert scored["model"] == live["model"]
        scores = np.frombuffer(raw[track_id], "<f2")  # [T]
        step = np.spacing(scores).astype(np.float64)
        near = np.abs(scores.astype(np.float64) - thresholds) <= step
        mine = {tag for names in live["tags"].values() for tag in names}
        strays = mine ^ set(twin["tags"])
        assert all(near[tags.index(tag)] for tag in strays), f"{track_id} is decided otherwise: {strays}"
        differing += len(strays)
        decided += len(mine)
        ties += int(near.sum())
        of_twin = dict(zip(twin["tags"], twin["scores"], strict=True))
        for tag in mine & set(of_twin):
            streamed = np.float16(live["scores"][tag])
            assert abs(float(streamed) - of_twin[tag]) <= float(np.spacing(streamed)), (track_id, tag)
            steps += float(streamed) != of_twin[tag]
    assert ties >= len(tags), "each threshold is the score of some track"
    with capsys.disabled():
        print(
            f"\n{TRACKS:,} tracks both ways ({lane}): {decided:,} decisions, {ties:,} within one float16 step of the "
            f"threshold, {differing} of those differ; {steps} scores differ by one step"
        )
