"""`tagstream train` and `tagstream evaluate`: a data set in, a model out; a model in, its figures out."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar, stdout_console
from ops.errors import OpsError

if TYPE_CHECKING:
    from model.config import TrainingConfig
    from model.dataset import Dataset
    from model.training import Trained

TRAIN_EPILOG = "Example: tagstream train --data data/jamendo-hot --config default --alias champion"
EVALUATE_EPILOG = "Example: tagstream evaluate --model champion --data data/jamendo-hot/val"
FIGURES = ("weighted_f1", "micro_f1", "macro_f1", "bce", "accuracy", "ece")

ModelsDir = Annotated[Path | None, typer.Option(help="Folder of models (default: TAGSTREAM_MODELS_DIR).")]


def train(
    *,
    data: Annotated[Path, typer.Option(help="A data set; of one with train/ and val/, val is reported on.")],
    valid: Annotated[Path | None, typer.Option(help="Another data set to report on; it chooses nothing.")] = None,
    config: Annotated[
        str, typer.Option(help="default, demo (quick), linear, study, upstream, or a TOML file.")
    ] = "default",
    alias: Annotated[str | None, typer.Option(help="Point this alias, such as champion, at the new model.")] = None,
    models_dir: ModelsDir = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same model.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Train a model with tuned thresholds; prints its version."""
    from model import config as configs

    settings = configs.load(config)
    version, trained, seconds = train_and_register(data, valid, settings, alias, models_dir, seed, "tagstream train")

    figures = trained.metrics.get("valid", trained.metrics["out_of_fold"])
    if json:
        emit_json({"model": version, "weighted_f1": figures["weighted_f1"], "seconds": round(seconds, 1)})
        return
    where = f"on {data.name} held out" if "valid" in trained.metrics else "out of fold"
    note(f"weighted F1 {figures['weighted_f1']:.4f} {where}, served: {trained.metrics['served']}, {seconds:.0f} s")
    if trained.metrics["served"] == "upstream" and settings.network.architecture != "upstream":
        note("Out of fold the network did not beat per-tag thresholds on the upstream, so those are what is served.")
    stdout_console.print(version, markup=False)


def train_and_register(
    data: Path,
    valid: Path | None,
    settings: "TrainingConfig",
    alias: str | None,
    models_dir: Path | None,
    seed: int,
    command: str,
) -> tuple[str, "Trained", float]:
    """Train, save, and point the alias at it; returns version, model and seconds."""
    from model import artifact, training
    from model.dataset import load, load_splits

    registry = open_registry(models_dir)
    if alias is not None:
        registry.check_alias(alias)
    splits = load_splits(data)
    reported = load(valid) if valid is not None else splits.get("val")
    if reported is not None and reported.labels is None:
        raise OpsError(f"{valid or data / 'val'} has no labels to report on.")

    started = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("preparing", total=None)
        trained = training.train(
            splits["train"],
            reported,
            settings,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            seed=seed,
        )
        version = artifact.save(trained, registry.models_dir)
    if alias is not None:
        registry.set_alias(alias, version, who=_who(), why=f"{command} --alias")
    return version, trained, time.perf_counter() - started


def evaluate(
    *,
    model: Annotated[str, typer.Option(help="A model version or alias.")],
    data: Annotated[Path, typer.Option(help="A labelled data set; of one with train/ and val/, val is taken.")],
    models_dir: ModelsDir = None,
    json: JsonFlag = False,
) -> None:
    """Measure a model with its tuned thresholds, beside the 0.5 rule on the upstream."""
    from model import metrics
    from model.training import benchmark

    artifact = open_registry(models_dir).load(model)
    dataset = load_for(artifact.vocabulary, data)
    labels = dataset.need_labels()
    found = metrics.summary(labels, artifact.score(dataset.probabilities), artifact.threshold_row())
    rule = benchmark(dataset)
    if json:
        emit_json({**_chosen(found), "benchmark": _chosen(rule)})
        return
    rows = [[name, found[name], rule[name]] for name in FIGURES]
    print_table(f"{artifact.version} on {len(dataset):,} tracks", ["", "this model", "0.5 rule"], rows)


def open_registry(models_dir: Path | None):
    """The registry in `models_dir`, or in the folder that the settings name."""
    from model.registry import Registry
    from streamer.settings import load_settings

    return Registry(load_settings(models_dir=models_dir).models_dir)


def load_for(vocabulary: Any, data: Path) -> "Dataset":
    """A data set (of splits: val) whose columns are the model's, in the model's order.

    Raises:
        OpsError: where they are not.
    """
    from model.dataset import load

    dataset = load(data / "val" if (data / "val").is_dir() else data)
    if dataset.vocabulary.fingerprint != vocabulary.fingerprint:
        raise OpsError(
            f"{data} has the vocabulary {dataset.vocabulary.fingerprint}, the model has {vocabulary.fingerprint}."
        )
    return dataset


def _chosen(figures: dict[str, float]) -> dict[str, float]:
    return {name: figures[name] for name in FIGURES}


def _who() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return "unknown"
