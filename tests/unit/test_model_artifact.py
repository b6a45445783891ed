"""An artefact is what it says, or it is refused in one sentence."""

import json
import re

import numpy as np
import pytest

from model import artifact, manifest
from model.errors import ModelError
from model.network import ARCHITECTURES
from model.training import train
from tests.model_data import SMALL, make_dataset, quick

THRESHOLDS = dict.fromkeys(SMALL.tags, 0.4)


@pytest.fixture
def folder(tmp_path):
    """An artefact of a fixed linear network."""
    return tmp_path / artifact.new_artifact(artifact.fixed_network(SMALL), SMALL, THRESHOLDS, tmp_path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saved_and_loaded_scores_alike(tmp_path, architecture):
    network = artifact.fixed_network(SMALL, architecture, seed=2)
    version = artifact.new_artifact(network, SMALL, THRESHOLDS, tmp_path, seed=2)
    loaded = artifact.load(tmp_path / version)
    probabilities = np.random.default_rng(0).random((40, SMALL.n_inputs), dtype=np.float32)
    scores = loaded.score(probabilities)
    assert scores.dtype == np.float16 and scores.shape == (40, SMALL.n_tags)
    np.testing.assert_array_equal(scores, artifact.score(network, probabilities))
    assert (loaded.version, loaded.vocabulary, loaded.thresholds) == (version, SMALL, THRESHOLDS)


def test_a_trained_model_holds_all_that_the_contract_lists(tmp_path):
    trained = train(make_dataset(150), make_dataset(30, seed=1), quick())
    version = artifact.save(trained, tmp_path)
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", version)
    names = {path.relative_to(tmp_path / version).as_posix() for path in (tmp_path / version).rglob("*.*")}
    assert names == {
        "model.safetensors",
        "manifest.json",
        "README.md",
        "curves.json",
        "report/tags.csv",
        "report/index.html",
    }
    loaded = artifact.load(tmp_path / version)
    wanted = "format network vocabulary features thresholds metrics training data seeds libraries files golden"
    assert set(wanted.split()) <= set(loaded.manifest)
    assert set(loaded.manifest["files"]) == names - {"manifest.json"}
    assert loaded.manifest["features"]["clip_low"] == 1e-5
    assert (tmp_path / version / "report" / "tags.csv").read_text().count("\n") == 1 + SMALL.n_tags
    assert [path.name for path in tmp_path.iterdir()] == [version]  # nothing left aside


def test_reservoir_matrices_travel_in_the_weights(tmp_path):
    network = artifact.fixed_network(SMALL, "tokens", seed=1)
    loaded = artifact.load(tmp_path / artifact.new_artifact(network, SMALL, THRESHOLDS, tmp_path))
    for one, other in zip(network.reservoirs(), loaded.network.reservoirs(), strict=True):
        assert one.win.any() and np.array_equal(one.win.numpy(), other.win.numpy())


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: flip_a_byte(f / "model.safetensors"), "corrupted"),
        (lambda f: (f / "model.safetensors").write_bytes(b"short"), "truncated"),
        (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "manifest.json").unlink(), "cannot be read"),
        (lambda f: (f / "manifest.json").write_text("{"), "not JSON"),
        (lambda f: (f / "manifest.json").write_text("[]"), "not a manifest"),
        (lambda f: edit(f / "manifest.json", lambda m: m.pop("golden")), "lacks 'golden'"),
        (lambda f: edit(f / "manifest.json", lambda m: m["thresholds"].update(rock=0.1)), "was altered"),
        (lambda f: edit(f / "manifest.json", lambda m: m["network"].update(width=32)), "was altered"),
        (lambda f: edit(f / "manifest.json", lambda m: m.update(files={})), "damaged"),
        (lambda f: edit(f / "manifest.json", lambda m: m.update(format=99)), "format 1"),
        (lambda f: edit(f / "manifest.json", lambda m: m["files"].update({"../x": {}})), "'../x'"),
        (lambda f: edit(f / "manifest.json", lambda m: m["golden"].update(inputs=[[1]])), "damaged"),
        (lambda f: edit(f / "manifest.json", lambda m: m["golden"].update(inputs=[], outputs=[])), "damaged"),
        (lambda f: edit(f / "manifest.json", lambda m: m["golden"]["outputs"][0].__setitem__(0, 0.99)), "golden"),
    ],
)
def test_spoilt_artefacts_are_refused(folder, spoil, words):
    spoil(folder)
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        artifact.load(folder)
    assert "\n" not in str(caught.value)


def test_checked_without_verify_too_where_it_decides(folder):
    flip_a_byte(folder / "model.safetensors")
    with pytest.raises(ModelError, match="corrupted"):
        artifact.load(folder, verify=False)


def test_a_renamed_artefact_is_refused(folder):
    other = folder.rename(folder.with_name("20200101T000000Z" + folder.name[-9:]))
    with pytest.raises(ModelError, match="its folder is"):
        artifact.load(other)


@pytest.mark.parametrize("name", ["../../etc", "..", "latest", "20261122T094500Z-1a2b3c4g", "/etc/passwd"])
def test_names_that_are_no_versions(tmp_path, name):
    with pytest.raises(ModelError, match="is not a model version"):
        manifest.check_version_name(name)


def test_too_large_a_file_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(manifest, "FILE_BYTES_MAX", 10)
    with pytest.raises(ModelError, match="more than 10 are not read"):
        artifact.load(folder)


def test_thresholds_must_cover_the_tags(tmp_path):
    with pytest.raises(ModelError, match="exactly one threshold"):
        artifact.new_artifact(artifact.fixed_network(SMALL), SMALL, {"rock": 0.5}, tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        artifact.new_artifact(artifact.fixed_network(SMALL), SMALL, THRESHOLDS, tmp_path / "file")


def test_a_crash_while_writing_leaves_nothing_visible(tmp_path, monkeypatch):
    def crash(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(artifact.os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        artifact.new_artifact(artifact.fixed_network(SMALL), SMALL, THRESHOLDS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_disagreement_within_a_float16_step_is_allowed():
    threshold = np.array([0.4])
    below, above = np.array([[0.3999]], np.float16), np.array([[0.4002]], np.float16)
    assert artifact.disagreements(below, above, threshold) == (0, 1)
    assert artifact.disagreements(below, np.array([[0.5]], np.float16), threshold) == (0, 1)
    assert artifact.disagreements(np.array([[0.3]], np.float16), above, threshold) == (0, 1)
    assert artifact.disagreements(np.array([[0.3]], np.float16), np.array([[0.5]], np.float16), threshold) == (1, 0)


def test_rows_of_another_width_are_refused(folder):
    with pytest.raises(ModelError, match="takes rows of 10 probabilities"):
        artifact.load(folder).score(np.zeros((3, 1), dtype=np.float32))
