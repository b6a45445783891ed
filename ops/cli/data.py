"""`tagstream data`: make a simulated catalogue, or say what a data set holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, stderr_console, stdout_console
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
    force: Annotated[bool, typer.Option("--force", help="Write over the train/ and val/ that are there.")] = False,
    json: JsonFlag = False,
) -> None:
    """A simulated catalogue: 248 correlated tags, 40 categories, an over-confident upstream."""
    from model import synthetic

    there = [split for split in ("train", "val") if (out / split).is_dir() and any((out / split).iterdir())]
    if there and not force:
        raise OpsError(f"{out} holds a data set already ({' and '.join(there)}): choose another --out, or say --force.")
    with stderr_console.status("a world") as status:
        sizes = synthetic.synthesize(tracks, seed, out, progress=status.update)
    if json:
        emit_json({"out": str(out), "seed": seed, **sizes})
    else:
        note(f"{sizes['train']:,} tracks to train on, {sizes['val']:,} of other artists held out (seed {seed})")
        stdout_console.print(str(out), markup=False, soft_wrap=True)


@app.command("describe", epilog="Example: tagstream data describe data/jamendo-hot")
def describe(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A data set, or a folder of splits.")],
    json: JsonFlag = False,
) -> None:
    """Tracks, artists, tags, label density and the 0.5 rule's weighted F1 of each split."""
    from model.dataset import load, load_splits

    splits = load_splits(directory) if (directory / "train").is_dir() else {directory.name: load(directory)}
    vocabulary = next(iter(splits.values())).vocabulary
    described = {name: _figures(split) for name, split in splits.items()}
    counts = {
        name: {list_name: len(names) for list_name, names in lists.items()}
        for name, lists in vocabulary.classes.items()
    }
    if json:
        emit_json({"vocabulary": vocabulary.fingerprint, "classes": counts, "splits": described})
        return
    rows = [[name, lists["tags"], lists["categories"]] for name, lists in counts.items()]
    print_table(f"vocabulary {vocabulary.fingerprint}", ["class", "tags", "categories"], rows)
    names = list(next(iter(described.values())))
    rows = [[name, *("" if split[n] is None else split[n] for n in names)] for name, split in described.items()]
    print_table("splits", ["", *(name.replace("_", " ") for name in names)], rows)


def _figures(dataset: "Dataset") -> dict[str, float | int | None]:
    import numpy as np

    from model.training import benchmark

    labels = dataset.labels
    return {
        "tracks": len(dataset),
        "artists": None if dataset.artists is None else len(np.unique(dataset.artists)),
        "tags_per_track": None if labels is None else float(labels.sum(axis=1).mean()),
        "tags_without_a_positive": None if labels is None else int((labels.sum(axis=0) == 0).sum()),
        "weighted_f1_of_0.5_rule": None if labels is None else benchmark(dataset)["weighted_f1"],
    }
