"""A comparison as tables and sentences, each word of them derived from its figures.

Takes what `model.compare_intervals.results` made; the terminal and the Markdown page show the same cells. Decides
nothing: whether a part adds something is whether zero lies in the interval of its gain.
"""

from typing import Any

from model.served import UPSTREAM, title
from model.systems import OURS, RULE
from model.vocabulary import CLASSES

NONE = "-"
MANY = ("the reservoirs", "reservoirs")  # names of parts that are more than one
Table = tuple[list[str], list[list[str]]]  # headings, and rows of as many cells


def quality(split: dict[str, Any]) -> Table:
    """The level of every system, and its differences to the 0.5 rule and to ours, where these were run."""
    differences = {f"to_{RULE}": "minus 0.5 rule", f"to_{OURS}": "minus ours"}
    differences = {name: title for name, title in differences.items() if any(name in row for row in split["systems"])}
    rows = [
        [
            row["title"],
            _number(row["weighted_f1"]["mean"]),
            _range(row["weighted_f1"]),
            _seeds(row),
            *(_gain(row.get(name)) for name in differences),
        ]
        for row in split["systems"]
    ]
    return ["system", "weighted F1", "interval", "seeds (sd)", *differences.values()], rows


def figures(split: dict[str, Any]) -> Table:
    """Every other figure of quality."""
    classes = [name for name in CLASSES if any(name in row for row in split["systems"])]
    names = ["micro_f1", "macro_f1", "samples_f1", "bce", "accuracy", "ece", *classes, "rare_f1"]
    headings = ["system", "micro F1", "macro F1", "samples F1", "BCE", "accuracy", "ECE", *classes, "rare tags"]
    return headings, [[row["title"], *(_mean(row.get(name)) for name in names)] for row in split["systems"]]


def costs(split: dict[str, Any]) -> Table:
    """What a system costs."""
    rows = [
        [
            row["title"],
            str(row["epochs"] or NONE),
            f"{row['parameters']:,.0f}",
            f"{row['seconds']:,.1f}",
            f"{row['cpu_seconds']:,.1f}",
            NONE if row["tracks_per_s"] is None else f"{row['tracks_per_s']:,.0f}",
        ]
        for row in split["systems"]
    ]
    return ["system", "epochs at most", "learnt numbers", "training s", "CPU s", "tracks/s"], rows


def sentences(split: dict[str, Any]) -> list[str]:
    """What the figures say of ours, and of each part that was left out."""
    rows = {row["system"]: row for row in split["systems"]}
    said = []
    if OURS in rows and RULE in rows:
        ours, rule = rows[OURS]["weighted_f1"]["mean"], rows[RULE]["weighted_f1"]["mean"]
        if rule:
            said.append(f"Ours stands {ours / rule - 1:+.1%} to the 0.5 rule ({rule:.4f} to {ours:.4f}).")
        if rows[OURS]["served"] == [UPSTREAM]:
            said.append(f"Out of fold no network beat {title(UPSTREAM)}: ours serves those.")
    return said + [_part(part) for part in split["parts"]]


def _part(part: dict[str, Any]) -> str:
    gain, name = part["gain"], part["part"][0].upper() + part["part"][1:]
    verb = "costs" if gain["high"] < 0 else "pays" if gain["low"] > 0 else "adds nothing that can be measured"
    if part["part"].startswith(MANY):
        verb = {"costs": "cost", "pays": "pay"}.get(verb, "add nothing that can be measured")
    return f"{name} {verb}: {gain['mean']:+.4f} weighted F1 (interval {gain['low']:+.4f} to {gain['high']:+.4f})."


def markdown(found: dict[str, Any], command: str) -> str:
    """The whole comparison as a page."""
    train = found["train"]
    lines = [
        "# Comparison",
        "",
        f"`{command}`",
        "",
        f"Trained on {_tracks(train)}. Weights, early stopping and thresholds come from these alone, cross-fitted by "
        "artist; the split that is reported on chose nothing.",
    ]
    for name, split in found["splits"].items():
        lines += ["", f"## On {name}: {_tracks(split)}", ""]
        lines += [*_markdown_table(quality(split)), ""]
        lines += [*_notes(found), ""]
        lines += [f"- {sentence}" for sentence in sentences(split)] + [""]
        lines += [*_markdown_table(figures(split)), ""]
        lines += [*_markdown_table(costs(split)), ""]
        lines += [f"![Gain over the 0.5 rule](gain-{name}.png)", "", f"![F1 by class](classes-{name}.png)"]
    return "\n".join(lines) + "\n"


def _notes(found: dict[str, Any]) -> list[str]:
    return [
        f"Intervals: 95 %, {found['resamples']:,} resamples of artists, the same for all systems; where there are "
        "several seeds, of seeds too. Differences are paired. Rare tags are the "
        f"{found['rare_tags']} with less than {found['rare_below']:.0%} of the training tracks; they and the classes "
        "are weighted F1 over their tags alone."
    ]


def _tracks(described: dict[str, Any]) -> str:
    artists = "artists unknown" if described["artists"] is None else f"{described['artists']:,} artists"
    return f"{described['tracks']:,} tracks ({artists}, data {described['fingerprint'][:12]})"


def _markdown_table(table: Table) -> list[str]:
    headings, rows = table
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _number(value: float) -> str:
    """Four decimals, without the zero that says nothing."""
    return f"{value:.4f}".removeprefix("0")


def _mean(figure: dict[str, Any] | None) -> str:
    return NONE if figure is None else _number(figure["mean"])


def _range(figure: dict[str, float]) -> str:
    return f"{_number(figure['low'])}-{_number(figure['high'])}"


def _gain(figure: dict[str, float] | None) -> str:
    return (
        NONE
        if figure is None
        else f"{figure['mean']:+.4f} ({figure['low']:+.4f}, {figure['high']:+.4f})".replace("0.", ".")
    )


def _seeds(row: dict[str, Any]) -> str:
    spread = row["weighted_f1"]["spread"]
    return str(len(row["seeds"])) if spread is None else f"{len(row['seeds'])} ({_number(spread)})"
