"""The end of the demo: what was promised, whether it was seen, and eight tracks side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.dataset import Dataset
from model.metrics import weighted_f1
from ops.demo.observer import Observed

SHOWN_TRACKS = 8
READABLE_TAGS = (3, 7)  # true tags of a track that is shown: some to compare, and not a screen full


@dataclass(frozen=True, slots=True)
class Figures:
    """What the summary tells; `--json` prints it."""

    events: int
    decided: int
    dead_lettered: int
    lag_records: int
    duplicates: int
    conflicts: int
    tracks_per_s: float
    p50_ms: float
    p99_ms: float
    p99_with_failover_ms: float
    weighted_f1: float
    weighted_f1_half_rule: float
    obeyed_ms: Mapping[str, float | None]

    def broken_promises(self) -> list[str]:
        """What did not hold, in words; empty where all did."""
        checks = [
            (self.events == self.decided + self.dead_lettered, "some events were neither decided nor dead-lettered"),
            (self.lag_records == 0, f"{self.lag_records} records are not committed"),
            (self.conflicts == 0, f"{self.conflicts} tracks were decided differently when they were redelivered"),
            (
                bool(self.obeyed_ms) and all(ms is not None and ms < 1000 for ms in self.obeyed_ms.values()),
                "a worker did not obey the new threshold within a second",
            ),
            (self.weighted_f1 > self.weighted_f1_half_rule, "the decisions do not beat the 0.5 rule"),
        ]
        return [words for held, words in checks if not held]


def decisions_of(seen: Observed, dataset: Dataset) -> NDArray[np.uint8]:
    """The streamed decisions [N, T] of the data set's tracks; a track without one has no tags."""
    column = {tag: index for index, tag in enumerate(dataset.vocabulary.tags)}
    decided = np.zeros((len(dataset), len(column)), np.uint8)
    for row, track in enumerate(dataset.track_ids):
        for tags in seen.decisions.get(track, {}).get("tags", {}).values():
            decided[row, [column[tag] for tag in tags]] = 1
    return decided


def f1_pair(seen: Observed, dataset: Dataset) -> tuple[float, float]:
    """Weighted F1 of the streamed decisions and of the 0.5 rule, on the same tracks."""
    labels = dataset.need_labels()
    half_rule = dataset.probabilities[:, : labels.shape[1]] >= 0.5
    return weighted_f1(labels, decisions_of(seen, dataset)), weighted_f1(labels, half_rule.astype(np.uint8))


def latencies_ms(seen: Observed, sent_at_s: Mapping[str, float], before_s: float | None = None) -> NDArray[np.float64]:
    """From producing to the decision read back, by track; `before_s` keeps those produced before that moment."""
    taken = [
        1000 * (seen.received_at_s[track] - sent)
        for track, sent in sent_at_s.items()
        if track in seen.received_at_s and (before_s is None or sent < before_s)
    ]
    return np.array(taken or [np.nan])


def rate_before(seen: Observed, until_s: float) -> float:
    """Tracks decided per second from the first decision to that moment (wall clock, seconds)."""
    received = [at_s for at_s in seen.received_at_s.values() if at_s < until_s]
    return len(received) / max(1e-9, until_s - min(received, default=until_s - 1.0))


def print_summary(console: Console, figures: Figures) -> None:
    """The promises as a table."""
    table = Table(title="What came out", title_justify="left", show_header=False, min_width=60)
    rows: Sequence[tuple[str, str]] = (
        ("events in", f"{figures.events:,}"),
        ("= decided + dead letters", f"{figures.decided:,} + {figures.dead_lettered:,}"),
        ("lag", f"{figures.lag_records:,} records"),
        ("redelivered after the kill, same decision-id", f"{figures.duplicates:,}"),
        ("rate, before the kill", f"{figures.tracks_per_s:,.0f} tracks/s"),
        (
            "latency p50 / p99, before the kill, cold start included",
            f"{figures.p50_ms:.0f} ms / {figures.p99_ms:.0f} ms",
        ),
        ("latency p99, the failover included", f"{figures.p99_with_failover_ms:,.0f} ms"),
        ("threshold obeyed after", ", ".join(f"{ms:.0f} ms" for ms in figures.obeyed_ms.values() if ms is not None)),
        ("weighted F1, the 0.5 rule", f"{figures.weighted_f1_half_rule:.4f}"),
        ("weighted F1, the stream", f"{figures.weighted_f1:.4f}"),
    )
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def print_tracks(console: Console, seen: Observed, dataset: Dataset, seed: int = 0) -> None:
    """Eight tracks: what the 0.5 rule says, what the stream decided, what is true."""
    labels = dataset.need_labels()
    n_tags = labels.shape[1]
    true_tags = labels.sum(axis=1)
    readable = np.flatnonzero((true_tags >= READABLE_TAGS[0]) & (true_tags <= READABLE_TAGS[1]))
    pool = readable if len(readable) >= SHOWN_TRACKS else np.arange(len(dataset))
    chosen = np.random.default_rng(seed).choice(pool, min(SHOWN_TRACKS, len(pool)), replace=False)
    decided = decisions_of(seen, dataset)
    table = Table(title="Tracks, drawn at random (green: true)", title_justify="left", show_lines=True)
    for heading in ("track", "0.5 rule", "the stream", "truth"):
        table.add_column(heading)
    for row in sorted(chosen):
        truth = labels[row].astype(bool)
        half_rule = dataset.probabilities[row, :n_tags] >= 0.5
        table.add_row(
            dataset.track_ids[row],
            _tags(dataset, half_rule, truth),
            _tags(dataset, decided[row].astype(bool), truth),
            _tags(dataset, truth, truth),
        )
    console.print(table)


def _tags(dataset: Dataset, chosen: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Text:
    text = Text()
    for index in np.flatnonzero(chosen):
        if len(text):
            text.append(", ")
        text.append(dataset.vocabulary.tags[index], style="green" if truth[index] else "")
    return text
