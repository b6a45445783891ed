"""The curves of an artefact: exact where they say so, close in between, and refused when they are not as written."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from model import artifact, curves, manifest
from model.errors import ModelError
from model.objective import f_beta
from model.thresholds import OFF
from model.training import train
from tests.model_data import SMALL, make_dataset, quick


def scored(tracks=20_000, seed=0):
    """Calibrated float16 scores and labels of one tag, most of them low, as real ones are."""
    rng = np.random.default_rng(seed)
    scores = (1 / (1 + np.exp(-rng.normal(-3.5, 1.7, size=tracks)))).astype(np.float16).astype(np.float64)
    return scores, rng.random(tracks) < scores


def counted(scores, labels, threshold):
    decided = scores >= threshold
    return decided.sum(), (decided & labels).sum()


def test_a_curve_is_exact_at_its_points():
    scores, labels = scored()
    curve = curves.trace(scores, labels, 0.21)
    assert 40 <= len(curve.thresholds) <= 3 * curves.POINTS_PER_SCALE + 3 and 0.21 in curve.thresholds
    for threshold in curve.thresholds:
        decided, hits = counted(scores, labels, threshold)
        point = curve.at(float(threshold))
        assert point.share == pytest.approx(decided / len(scores))
        assert point.precision == pytest.approx(hits / max(decided, 1))
        assert point.recall == pytest.approx(hits / labels.sum())
        assert point.f1 == pytest.approx(f_beta(hits, decided, labels.sum()))


def test_a_curve_is_close_in_between():
    scores, labels = scored()
    curve = curves.trace(scores, labels, 0.2)
    for threshold in np.random.default_rng(1).uniform(0.01, 0.9, 200).round(6):
        decided, hits = counted(scores, labels, threshold)
        point = curve.at(threshold)
        assert point.f1 == pytest.approx(f_beta(hits, decided, labels.sum()), abs=0.01)
        assert point.share == pytest.approx(decided / len(scores), abs=0.005)
        assert point.recall == pytest.approx(hits / labels.sum(), abs=0.02)


def test_off_and_what_is_no_threshold():
    curve = curves.trace(*scored(500), OFF)
    assert curve.at(OFF) == curves.Point(0.0, 0.0, 0.0, 0.0)
    for wrong in (1.5, -0.1, float("nan"), "0.5", True):
        with pytest.raises(ValueError, match="neither a number"):
            curve.at(wrong)


@pytest.mark.parametrize("scores", [[1.0], [0.0], [0.5, 0.5, 0.5], [0.0, 1.0]])
def test_curves_of_next_to_nothing(scores):
    for labels in (np.zeros(len(scores), bool), np.ones(len(scores), bool)):
        curve = curves.trace(np.array(scores), labels, 0.5)
        assert curve.at(0.0).share == 1.0 and 0 <= curve.at(0.5).f1 <= 1
        assert curve.at(1.0).share == np.mean(np.array(scores) == 1.0)


@pytest.fixture(scope="module")
def trained():
    dataset = make_dataset(300)
    dataset.labels[:, 1] = 0
    return train(dataset, config=quick("linear", epochs=1))


@pytest.fixture(scope="module")
def original(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return folder / artifact.save(trained, folder)


@pytest.fixture
def saved(original, tmp_path):
    return shutil.copytree(original, tmp_path / original.name)


def test_the_artefact_keeps_them(trained, saved):
    found = curves.read(saved, manifest.read_manifest(saved))
    assert list(found.tags) == list(SMALL.tags) and found.tracks == 300
    for tag, mine in trained.curves.tags.items():
        theirs = found.tags[tag]
        assert (theirs.threshold, theirs.support) == (trained.thresholds[tag], mine.support)
        assert np.array_equal(theirs.curve.thresholds, mine.curve.thresholds)
        assert theirs.curve.at(0.3) == mine.curve.at(0.3)
        assert theirs.f1 == pytest.approx(mine.f1, abs=1e-4) and theirs.f1_low <= theirs.f1 <= theirs.f1_high
        assert theirs.histogram.sum() == 300 and theirs.histogram_positive.sum() == mine.support
    assert found.tags["jazz"].support == 0 and found.tags["jazz"].threshold == 1.0
    upstream = make_dataset(300).probabilities.astype(np.float16).astype(np.float64)
    expected = [np.histogram(upstream[:, column], curves.EDGES)[0].tolist() for column in range(SMALL.n_inputs)]
    assert found.inputs is not None and found.inputs.tolist() == expected


def test_an_older_trainer_kept_no_histograms_of_the_upstream(saved):
    value = json.loads((saved / curves.CURVES).read_text())
    del value["inputs"]
    rewrite(saved, json.dumps(value).encode())
    found = curves.read(saved, manifest.read_manifest(saved))
    assert found.inputs is None and found.tags["rock"].histogram.sum() == 300


def test_figures_of_a_tag_are_those_of_thresholds_that_others_made(trained):
    figures = trained.metrics["out_of_fold"]
    supports = np.array([tag.support for tag in trained.curves.tags.values()])
    f1 = np.array([tag.f1 for tag in trained.curves.tags.values()])
    assert (f1 * supports).sum() / supports.sum() == pytest.approx(figures["weighted_f1"])
    flattered = [tag.curve.at(tag.threshold).f1 for tag in trained.curves.tags.values()]
    assert (np.array(flattered) * supports).sum() > (f1 * supports).sum()


def rewrite(folder, content: bytes):
    """Curves changed by somebody who knows how checksums are made."""
    (folder / curves.CURVES).write_bytes(content)
    body = json.loads((folder / "manifest.json").read_text())
    body["files"][curves.CURVES] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda v: v.update(format=2), "another format"),
        (lambda v: v["tags"].pop("rock"), "other tags"),
        (lambda v: v["tags"]["rock"].pop("curve"), "lacks 'curve'"),
        (lambda v: v["tags"]["rock"].update(support=10**9), "is not a count up to 300"),
        (lambda v: v["tags"]["rock"].update(f1=2), "neither a number"),
        (lambda v: v["tags"]["rock"].update(threshold="on"), "neither a number"),
        (lambda v: v["tags"]["rock"].update(histogram=[1]), "a list that is not of 32 counts"),
        (lambda v: v["tags"]["rock"]["curve"].update(thresholds=[0.0] * 5000), "a curve of 5000 points"),
        (lambda v: v["tags"]["rock"]["curve"]["thresholds"].reverse(), "rise from 0 to 1"),
        (lambda v: v["tags"]["rock"]["curve"]["decided"].reverse(), "do not fall together"),
        (lambda v: v["tags"]["rock"]["curve"]["hits"].__setitem__(0, True), "is not a count"),
        (lambda v: v["tags"].update(rock=[]), "damaged"),
        (lambda v: v["inputs"].pop(), "histograms that are not of 10 probabilities"),
        (lambda v: v["inputs"][0].__setitem__(0, 301), "is not a count up to 300"),
    ],
)
def test_damaged_curves_are_refused(saved, spoil, words):
    value = json.loads((saved / curves.CURVES).read_text())
    spoil(value)
    rewrite(saved, json.dumps(value).encode())
    with pytest.raises(ModelError, match=words) as caught:
        curves.read(saved, manifest.read_manifest(saved))
    assert "\n" not in str(caught.value)


def test_corrupted_absent_and_too_large(saved, monkeypatch):
    made = manifest.read_manifest(saved)
    with pytest.raises(ModelError, match=r"has no curves.json"):
        curves.read(saved, {**made, "files": {}})
    monkeypatch.setattr(curves, "CURVES_BYTES_MAX", 10)
    with pytest.raises(ModelError, match="more than 10 are not read"):
        curves.read(saved, made)
    monkeypatch.undo()
    (saved / curves.CURVES).write_bytes(b"{" + (saved / curves.CURVES).read_bytes()[1:-1] + b"]")
    with pytest.raises(ModelError, match="corrupted"):
        curves.read(saved, made)
    with pytest.raises(ModelError, match="corrupted"):
        artifact.load(saved)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"[" * 100_000, b'{"format": NaN}'])
def test_what_is_no_such_file(saved, content):
    rewrite(saved, content)
    with pytest.raises(ModelError, match="is damaged"):
        curves.read(saved, manifest.read_manifest(saved))


def test_the_reported_split_is_not_in_them(trained):
    dataset = make_dataset(300)
    dataset.labels[:, 1] = 0
    other = train(dataset, replace(make_dataset(40, seed=7)), quick("linear", epochs=1))
    assert other.curves.to_json() == trained.curves.to_json()
