"""`tagstream thresholds drift`: whether tags are given out as the model was made to, and what has changed if not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar, stdout_console
from ops.cli.thresholds_window import scores_of
from ops.cli.thresholds_write import ModelOption, open_admin
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.drift import TagDrift
    from ops.drift_report import Report

EPILOG = (
    "Examples: tagstream thresholds drift   tagstream thresholds drift --since 30d --windows 10 --picture drift.png"
)
WINDOWS_MAX = 100
SHOWN = 20


def drift(
    tags: Annotated[list[str] | None, typer.Argument(help="Only these tags, whether they have moved or not.")] = None,
    *,
    since: Annotated[str, typer.Option(help="How far to look back: 2h, 7d, or 2026-11-22T09:45Z.")] = "7d",
    windows: Annotated[int, typer.Option(min=1, max=WINDOWS_MAX, help="Parts of that time, of equal length.")] = 7,
    sample: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Events of each window whose upstream probabilities are read.")
    ] = 2000,
    base: Annotated[
        str | None, typer.Option(help="Model whose reference others are compared with (default: the oldest window's).")
    ] = None,
    model: ModelOption = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it, as .png or .svg.")] = None,
    json: JsonFlag = False,
) -> None:
    """Which tags more or fewer tracks get than the model was made for, and what did it: thresholds, inputs or model.

    Three steps lead from the share of tracks with a tag in the model's own reference to today's, and they add up. The
    indices (PSI) tell whether scores and upstream's probabilities have another distribution: from 0.1 they have
    moved, from 0.25 far.
    """
    from model.registry import Registry
    from ops.deadletters import moment_ms
    from ops.drift_report import make
    from streamer.settings import load_settings

    if picture is not None and picture.suffix not in (".png", ".svg"):
        raise OpsError(f"--picture {str(picture)[:80]!r} is neither .png nor .svg.")
    settings, admin = load_settings(), open_admin()
    live = admin.live(model)
    for tag in tags or ():
        live.number_of(tag)
    since_ms = moment_ms(since, int(time.time() * 1000))
    named = None if base is None else Registry(settings.models_dir).resolve(base)
    scores = scores_of(live)
    if scores is None:
        raise OpsError("drift is measured on retained scores, and there are none.")
    with _progress("sampling the input topic") as on_progress:
        report = make(
            settings, admin, live, scores,
            since_ms=since_ms, count=windows, sampled=sample, base=named, on_progress=on_progress,
        )  # fmt: skip
    if picture is not None:
        from ops.drift_picture import draw

        draw(report, picture)
    if json:
        emit_json(_as_json(report, tags))
        return
    _print(report, tags)
    if picture is not None:
        note(f"The picture is in {picture}.")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    with progress_bar() as bar:
        task: Any = None

        def on_progress(done: int, total: int) -> None:
            nonlocal task
            if task is None:
                task = bar.add_task(what, total=total)
            bar.update(task, completed=done, total=total)

        yield on_progress


def _as_json(report: "Report", tags: list[str] | None) -> dict[str, Any]:
    from ops.drift import Cause

    found: dict[str, Any] = {"model": report.model, "base": report.base, "windows": []}
    for number, window in enumerate(report.windows):
        tracks = window.inputs.tracks if window.inputs is not None else 0
        counts = {cause.value: report.count(cause, number) for cause in Cause}
        start, stop = window.span
        found["windows"].append(
            {"from_ms": start, "to_ms": stop, "tracks": window.tracks, "sampled": tracks, "models": dict(window.models),
             "moved": counts}
        )  # fmt: skip
    for one in report.now:
        if not tags or one.tag in tags:
            begun = {cause.value: report.begun_ms(one.tag, cause) for cause in one.causes}
            found.setdefault("tags", []).append({**asdict(one), "since_ms": begun})
    found["inputs"] = [{"name": name, "psi": psi} for name, psi in report.inputs]
    return {**found, "notes": list(report.notes)}


def _print(report: "Report", tags: list[str] | None) -> None:
    from ops.drift import Cause
    from streamer.core.outputs import utc_text

    window = report.windows[-1]
    start, stop = (utc_text(at)[:16] + "Z" for at in window.span)
    stdout_console.print(
        f"{window.tracks:,} tracks from {start} to {stop} of {report.model}, beside what {report.base} was made for",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    chosen = [one for one in report.now if one.tag in tags] if tags else report.moved
    if chosen:
        print_table("", _COLUMNS, [_row(report, one) for one in chosen[:SHOWN]])
    if len(chosen) > SHOWN:
        note(f"... and {len(chosen) - SHOWN:,} tags more: --json has all.")
    if report.inputs:
        shown = ", ".join(f"{name} ({psi:.2f})" for name, psi in report.inputs[:SHOWN])
        stdout_console.print(f"upstream's probabilities that have moved: {shown}", markup=False, soft_wrap=True)
    counts = [f"{cause}: {report.count(cause)}" for cause in Cause if cause is not Cause.UNKNOWN or report.count(cause)]
    moved = f"{len(report.moved)} of {len(report.now)} tags have moved" if report.moved else "No tag has moved"
    stdout_console.print(f"{moved} ({', '.join(counts)}).", markup=False, soft_wrap=True)
    for text in report.notes:
        note(text)


_COLUMNS = ["tag", "made for", "model", "inputs", "thresholds", "now", "PSI scores", "PSI input", "moved by", "since"]


def _row(report: "Report", one: "TagDrift") -> list[object]:
    from streamer.core.outputs import utc_text

    steps = [
        f"{step:+.2%}" if abs(step) >= 0.00005 else "" for step in (one.by_model, one.by_inputs, one.by_thresholds)
    ]
    words = ", ".join(one.causes) + (" (far)" if one.far else "")
    since = utc_text(min(report.begun_ms(one.tag, cause) for cause in one.causes))[:16] + "Z" if one.causes else ""
    psi = "" if one.input_psi is None else f"{one.input_psi:.3f}"
    return [one.tag, f"{one.base:.2%}", *steps, f"{one.decided:.2%}", f"{one.score_psi:.3f}", psi, words, since]
