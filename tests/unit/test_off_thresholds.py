"""A tag that training left `off` stays off on its whole way: artefact, worker, score, evaluate."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from model import artifact, manifest, metrics
from model.errors import ModelError
from model.thresholds import OFF
from ops.cli import main as cli
from streamer.adapters.torch_scorer import RegistryLoader
from streamer.core.decide import decide, tag_classes
from streamer.serving import tuned_table
from tests.model_data import SMALL, make_dataset, write_dataset

THRESHOLDS = {**dict.fromkeys(SMALL.tags, 0.2), "jazz": OFF, "wild": 0.0}
JAZZ = SMALL.tags.index("jazz")


@pytest.fixture
def version(tmp_path):
    return artifact.new_artifact(artifact.fixed_network(SMALL), SMALL, THRESHOLDS, tmp_path)


def forge(folder, value):
    """The artefact with another threshold of jazz, by somebody who knows how versions are made."""
    body = json.loads((folder / "manifest.json").read_text())
    body["thresholds"]["jazz"] = value
    body["version"] = f"{folder.name[:17]}{manifest.content_digest(body)}"
    (folder / "manifest.json").write_text(json.dumps(body))
    return folder.rename(folder.with_name(body["version"]))


def test_the_artefact_keeps_the_word(version, tmp_path):
    loaded = artifact.load(tmp_path / version)
    assert loaded.thresholds == THRESHOLDS
    assert np.isinf(loaded.threshold_row()[JAZZ]) and loaded.threshold_row()[-1] == 0.0
    again = artifact.new_artifact(loaded.network, SMALL, loaded.thresholds, tmp_path / "again")
    assert again[-8:] == version[-8:]
    on = artifact.new_artifact(loaded.network, SMALL, {**THRESHOLDS, "jazz": 1.0}, tmp_path / "on")
    assert on[-8:] != version[-8:], "off and certainty are two models"


@pytest.mark.parametrize("value", ["OFF", "on", "0.5", None, True, [], -0.1, 1.1, float("nan"), float("inf"), 10**400])
def test_what_is_no_threshold_is_refused(version, tmp_path, value):
    folder = forge(tmp_path / version, value)
    with pytest.raises(ModelError, match=r"threshold for 'jazz'.*neither a number in \[0, 1\] nor off") as caught:
        artifact.load(folder)
    assert len(str(caught.value)) < 400
    with pytest.raises(ValueError, match="neither a number"):
        artifact.new_artifact(artifact.fixed_network(SMALL), SMALL, {**THRESHOLDS, "jazz": value}, tmp_path)


def test_a_worker_never_decides_it(version, tmp_path):
    model = RegistryLoader(tmp_path, "cpu", 4).load(version)
    table = tuned_table(model)
    assert table.as_hash()["jazz"] == "off" and np.isinf(table.values[JAZZ])
    sure = np.ones((5, SMALL.n_tags), dtype=np.float16)
    decided = decide(sure, table.values, tag_classes(model.layout))
    assert set(decided.tags.tolist()) == set(range(SMALL.n_tags)) - {JAZZ}


def test_score_and_evaluate(version, tmp_path, monkeypatch, capsys):
    dataset = make_dataset(60)
    write_dataset(tmp_path / "data", dataset)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tagstream", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return json.loads(capsys.readouterr().out)

    common = ("--model", version, "--data", tmp_path / "data", "--models-dir", tmp_path, "--json")
    run("score", *common, "--out", tmp_path / "out.parquet")
    decided = {tag for tags in pq.read_table(tmp_path / "out.parquet")["tags"].to_pylist() for tag in tags}
    assert "jazz" not in decided and "rock" in decided

    scores = artifact.load(tmp_path / version).score(dataset.probabilities)
    decisions = scores.astype(np.float64) >= [
        np.inf if THRESHOLDS[tag] == OFF else THRESHOLDS[tag] for tag in SMALL.tags
    ]
    assert run("evaluate", *common)["weighted_f1"] == metrics.weighted_f1(dataset.labels, decisions)


def test_the_command_takes_an_objective(tmp_path, monkeypatch, capsys):
    write_dataset(tmp_path / "data", make_dataset(90))

    def run(objective):
        words = ["train", "--data", tmp_path / "data", "--models-dir", tmp_path, "--objective", objective, "--json"]
        monkeypatch.setattr(sys, "argv", ["tagstream", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr()

    code, shown = run("precision:1,floor:0.95")
    assert code == 0
    found = artifact.load(tmp_path / json.loads(shown.out)["model"])
    assert found.manifest["metrics"]["objective"] == "precision:1,floor:0.95" and OFF in found.thresholds.values()
    code, shown = run("perfection")
    assert code == 1 and "'perfection' is not an objective" in shown.err and "Traceback" not in shown.err
