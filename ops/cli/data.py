"""`tagstream data`: make a simulated catalogue, or say what a data set holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar, stderr_console, stdout_console
from ops.errors import OpsError

if TYPE_CHECKING:
    from model.dataset import Dataset

app = typer.Typer(help="Data sets: make one, or look at one.", no_args_is_help=True)


@app.command("synthesize", epilog="Example: tagstream data synthesize --tracks 20000 --out data/simulated")
def synthesize(
    *,
    tracks: Annotated[int, typer.Option(min=20, max=10_000_000, help="How many tracks, a quarter of them val.")],
    out: Annotated[Path, typer.Option(help="The folder to write train/ and val/ into.")],
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same bytes.")] = 0,
    over_confidence: Annotated[
        float, typer.Option(min=-5, max=5, help="By how much the upstream's logits are too high; 0: calibrated.")
    ] = 0.8,
    force: Annotated[bool, typer.Option("--force", help="Write over the train/ and val/ that are there.")] = False,
    json: JsonFlag = False,
) -> None:
    """A simulated catalogue: 248 correlated tags, 40 categories, an over-confident upstream."""
    from model import synthetic

    there = [split for split in ("train", "val") if (out / split).is_dir() and any((out / split).iterdir())]
    if there and not force:
        raise OpsError(f"{out} holds a data set already ({' and '.join(there)}): choose another --out, or say --force.")
    with progress_bar() as bar:
        task = bar.add_task("a world", total=tracks)
        sizes = synthetic.synthesize(
            tracks,
            seed,
            out,
            progress=lambda what, done: bar.update(task, description=what, completed=done),
            over_confidence=over_confidence,
        )
    if json:
        emit_json({"out": str(out), "seed": seed, **sizes})
    else:
        note(f"{sizes['train']:,} tracks to train on, {sizes['val']:,} of other artists held out (seed {seed})")
        stdout_console.print(str(out), markup=False, soft_wrap=True)


@app.command("describe", epilog="Example: tagstream data describe data/simulated --out pictures")
def describe(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A data set, or a folder of splits.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write pictures (PNG) and a page, index.html, there.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Counts, frequencies and their Gini, how tags go together, how far the upstream can be trusted."""
    from model import catalogue_figures, describe_page

    if out is not None:
        describe_page.check_free(out)  # before minutes of work
    splits = _load(directory)
    figures = {}
    for name, split in splits.items():
        with stderr_console.status(f"{name}: {len(split):,} tracks"):
            figures[name] = catalogue_figures.describe(split)
    vocabulary = next(iter(splits.values())).vocabulary
    written = [] if out is None else _write(out, directory, splits, figures)
    if json:
        found = {"vocabulary": vocabulary.fingerprint, "splits": figures}
        emit_json(found if out is None else {**found, "files": [str(path) for path in written]})
        return
    for title, columns, rows in describe_page.tables(figures):
        print_table(f"{title} (vocabulary {vocabulary.fingerprint})" if title == "splits" else title, columns, rows)
    if written:
        note(f"{len(written) - 1} pictures, and a page with all of it:")
        stdout_console.print(str(written[0]), markup=False, soft_wrap=True)


def _load(directory: Path) -> "dict[str, Dataset]":
    from model.dataset import load, load_splits

    with stderr_console.status(f"reading {directory}"):
        if (directory / "train").is_dir():
            return load_splits(directory)
        return {directory.resolve().name: load(directory)}


def _write(out: Path, directory: Path, splits: "dict[str, Dataset]", figures: dict) -> list[Path]:
    from model import describe_page, describe_pictures

    with stderr_console.status("pictures"):
        shown = {name: describe_pictures.pictures(split, figures[name]) for name, split in splits.items()}
    return describe_page.write(out, directory.resolve().name, figures, shown)
