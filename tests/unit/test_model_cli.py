"""The model's commands as a person and as a machine use them: output, exit codes, one sentence for a mistake."""

import json
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from model import synthetic
from model.artifact import fixed_network, new_artifact
from model.config import CONFIGS
from model.registry import Registry
from model.systems import all_systems
from ops.cli import output
from tests.model_data import MOODS_ONLY, SMALL, make_dataset, write_dataset

THRESHOLDS = dict.fromkeys(SMALL.tags, 0.4)


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data" / "train", make_dataset(150))
    write_dataset(tmp_path / "data" / "val", make_dataset(40, seed=5))
    return tmp_path / "data"


@pytest.fixture
def version(tmp_path):
    return new_artifact(fixed_network(SMALL), SMALL, THRESHOLDS, tmp_path / "models")


def test_synthesize_writes_over_a_data_set_only_when_told(run, tmp_path, monkeypatch):
    shape = synthetic.Shape(earlier_tracks=200, population=200, fit_steps=2)  # of a quick world
    monkeypatch.setattr(synthetic, "synthesize", partial(synthetic.synthesize, shape=shape))
    for arguments, expected in ((), 0), ((), 1), (("--force",), 0):
        code, _, err = run("data", "synthesize", "--tracks", 20, "--out", tmp_path / "set", *arguments)
        assert code == expected and ("holds a data set already (train and val)" in err) == (expected == 1)


def test_train_evaluate_and_look(run, data, tmp_path, monkeypatch):
    quick = tmp_path / "quick.toml"
    quick.write_text('base = "linear"\nepochs = 1\nfolds = 2\n')
    monkeypatch.setattr(output, "LINE_EVERY_S", 0.0)
    code, out, err = run("train", "--data", data, "--config", quick, "--alias", "challenger", "--json")
    trained = json.loads(out)
    assert code == 0 and set(trained) == {"model", "weighted_f1", "seconds"}
    assert Registry(tmp_path / "models").aliases() == {"challenger": trained["model"]}
    for told in ("fold 2 of 2, epoch 1, loss 0.", "thresholds and intervals"):
        assert told in err, "a training in a log is not silent"

    for split, flatters in (("train", True), ("val", False)):
        code, _, err = run("evaluate", "--model", "challenger", "--data", data / split)
        assert code == 0 and ("This is what the model was trained on" in err) is flatters
    code, out, _ = run("evaluate", "--model", "challenger", "--data", data, "--json")
    found = json.loads(out)
    figures = {"weighted_f1", "micro_f1", "macro_f1", "bce", "accuracy", "ece"}
    assert code == 0 and set(found) == figures | {"benchmark"} and set(found["benchmark"]) == figures
    assert found["weighted_f1"] == trained["weighted_f1"]

    code, out, _ = run("models", "show", "challenger")
    assert code == 0 and "# Model card" in out
    code, out, _ = run("models", "show", "challenger", "--json")
    assert code == 0 and json.loads(out)["version"] == trained["model"]


def test_one_name_for_what_is_served_without_a_network(run, tmp_path):
    """In what `train` prints, on the model card, in the report and in `compare`'s table."""
    write_dataset(tmp_path / "few", make_dataset(60))
    code, out, err = run("train", "--data", tmp_path / "few")
    assert code == 0 and "served: 0.5 rule, " in err and "A network takes 100 tracks to learn from; there are 60" in err
    code, out, err = run("train", "--data", tmp_path / "few", "--config", "upstream")
    told, version = "per-tag thresholds on upstream", out.strip()
    assert code == 0 and f"served: {told}, " in err and "to learn from" not in err
    assert f"`tagstream models promote {version}`" in err
    assert f"Served: {told};" in run("models", "show", version)[1]
    page = (tmp_path / "models" / version / "report" / "index.html").read_text()
    assert f"No network was trained; served: {told}." in page and "<td>0.5 rule</td>" in page
    titles = {system.name: system.title for system in all_systems(CONFIGS["default"], CONFIGS["default"])}
    assert (titles["rule"], titles["thresholds"]) == ("0.5 rule", told)


def test_models_list_and_verify(run, version, tmp_path):
    (tmp_path / "models" / version / "model.safetensors").rename(tmp_path / "kept")
    code, _, err = run("models", "verify", version)
    assert code == 1 and "cannot be read" in err
    (tmp_path / "kept").rename(tmp_path / "models" / version / "model.safetensors")
    code, out, _ = run("models", "verify", version, "--json")
    assert code == 0 and json.loads(out)["ok"] is True
    code, out, _ = run("models", "list", "--json")
    assert code == 0 and [entry["model"] for entry in json.loads(out)["models"]] == [version]
    assert run("models", "list")[0] == 0


def test_score_writes_what_the_stream_would_decide(run, data, version, tmp_path):
    out_file = tmp_path / "decisions.parquet"
    code, out, _ = run("score", "--model", version, "--data", data, "--out", out_file, "--json")
    assert code == 0
    table = pq.read_table(out_file)
    assert table.column_names == ["track_id", "tags", "scores", "model", "thresholds"]
    rows = table.to_pylist()
    val = make_dataset(40, seed=5)
    scores = Registry(tmp_path / "models").load(version).score(val.probabilities)
    assert [row["track_id"] for row in rows] == val.track_ids
    assert {row["thresholds"] for row in rows} == {json.loads(out)["thresholds"]}
    index = {tag: column for column, tag in enumerate(SMALL.tags)}
    for row, expected in zip(rows, scores, strict=True):
        assert set(row["tags"]) == {tag for tag, column in index.items() if expected[column] >= np.float64(0.4)}
        assert row["scores"] == [float(expected[index[tag]]) for tag in row["tags"]]


def test_describe(run, data):
    code, out, _ = run("data", "describe", data, "--json")
    described = json.loads(out)
    assert code == 0 and described["vocabulary"] == SMALL.fingerprint
    assert described["splits"]["train"]["tracks"] == 150
    assert run("data", "describe", data / "val")[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "--data", "{tmp}"), "is not a data set"),
        (("train", "--data", "{data}", "--config", "nonsense"), "neither a configuration"),
        (("train", "--data", "{data}", "--alias", "No Good"), "is not an alias"),
        (("train", "--data", "{data}", "--alias", "champion"), "`tagstream models promote VERSION`"),
        (("models", "list", "--models-dir", "{tmp}/nosuch"), "There is no folder {tmp}/nosuch"),
        (("models", "history", "--models-dir", "{tmp}/nosuch"), "There is no folder {tmp}/nosuch"),
        (("evaluate", "--model", "champion", "--data", "{data}"), "no model 'champion'"),
        (("score", "--model", "{version}", "--data", "{moods}", "--out", "{tmp}/o"), "vocabulary"),
        (("score", "--model", "{version}", "--data", "{data}", "--out", "{tmp}/no/o"), "cannot be written"),
        (("models", "show", "../x"), "no model"),
        (("data", "describe", "{tmp}/nowhere"), "no such folder"),
    ],
)
def test_mistakes_are_one_sentence(run, data, version, tmp_path, words, told):
    write_dataset(tmp_path / "moods", make_dataset(5, MOODS_ONLY))
    places = {"tmp": tmp_path, "data": data, "version": version, "moods": tmp_path / "moods"}
    code, out, err = run(*(word.format(**places) for word in words))
    assert code != 0 and out == ""
    assert told.format(**places) in err and "Traceback" not in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words", ["train", "evaluate", "score", "data synthesize", "data describe", "models list", "models verify"]
)
def test_help_has_an_example(run, words):
    code, out, _ = run(*words.split(), "--help")
    assert code == 0 and "Example: tagstream" in out
