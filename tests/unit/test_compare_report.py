"""Intervals that hold what they should, and words that follow from figures."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from model import metrics
from model.compare import Reported, Run
from model.compare_intervals import RESAMPLES, interval, resample, results
from model.compare_pictures import pictures
from model.compare_report import costs, figures, markdown, quality, sentences
from model.systems import System
from tests.model_data import make_dataset

RULE = System("rule", "0.5 rule", None, random=False)
OURS = System("ours", "ours", None)
WHOLE = System("network", "all parts", None)
WITHOUT = System("without-mlp", "without the MLP", None, "the MLP", "network")
TRAIN, VALID = make_dataset(300), make_dataset(150, seed=3)


def decide(quality: float, seed: int = 0):
    """Decisions that are right in that share of the cells."""
    wrong = np.random.default_rng(seed).random(VALID.labels.shape) > quality
    return VALID.labels.astype(bool) ^ wrong


def make_run(system: System, decisions, seed: int = 0, **about) -> Run:
    summary = metrics.summary(VALID.labels, decisions.astype(np.float16), 0.5)
    return Run(system.name, seed, 2.0, 1.5, 1000.0, 10, "", [0.5], about, {"val": Reported(summary, decisions)})


def compared(runs: list[Run], systems: list[System]):
    return results(systems, runs, TRAIN, {"val": VALID})


def test_resampled_figures_are_those_of_resampled_tracks():
    labels, decisions = VALID.labels, decide(0.8)
    masks = {"weighted_f1": np.ones(labels.shape[1], dtype=bool), "genres": np.arange(labels.shape[1]) < 3}
    found = resample(VALID, decisions, masks)
    assert {len(values) for values in found.values()} == {1 + RESAMPLES}
    assert found["weighted_f1"][0] == pytest.approx(metrics.weighted_f1(labels, decisions))
    assert found["genres"][0] == pytest.approx(metrics.weighted_f1(labels[:, :3], decisions[:, :3]))
    assert found["micro_f1"][0] == pytest.approx(metrics.micro_f1(labels, decisions))
    assert found["macro_f1"][0] == pytest.approx(metrics.macro_f1(labels, decisions))
    assert 0.005 < found["weighted_f1"].std() < 0.05


def test_an_artist_is_drawn_whole():
    """Three copies of each track, all by one artist, tell no more than one copy does."""
    alone = replace(VALID, artists=None)
    rows = np.repeat(np.arange(len(VALID)), 3)
    copies = replace(VALID.take(rows), artists=rows.astype(str))
    masks = {"weighted_f1": np.ones(VALID.labels.shape[1], dtype=bool)}
    one = resample(alone, decide(0.8), masks)["weighted_f1"].std()
    three = resample(copies, decide(0.8)[rows], masks)["weighted_f1"].std()
    assert three == pytest.approx(one, rel=0.15)


def test_a_paired_difference_is_surer_than_the_levels():
    base = decide(0.8)
    better = np.where(np.random.default_rng(5).random(base.shape) < 0.05, VALID.labels.astype(bool), base)
    split = compared([make_run(RULE, base), make_run(OURS, better)], [RULE, OURS])["splits"]["val"]
    rule, ours = split["systems"]
    assert ours["to_rule"]["low"] > 0
    level = ours["weighted_f1"]
    assert ours["to_rule"]["high"] - ours["to_rule"]["low"] < (level["high"] - level["low"]) / 2
    assert rule["to_ours"]["mean"] == pytest.approx(-ours["to_rule"]["mean"])


def test_the_figure_lies_in_its_interval():
    assert interval(np.array([5.0, 1.0, 2.0])) == {"mean": 5.0, "low": 1.0, "high": 5.0} | {"low": pytest.approx(1.025)}


@pytest.mark.parametrize(
    ("with_part", "without", "words"),
    [(0.95, 0.7, "pays"), (0.7, 0.95, "costs"), (0.9, 0.9, "adds nothing that can be measured")],
)
def test_words_follow_from_the_interval(with_part, without, words):
    runs = [make_run(WHOLE, decide(with_part)), make_run(WITHOUT, decide(without, seed=1))]
    split = compared(runs, [WHOLE, WITHOUT])["splits"]["val"]
    (sentence,) = sentences(split)
    assert words in sentence and sentence.startswith("The MLP")
    assert f"{split['parts'][0]['gain']['mean']:+.4f}" in sentence


def test_a_fallback_is_told():
    runs = [make_run(RULE, decide(0.7)), make_run(OURS, decide(0.8), served="upstream")]
    assert any("no network beat" in one for one in sentences(compared(runs, [RULE, OURS])["splits"]["val"]))


def test_tables_hold_every_system_and_rare_tags_only_where_there_are_some():
    runs = [make_run(RULE, decide(0.7)), make_run(OURS, decide(0.8)), make_run(OURS, decide(0.8, 1), seed=1)]
    found = compared(runs, [RULE, OURS])
    split = found["splits"]["val"]
    for table in (quality(split), figures(split), costs(split)):
        headings, rows = table
        assert [row[0] for row in rows] == ["0.5 rule", "ours"]
        assert {len(row) for row in rows} == {len(headings)}
    assert figures(split)[1][0][-1] == "-"  # no tag of TRAIN is rare
    assert quality(split)[1][1][3].startswith("2 (.")
    page = markdown(found, "tagstream compare --data x")
    assert "`tagstream compare --data x`" in page and "| 0.5 rule |" in page and "gain-val.png" in page


def test_a_difference_to_what_was_not_run_has_no_column():
    runs = [make_run(RULE, decide(0.7)), make_run(WHOLE, decide(0.8))]
    headings, rows = quality(compared(runs, [RULE, WHOLE])["splits"]["val"])
    assert headings[-1] == "minus 0.5 rule" and {len(row) for row in rows} == {len(headings)}
    assert quality(compared(runs[1:], [WHOLE])["splits"]["val"])[0][-1] == "seeds (sd)"


def test_pictures_are_pictures():
    runs = [make_run(RULE, decide(0.7)), make_run(OURS, decide(0.8))]
    drawn = pictures(compared(runs, [RULE, OURS])["splits"]["val"], "val")
    assert set(drawn) == {"gain-val.png", "classes-val.png"}
    for content in drawn.values():
        assert len(content) < 150_000 and imread(io.BytesIO(content)).std() > 0.05
    assert "gain-val.png" not in pictures(compared(runs[1:], [OURS])["splits"]["val"], "val")
