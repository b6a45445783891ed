"""The model's commands as a person and as a machine use them: output, exit codes, one sentence for a mistake."""

import json
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from model import synthetic
from model.artifact import fixed_network, new_artifact
from model.registry import Registry
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


def test_train_evaluate_and_look(run, data, tmp_path):
    quick = tmp_path / "quick.toml"
    quick.write_text('base = "linear"\nepochs = 1\nfolds = 2\n')
    code, out, _ = run("train", "--data", data, "--config", quick, "--alias", "champion", "--json")
    trained = json.loads(out)
    assert code == 0 and set(trained) == {"model", "weighted_f1", "seconds"}
    assert Registry(tmp_path / "models").aliases() == {"champion": trained["model"]}

    for split, flatters in (("train", True), ("val", False)):
        code, _, err = run("evaluate", "--model", "champion", "--data", data / split)
        assert code == 0 and ("This is what the model was trained on" in err) is flatters
    code, out, _ = run("evaluate", "--model", "champion", "--data", data, "--json")
    found = json.loads(out)
    figures = {"weighted_f1", "micro_f1", "macro_f1", "bce", "accuracy", "ece"}
    assert code == 0 and set(found) == figures | {"benchmark"} and set(found["benchmark"]) == figures
    assert found["weighted_f1"] == trained["weighted_f1"]

    code, out, _ = run("models", "show", "champion")
    assert code == 0 and "# Model card" in out
    code, out, _ = run("models", "show", "champion", "--json")
    assert code == 0 and json.loads(out)["version"] == trained["model"]


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
    assert told in err and "Traceback" not in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words", ["train", "evaluate", "score", "data synthesize", "data describe", "models list", "models verify"]
)
def test_help_has_an_example(run, words):
    code, out, _ = run(*words.split(), "--help")
    assert code == 0 and "Example: tagstream" in out
