"""Which tracks a question about thresholds is asked of: options, and the retained scores behind them."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import note, progress_bar
from ops.errors import OpsError
from streamer.core.errors import TagstreamError

if TYPE_CHECKING:
    from model.curves import Curves
    from ops.thresholds_admin import Live
    from ops.thresholds_scores import RetainedScores, Window

LastOption = Annotated[int | None, typer.Option("--last", min=1, help="Only the last so many tracks, by their time.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Only tracks from then on: 2h, 7d (ago) or 2026-11-22T09:45Z.")
]


def window_of(live: "Live", last: int | None, since: str | None) -> "Window | None":
    """The retained scores of the model's tracks; None, and a word about why, where there are none."""
    from ops.deadletters import moment_ms

    since_ms = None if since is None else moment_ms(since, int(time.time() * 1000))
    scores = scores_of(live)
    if scores is None:
        return None
    window = scores.window(live.model, last=last, since_ms=since_ms)
    if not window.tracks:
        others = ", ".join(f"{count:,} of {model}" for model, count in scores.models().items() if model != live.model)
        lately = " in that time" if since else ""
        note(f"No retained scores of {live.model}{lately}" + (f"; there are {others}." if others else "."))
        return None
    return window


def scores_of(live: "Live") -> "RetainedScores | None":
    """All retained scores of a vocabulary; None, and a word about why, where the topic cannot be read."""
    from ops.thresholds_follow import follow
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    quiet_client_logs()
    try:
        with progress_bar() as bar:
            task: Any = None

            def on_progress(done: int, total: int) -> None:
                nonlocal task
                if task is None:
                    task = bar.add_task("reading retained scores", total=total)
                bar.update(task, completed=done, total=total)

            return asyncio.run(follow(load_settings(), live.vocabulary, on_progress))
    except TagstreamError as error:
        note(f"No retained scores: {error}")
        return None


def curves_of(live: "Live") -> "Curves | None":
    """What the artefact knows of each tag; None, and a word about why, where it knows nothing."""
    from model import curves
    from model.errors import ModelError
    from model.manifest import read_manifest
    from model.registry import Registry
    from streamer.settings import load_settings

    folder = Registry(load_settings().models_dir).path(live.model)
    try:
        return curves.read(folder, read_manifest(folder))
    except ModelError as error:
        note(f"No precision and recall: {error}")
        return None


def refuse_nothing_known(window: "Window | None", curves: "Curves | None") -> None:
    """Raise an OpsError where there is nothing to foresee anything by."""
    if window is None and curves is None:
        raise OpsError("there is nothing to foresee a change by: no retained scores and no curves in the artefact.")
