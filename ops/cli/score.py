"""`tagstream score`: the offline twin of the stream, the same network and the same rule over a data set of any size."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, progress_bar
from ops.cli.produce import choose_split
from ops.cli.train import ModelsDir, open_registry
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.catalogue_formats import Format
    from streamer.core.layout import Layout

EPILOG = "Example: tagstream score --model champion --data data/jamendo-hot/val --out decisions.parquet"


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
    models_dir: ModelsDir = None,
    json: JsonFlag = False,
) -> None:
    """Decide a data set under the model's tuned thresholds and write tags and scores of every track.

    The data is read and written a part at a time, in a folder OUT.partial beside OUT; OUT itself appears when it is
    whole. A run that was killed goes on where it was with the same command.
    """
    from model.rows import Rows, Stretch
    from ops import catalogue
    from ops.catalogue_formats import Part
    from streamer.core.decide import decide, tag_classes
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
    classes = tag_classes(layout)

    def decided(stretch: Stretch) -> Part:
        scores = artifact.score(stretch.probabilities)  # [B, T]
        return Part(stretch.track_ids, scores, decide(scores, table.values, classes))

    made = _format(form, out, layout, artifact.version, table.version)
    run = catalogue.Run(out, made, {"model": artifact.version}, catalogue.ROWS_PER_PART)
    started_s = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=rows.about())

        def progress(done: catalogue.Done) -> None:
            bar.update(task, completed=done.tracks)

        try:
            done, before = run.write(rows, decided, restart, progress)
            bar.update(task, total=done.tracks)  # that of CSV was a guess
        except KeyboardInterrupt:
            note("Interrupted: the same command goes on where this one was.")
            raise
    seconds = time.perf_counter() - started_s
    if json:
        emit_json(
            {"tracks": done.tracks, "tags": done.tags, "model": artifact.version, "thresholds": table.version,
             "resumed_at": before, "seconds": round(seconds, 3)}
        )  # fmt: skip
        return
    rate = (done.tracks - before) / seconds
    again = f", the first {before:,} of them by an earlier run" if before else ""
    note(f"{done.tracks:,} tracks{again}, {done.tags:,} tags, {artifact.version}, thresholds {table.version}: {out}")
    note(f"{seconds:.1f} s, {rate:,.0f} tracks/s")


def _check_out(out: Path, form: OutFormat) -> None:
    folder = form is OutFormat.CHALLENGE and out.suffix != ".csv"
    if not folder and out.is_dir():
        raise OpsError(f"{out} is a folder; --out names the file to write.")
    if folder and out.exists() and not out.is_dir():
        raise OpsError(f"{out} is a file; --format challenge writes a folder, or one file where --out ends with .csv.")
    if folder and out.is_dir() and any(out.iterdir()):
        raise OpsError(f"{out} is not empty; --format challenge writes a new folder.")


def _format(form: OutFormat, out: Path, layout: "Layout", model: str, thresholds: str) -> "Format":
    from ops.catalogue_formats import ChallengeCsv, DecisionsParquet

    if form is OutFormat.CHALLENGE:
        return ChallengeCsv(layout, one_file=out.suffix == ".csv")
    return DecisionsParquet(layout, model, thresholds)
