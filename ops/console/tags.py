"""What is shown of tags: a list that can be searched and sorted, and one tag over its picture. Pure."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.curves import Curves
from ops.console import pictures
from ops.thresholds_admin import Live
from ops.thresholds_preview import Lately
from ops.thresholds_scores import Window
from streamer.core.thresholds import OFF, threshold_text

SORTS = {"name": "name", "share": "decided share", "near": "near misses", "changed": "distance from tuned"}


@dataclass(frozen=True, slots=True)
class Row:
    """One tag in the list."""

    tag: str
    class_name: str
    live: str
    tuned: str
    share: float | None  # of the tracks that have it
    near: int | None  # tracks just under its threshold
    staged: str
    moved: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """Which tags, in which order."""

    search: str = ""
    sort: str = ""


_ORDERS: Mapping[str, Callable[[Row], Any]] = {
    "share": lambda row: -(row.share or 0),
    "near": lambda row: -(row.near or 0),
    "changed": lambda row: -distance(row.live, row.tuned),
}


def rows(
    live: Live,
    asked: Asked,
    lately: Mapping[str, Lately],
    tracks: int,
    staged: Mapping[str, str],
    moved: Collection[str],
) -> list[Row]:
    """The tags that the search finds, by name or class, in the order asked for."""
    wanted, texts, found = asked.search.strip().lower(), live.table.as_hash(), []
    for class_name, lists in live.vocabulary.classes.items():
        for tag in lists["tags"]:
            if wanted not in tag.lower() and wanted not in class_name:
                continue
            mine = lately.get(tag)
            found.append(
                Row(
                    tag=tag,
                    class_name=class_name,
                    live=texts[tag],
                    tuned=threshold_text(tag, live.tuned[tag]),
                    share=mine.decided / tracks if mine and tracks else None,
                    near=mine.near_misses if mine else None,
                    staged=staged.get(tag, ""),
                    moved=tag in moved,
                )
            )
    by_name = sorted(found, key=lambda row: row.tag)
    order = _ORDERS.get(asked.sort)
    return sorted(by_name, key=order) if order else by_name


def distance(live: str, tuned: str) -> float:
    """How far a threshold is from another; off is as far as can be."""
    if OFF in (live, tuned):
        return 0.0 if live == tuned else 1.0
    return abs(float(live) - float(tuned))


def picture(live: Live, tag: str, draft: str, window: Window | None, curves: Curves | None) -> dict[str, Any]:
    """All that the region of one tag shows besides the preview, with the slider at `draft`."""
    number = live.table.tags.index(tag)
    now, tuned = live.table.as_hash()[tag], threshold_text(tag, live.tuned[tag])
    threshold = math.inf if draft == OFF else float(draft)
    ends = pictures.edges()
    counts: Sequence[int] = window.histogram(number, ends).tolist() if window else []
    figures = curves.tags[tag] if curves else None
    named = (("live", now), ("tuned", tuned), ("draft", draft))
    return {
        "tag": tag,
        "class_name": next(name for name, lists in live.vocabulary.classes.items() if tag in lists["tags"]),
        "draft": draft,
        "moved": draft != now,
        "live_text": now,
        "tuned_text": tuned,
        "marks": {name: pictures.place(float(text)) for name, text in named if text != OFF},
        "slider": round(pictures.place(threshold)) if threshold <= 1 else pictures.PLACES,
        "bars": pictures.bars(counts, ends.tolist(), threshold),
        "most": max(counts, default=0),
        "paths": pictures.rate_paths(figures.curve) if figures and figures.support else {},
        "ticks": [(tick, pictures.place(tick)) for tick in pictures.TICKS],
        "tracks": window.tracks if window else 0,
        "decided": window.decided(number, threshold) if window else None,
        "figures": figures,
        "point": figures.curve.at(OFF if draft == OFF else float(draft)) if figures else None,
    }
