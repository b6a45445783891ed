"""What a model card says, once, for the two that show it: README.md and the report's page.

Knows a trained model; knows nothing of Markdown or HTML.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.intervals import LEVEL
from model.served import title
from model.thresholds import NEVER_SEEN, OFF
from model.training import Trained
from model.vocabulary import CLASSES

FIGURES = ("weighted_f1", "micro_f1", "macro_f1", "samples_f1", "bce", "accuracy", "ece")
RARE = 50  # tracks; below, a tag's own figures say little


@dataclass(frozen=True)
class Table:
    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]


@dataclass(frozen=True)
class Headline:
    """A figure that matters most."""

    what: str
    value: str
    interval: str = ""


@dataclass(frozen=True)
class Card:
    purpose: str
    headline: list[Headline]
    facts: list[tuple[str, str]]
    tables: list[Table]
    limits: list[str]


def card(trained: Trained) -> Card:
    """The card of a trained model."""
    vocabulary = trained.vocabulary
    counts = ", ".join(f"{len(vocabulary.classes[name]['tags'])} {name}" for name in CLASSES)
    return Card(
        purpose=(
            f"Turns an upstream tagger's {vocabulary.n_inputs} probabilities of a track into scores for "
            f"{vocabulary.n_tags} tags ({counts}), each with its own threshold."
        ),
        headline=_headline(trained),
        facts=_facts(trained),
        tables=_tables(trained),
        limits=_limits(trained),
    )


def _headline(trained: Trained) -> list[Headline]:
    figures = trained.metrics
    found = [_level("weighted F1 out of fold", figures["out_of_fold"])]
    if "valid" in figures:
        half_rule = f"{figures['valid_benchmark']['weighted_f1']:.4f}"
        found.insert(0, _level("weighted F1 on the reported split", figures["valid"]))
        found.insert(1, Headline("weighted F1 there of the 0.5 rule on the upstream", half_rule))
    return found


def _level(what: str, figures: Mapping[str, Any]) -> Headline:
    low, high = figures["weighted_f1_interval"]
    return Headline(what, f"{figures['weighted_f1']:.4f}", f"{low:.3f} to {high:.3f}")


def _facts(trained: Trained) -> list[tuple[str, str]]:
    figures, tags = trained.metrics, trained.curves.tags.values()
    off = sum(tag.threshold == OFF for tag in tags)
    weights = sum(parameter.numel() for parameter in trained.network.parameters())
    certain = sum(tag.threshold == NEVER_SEEN for tag in tags)
    return [
        (
            "Network",
            f"{trained.config.network.architecture}, {weights:,} weights" if weights else "none",
        ),
        ("Vocabulary", trained.vocabulary.fingerprint),
        (
            "Trained on",
            f"{trained.data['tracks']:,} tracks (data {trained.data['fingerprint'][:12]}), seed {trained.seed}, "
            f"{trained.seconds:.0f} s",
        ),
        ("Served", f"{title(figures['served'])}; chosen out of fold, where more has to be better beyond the noise"),
        (
            "Thresholds",
            f"tuned for {figures['objective']} on out-of-fold scores, smoothing {figures['smoothing']:g}; "
            f"{off} tags off, {certain} decided only by certainty",
        ),
        ("Intervals", f"{LEVEL:.0%}, bootstrap over artists"),
    ]


def _tables(trained: Trained) -> list[Table]:
    figures = trained.metrics
    fitted = [[title(name), f"{value:.4f}"] for name, value in figures["cross_fitted_weighted_f1"].items()]
    tables = [Table("What could be served, thresholds for F1 fitted on other artists:", ("", "weighted F1"), fitted)]
    columns = {"out of fold": figures["out_of_fold"]}
    heading = "Figures out of fold:"
    if "valid" in figures:
        columns |= {"reported split": figures["valid"], "0.5 rule there": figures["valid_benchmark"]}
        heading = f"Figures out of fold, and on {figures['valid']['tracks']:,} tracks that chose nothing:"
    rows = [[name, *(f"{column[name]:.4f}" for column in columns.values())] for name in FIGURES]
    return [*tables, Table(heading, ("", *columns), rows)]


def _limits(trained: Trained) -> list[str]:
    tags = trained.curves.tags.values()
    rare = sum(tag.support < RARE for tag in tags)
    return [
        "Scores are only as good as the upstream they come from; another upstream, or one that was retrained, needs a "
        "new model. The model hears nothing itself.",
        f"{rare} of {len(tags)} tags have fewer than {RARE} tracks in the training data: they are decided poorly, and "
        "their figures are uncertain (see the intervals).",
        "A label that is missing counts as 'the track has not the tag', so true precision may be higher than measured.",
        "Figures out of fold are of the training data; tracks of another kind, or later ones, may be decided worse.",
        "Thresholds serve the objective above and no other; live ones may have been changed since by hand.",
    ]
