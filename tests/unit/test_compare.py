"""The comparison: blind to the split it reports on, resumable, and every system of the study in it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from model import compare, config, metrics, systems
from model.compare_intervals import results
from model.errors import ModelError
from model.initialise import fit_statistics, new_network
from model.systems_forest import ForestConfig
from tests.model_data import MOODS_ONLY, SMALL, make_dataset, quick, write_dataset

FOREST = ForestConfig(trees=3, leaf=5)
FEW = "rule,thresholds,forest,linear"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def no_time_for_speed(monkeypatch):
    monkeypatch.setattr(compare, "SPEED_SECONDS", 0.001)


def small(names: str | None = None) -> list[systems.System]:
    """The systems, made small enough for tests."""
    kept = {"study": quick("study"), "linear": quick("linear"), "upstream": quick("upstream")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "CONFIGS", {**config.CONFIGS, **kept})
        patch.setattr(systems, "ForestConfig", lambda: FOREST)
        every = systems.all_systems(quick("demo"), quick("demo"))
    return systems.choose(every, names)


def run(train, splits, chosen, folder, seeds=1, **more):
    return compare.compare(
        train, splits, chosen, seeds, folder, lambda what, done, total: None, lambda what: None, **more
    )


def test_permuted_labels_of_the_reported_split_change_no_artefact(tmp_path):
    train, valid = make_dataset(120), make_dataset(60, seed=9)
    permuted = replace(valid, labels=np.random.default_rng(0).permutation(valid.labels))
    chosen = small("rule,thresholds,forest,linear,study-plain,study,ours,network,without-reservoir")
    honest = run(train, {"val": valid}, chosen, tmp_path / "honest")
    blind = run(train, {"val": permuted}, chosen, tmp_path / "permuted")
    assert [one.system for one in honest] == [system.name for system in chosen]
    for one, other in zip(honest, blind, strict=True):
        assert one.digest == other.digest, one.system
        assert one.thresholds == other.thresholds, one.system
        assert np.array_equal(one.reported["val"].decisions, other.reported["val"].decisions), one.system
        assert one.reported["val"].figures != other.reported["val"].figures, one.system


def test_seeds_change_what_has_chance_in_it(tmp_path):
    runs = run(make_dataset(), {"val": make_dataset(60, seed=9)}, small("rule,forest,linear"), tmp_path, seeds=2)
    assert [(one.system, one.seed) for one in runs] == [
        ("rule", 0), ("forest", 0), ("forest", 1), ("linear", 0), ("linear", 1)
    ]  # fmt: skip
    assert runs[1].digest != runs[2].digest and runs[3].digest != runs[4].digest


def test_a_killed_comparison_goes_on(tmp_path, monkeypatch):
    train, valid, chosen = make_dataset(), {"val": make_dataset(60, seed=9)}, small("rule,thresholds,linear")
    fitted: list[str] = []
    fit_system = compare.fit_system

    def counted(system, *rest):
        fitted.append(system.name)
        if fitted == ["rule", "thresholds", "linear"]:
            raise KeyboardInterrupt
        return fit_system(system, *rest)

    monkeypatch.setattr(compare, "fit_system", counted)
    with pytest.raises(KeyboardInterrupt):
        run(train, valid, chosen, tmp_path)
    assert [one.system for one in run(train, valid, chosen, tmp_path, only_finished=True)] == ["rule", "thresholds"]
    first = run(train, valid, chosen, tmp_path)
    assert fitted == ["rule", "thresholds", "linear", "linear"]
    again = run(train, valid, chosen, tmp_path)
    assert len(fitted) == 4
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.reported["val"].decisions, other.reported["val"].decisions)
        assert replace(one, reported={}) == replace(other, reported={})


def test_a_training_that_was_killed_ends_as_if_it_had_not_been(tmp_path):
    train, valid, chosen = make_dataset(), {"val": make_dataset(60, seed=9)}, small("linear")

    def killed_in_the_last_fit(what, done, total):
        if what.startswith("all tracks"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare.compare(train, valid, chosen, 1, tmp_path / "killed", killed_in_the_last_fit, lambda what: None)
    (work,) = (tmp_path / "killed" / compare.WORK).iterdir()
    seconds = json.loads((work / compare.SPENT).read_text())[0]
    told = []
    (one,) = compare.compare(
        train, valid, chosen, 1, tmp_path / "killed", lambda what, *_: told.append(what), lambda what: None
    )
    (other,) = run(train, valid, chosen, tmp_path / "whole")
    assert one.digest == other.digest and one.thresholds == other.thresholds
    assert all(what.startswith(("all tracks", "thresholds")) for what in told) and one.seconds > seconds > 0
    assert not (tmp_path / "killed" / compare.WORK).exists()


def test_another_seed_data_or_recipe_is_another_run(tmp_path):
    train, valid, linear = make_dataset(), {"val": make_dataset(60, seed=9)}, small("linear")[0]
    prints = {"train": train.fingerprint(), "val": valid["val"].fingerprint()}
    keys = {
        compare.run_key(linear, 0, prints),
        compare.run_key(linear, 1, prints),
        compare.run_key(linear, 0, {**prints, "train": make_dataset(seed=5).fingerprint()}),
        compare.run_key(replace(linear, config=replace(linear.config, epochs=9)), 0, prints),
    }
    assert len(keys) == 4


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[]", b"null", b'{"key": "other"}'])
def test_a_file_that_is_no_run_is_made_anew(tmp_path, spoilt):
    train, valid, chosen = make_dataset(), {"val": make_dataset(60, seed=9)}, small("rule")
    run(train, valid, chosen, tmp_path)
    (path,) = (tmp_path / compare.RUNS).iterdir()
    whole = path.read_bytes()
    path.write_bytes(spoilt)
    assert run(train, valid, chosen, tmp_path, only_finished=True) == []
    run(train, valid, chosen, tmp_path)
    assert json.loads(path.read_bytes())["digest"] == json.loads(whole)["digest"]


def test_decisions_of_another_shape_are_refused():
    decisions = np.random.default_rng(0).random((13, 7)) < 0.3
    assert np.array_equal(compare.unpack(compare.pack(decisions), (13, 7)), decisions)
    with pytest.raises(ValueError, match="do not hold"):
        compare.unpack(compare.pack(decisions), (14, 7))


def test_the_rule_is_the_benchmark_and_parts_are_judged_without_fallback(tmp_path):
    train, every = make_dataset(), {system.name: system for system in small()}
    fitted = systems.fit_system(every["rule"], train, 0, lambda *_: None, tmp_path)
    scores = fitted.score(train.probabilities)
    ours = metrics.summary(train.labels, scores, fitted.thresholds)
    assert ours == metrics.summary(train.labels, train.probabilities[:, : SMALL.n_tags], 0.5)
    assert every["ours"].config.fall_back
    parts = [system for system in every.values() if system.whole == "network"]
    assert {system.name for system in parts} == {f"without-{part}" for part in systems.PARTS}
    assert not any(system.config.fall_back for system in parts)


def test_the_study_is_as_it_was_published():
    every = {system.name: system for system in systems.all_systems(config.CONFIGS["default"], config.CONFIGS["demo"])}
    for name, units in (("study", 100), ("study-plain", 0)):
        study = every[name].config
        assert (study.network.heads, study.network.width, study.network.layers) == (15, 285, 2)
        assert (study.network.dropout, study.learning_rate, study.batch) == (0.2618, 1.578e-4, 64)
        assert (study.epochs, study.patience, study.network.reservoir_units) == (20, 3, units)


def test_every_part_can_be_left_out():
    train = make_dataset(60)
    logits = torch.from_numpy(train.probabilities).logit()
    whole = sum(value.numel() for value in new_network(SMALL, quick().network, 0).parameters())
    for system in small(",".join(f"without-{name}" for name, part in systems.PARTS.items() if part.network)):
        network = new_network(SMALL, system.config.network, 0)
        assert sum(value.numel() for value in network.parameters()) < whole, system.name
        fit_statistics(network, logits, train.labels)
        if system.name == "without-skip":  # starts as each tag's frequency
            said = torch.sigmoid(network(torch.from_numpy(train.probabilities))).mean(dim=0)
            assert said.detach().numpy() == pytest.approx(train.labels.mean(axis=0), abs=1e-4)


def test_one_class_and_one_tag_train_a_forest(tmp_path):
    train = make_dataset(150, MOODS_ONLY)
    train.labels[:, 2] = 0
    fitted = systems.fit_system(small("forest")[0], replace(train, artists=None), 0, lambda *_: None, tmp_path)
    scores = fitted.score(train.probabilities)
    assert scores.dtype == np.float16 and scores.shape == (150, 3) and fitted.thresholds[2] == 1.0
    assert fitted.parameters > 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda split: {"val": replace(split, labels=None)}, "'val' has no labels"),
        (lambda split: {"test": make_dataset(20, MOODS_ONLY)}, "'test' has other columns"),
        (lambda split: {}, "nothing to report on"),
    ],
)
def test_nothing_to_report_on(tmp_path, change, words):
    with pytest.raises(ModelError, match=words):
        run(make_dataset(), change(make_dataset(20)), small("rule"), tmp_path)


def test_too_little_to_train_on_and_unknown_systems(tmp_path):
    with pytest.raises(ModelError, match="at least 100 tracks"):
        run(make_dataset(99), {"val": make_dataset(20)}, small("rule"), tmp_path)
    with pytest.raises(ModelError, match="'guess' is not a system"):
        small("rule,guess")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        run(make_dataset(), {"val": make_dataset(20)}, small("rule"), tmp_path / "file")


def test_the_command(tmp_path, monkeypatch, capsys):
    from ops.cli import compare as command

    every = small()
    monkeypatch.setattr(systems, "all_systems", lambda ours, dissected: every)
    data = tmp_path / "data"
    write_dataset(data / "train", make_dataset(120))
    write_dataset(data / "val", make_dataset(40, seed=9))
    options = {"data": data, "systems": FEW, "seeds": 1, "out": tmp_path / "out"}
    command.compare(**options, json=True)
    found = json.loads(capsys.readouterr().out)
    assert [row["system"] for row in found["splits"]["val"]["systems"]] == FEW.split(",")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"runs", "results.json", "comparison.md", "gain-val.png", "classes-val.png"}
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == found

    command.compare(**options, test=data / "val", finished=False)
    said = capsys.readouterr().out
    assert "on val, 40 tracks" in said and "on test, 40 tracks" in said and "0.5 rule" in said
    with pytest.raises(Exception, match="no finished run"):
        command.compare(**{**options, "out": tmp_path / "other"}, finished=True)


def test_means_over_seeds(tmp_path):
    train, valid, chosen = make_dataset(), make_dataset(60, seed=9), small("rule,linear")
    runs = run(train, {"val": valid}, chosen, tmp_path, seeds=2)
    row = results(chosen, runs, train, {"val": valid})["splits"]["val"]["systems"][1]
    levels = [one.reported["val"].figures["weighted_f1"] for one in runs if one.system == "linear"]
    assert row["weighted_f1"]["mean"] == pytest.approx(np.mean(levels))
    assert row["weighted_f1"]["spread"] == pytest.approx(np.std(levels, ddof=1))
