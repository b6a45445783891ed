"""The pictures of a comparison: what each system gains over the 0.5 rule, and F1 in each class.

Takes what `model.compare_intervals.results` made. Bars start at zero; a gain is a paired difference, whose interval
is a third as wide as that of a level.
"""

import io
from typing import Any

from model.systems import OURS, RULE
from model.vocabulary import CLASSES

DOTS_PER_INCH = 110
WIDTH_INCHES, ROW_INCHES, FRAME_INCHES = 9.0, 0.36, 1.3
OURS_COLOUR, PART_COLOUR, OTHER_COLOUR = "#2a6f97", "#89c2d9", "#b0b0b0"
CLASS_COLOURS = ("#2a6f97", "#e9a23b", "#7a9e4e")


def pictures(split: dict[str, Any], name: str) -> dict[str, bytes]:
    """PNG files by name for one reported split."""
    drawn = {f"classes-{name}.png": _classes(split, name)}
    if any(f"to_{RULE}" in row for row in split["systems"]):
        drawn[f"gain-{name}.png"] = _gains(split, name)
    return drawn


def _gains(split: dict[str, Any], name: str) -> bytes:
    rows = [row for row in split["systems"] if f"to_{RULE}" in row]
    figure, axes = _figure(len(rows))
    gains = [row[f"to_{RULE}"] for row in rows]
    means = [gain["mean"] for gain in gains]
    errors = [[gain["mean"] - gain["low"] for gain in gains], [gain["high"] - gain["mean"] for gain in gains]]
    axes.barh(range(len(rows)), means, xerr=errors, color=[_colour(row["system"]) for row in rows], capsize=3)
    right = max(*(gain["high"] for gain in gains), 0.0)
    for place, row in enumerate(rows):
        axes.annotate(
            f"{row['weighted_f1']['mean']:.4f}",
            (max(gains[place]["high"], 0.0), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlim(right=right + 0.12 * (right - min(0.0, *(gain["low"] for gain in gains))))
    rule = next(row for row in split["systems"] if row["system"] == RULE)["weighted_f1"]["mean"]
    axes.set_xlabel(f"gain in weighted F1 over the 0.5 rule ({rule:.4f}), with 95 % interval")
    return _finish(figure, axes, rows, f"Every system on {name}; at the bar its weighted F1")


def _classes(split: dict[str, Any], name: str) -> bytes:
    rows = split["systems"]
    classes = [one for one in CLASSES if any(one in row for row in rows)]
    figure, axes = _figure(len(rows), ROW_INCHES * (0.5 + 0.5 * len(classes)))
    height = 0.8 / len(classes)
    for index, one in enumerate(classes):
        shown = [(place, row[one]) for place, row in enumerate(rows) if one in row]
        places = [place - 0.4 + height * (index + 0.5) for place, _ in shown]
        means = [value["mean"] for _, value in shown]
        errors = [[v["mean"] - v["low"] for _, v in shown], [v["high"] - v["mean"] for _, v in shown]]
        colour = CLASS_COLOURS[CLASSES.index(one)]
        style = {"elinewidth": 0.8, "capsize": 1.5}
        axes.barh(places, means, height, xerr=errors, color=colour, label=one, error_kw=style)
    axes.set_xlabel("weighted F1 within the class, with 95 % interval of the level")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.5 / figure.get_figheight() * 1.6), ncols=3, fontsize=9)
    return _finish(figure, axes, rows, f"By class on {name}")


def _colour(system: str) -> str:
    if system == OURS:
        return OURS_COLOUR
    return PART_COLOUR if system.startswith(("network", "without-")) else OTHER_COLOUR


def _figure(rows: int, row_inches: float = ROW_INCHES):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    size = (WIDTH_INCHES, FRAME_INCHES + row_inches * rows)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _finish(figure, axes, rows: list[dict[str, Any]], title: str) -> bytes:
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
