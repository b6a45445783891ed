"""`tagstream score`: the offline twin of the stream, the same network and the same rule over a data set of any size."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, progress_bar
from ops.cli.produce import choose_split
from ops.cli.train import ModelsDir, open_registry
from ops.errors import OpsError

if TYPE_CHECKING:
    from model.artifact import Artifact
    from ops.catalogue import Decide
    from ops.catalogue_formats import Format
    from streamer.core.layout import Layout
    from streamer.core.thresholds import ThresholdTable

EPILOG = "Example: tagstream score --model champion --data data/jamendo-hot/val --out decisions.parquet"
BATCH = 512  # tracks per forward pass: fastest on a core, see docs


class OutFormat(StrEnum):
    PARQUET = "parquet"
    CHALLENGE = "challenge"


def score(
    *,
    model: Annotated[str, typer.Option(help="A model version or alias.")],
    data: Annotated[Path, typer.Option(help="A data set, labels not needed; of one with splits, val is taken.")],
    out: Annotated[Path, typer.Option(help="What to write: a Parquet file; see --format.")],
    form: Annotated[
        OutFormat,
        typer.Option(
            "--format",
            help="parquet: track_id, tags, scores, model, thresholds. challenge: 0/1 in the challenge's own layout, a "
            "folder --out with output_<class>_tags_data.csv for each class, or one CSV of all tags where --out ends "
            "with .csv.",
        ),
    ] = OutFormat.PARQUET,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what another run has left undone.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over the file that --out names.")] = False,
    models_dir: ModelsDir = None,
    json: JsonFlag = False,
) -> None:
    """Decide a data set under the model's tuned thresholds and write tags and scores of every track.

    The data is read and written a part at a time, in a folder OUT.partial beside OUT; OUT itself appears when it is
    whole. A run that was killed goes on where it was with the same command.
    """
    import torch

    from model.rows import Rows
    from ops import catalogue
    from streamer.core.layout import Layout
    from streamer.core.thresholds import ThresholdTable

    _check_out(out, form)
    artifact = open_registry(models_dir).load(model)
    rows = Rows(choose_split(data, None), tell=note)
    if rows.vocabulary.fingerprint != artifact.vocabulary.fingerprint:
        raise OpsError(
            f"{rows.directory} has the vocabulary {rows.vocabulary.fingerprint}, the model has "
            f"{artifact.vocabulary.fingerprint}."
        )
    layout = Layout.build(artifact.vocabulary.fingerprint, artifact.vocabulary.to_dict())
    table = ThresholdTable.build(layout.tags, {}, artifact.thresholds)
    made = _format(form, out, layout, artifact.version, table.version)
    run = catalogue.Run(out, made, {"model": artifact.version}, catalogue.ROWS_PER_PART)
    started_s = time.perf_counter()
    # A thread a core, each with whole batches of its own: the threads of one batch would spin while they wait for
    # each other (measured with other work on the machine: half the tracks a second of CPU time).
    threads = ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,))
    with threads, progress_bar() as bar:
        task = bar.add_task("scoring", total=rows.about())

        def progress(done: catalogue.Done) -> None:
            bar.update(task, completed=done.tracks)

        try:
            done, before = run.write(rows, _decider(artifact, layout, table, threads), restart, progress, force)
            bar.update(task, total=done.tracks)  # that of CSV was a guess
        except KeyboardInterrupt:
            note("Interrupted: the same command goes on where this one was.")
            raise
    seconds = time.perf_counter() - started_s
    if json:
        about = {"model": artifact.version, "thresholds": table.version}
        emit_json({"tracks": done.tracks, "tags": done.tags, **about, "resumed_at": before, "seconds": seconds})
        return
    again = f", the first {before:,} of them by an earlier run" if before else ""
    what = f"{done.tracks:,} tracks of {rows.directory}{again}, {done.tags:,} tags"
    note(f"{what}, {artifact.version}, thresholds {table.version}: {out}")
    note(f"{seconds:.1f} s, {(done.tracks - before) / seconds:,.0f} tracks/s")


def _decider(artifact: "Artifact", layout: "Layout", table: "ThresholdTable", threads: ThreadPoolExecutor) -> "Decide":
    """Score and decide a stretch."""
    import numpy as np

    from model.rows import Stretch
    from ops.catalogue_formats import Part
    from streamer.core.decide import decide, tag_classes

    classes = tag_classes(layout)

    def of(stretch: Stretch) -> Part:
        inputs = stretch.probabilities  # [N, F]
        batches = [inputs[start : start + BATCH] for start in range(0, len(inputs), BATCH)]
        scores = np.concatenate(list(threads.map(artifact.score, batches)))  # [N, T]
        return Part(stretch.track_ids, scores, decide(scores, table.values, classes))

    return of


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_out(out: Path, form: OutFormat) -> None:
    folder = form is OutFormat.CHALLENGE and out.suffix != ".csv"
    if form is OutFormat.PARQUET and out.suffix == ".csv":
        raise OpsError(f"{out} would hold Parquet: name it .parquet, or say --format challenge for a CSV.")
    if not folder and out.is_dir():
        raise OpsError(f"{out} is a folder; --out names the file to write.")
    if folder and out.exists() and not out.is_dir():
        raise OpsError(f"{out} is a file; --format challenge writes a folder, or one file where --out ends with .csv.")


def _format(form: OutFormat, out: Path, layout: "Layout", model: str, thresholds: str) -> "Format":
    from ops.catalogue_formats import ChallengeCsv, DecisionsParquet

    if form is OutFormat.CHALLENGE:
        return ChallengeCsv(layout, one_file=out.suffix == ".csv")
    return DecisionsParquet(layout, model, thresholds)
