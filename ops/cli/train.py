"""`tagstream train` and `tagstream evaluate`: a data set in, a model out; a model in, its figures out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import JsonFlag, count_from, emit_json, note, print_table, progress_bar, stdout_console
from ops.cli.produce import choose_split
from ops.errors import OpsError

if TYPE_CHECKING:
    from model.config import TrainingConfig
    from model.dataset import Dataset
    from model.registry import Registry
    from model.training import Trained
    from model.workfolder import WorkFolder

TRAIN_EPILOG = "Example: tagstream train --data data/jamendo-hot --config default --alias challenger"
EVALUATE_EPILOG = "Example: tagstream evaluate --model champion --data data/jamendo-hot/val"
INTERRUPTED = 130  # exit code, as shells give for Ctrl-C
FIGURES = ("weighted_f1", "micro_f1", "macro_f1", "bce", "accuracy", "ece")

ModelsDir = Annotated[Path | None, typer.Option(help="Folder of models (default: TAGSTREAM_MODELS_DIR).")]


def train(
    *,
    data: Annotated[Path, typer.Option(help="A data set; of one with train/ and val/, val is reported on.")],
    valid: Annotated[Path | None, typer.Option(help="Another data set to report on; it chooses nothing.")] = None,
    config: Annotated[
        str, typer.Option(help="default, demo (quick), linear, study, upstream, or a TOML file.")
    ] = "default",
    objective: Annotated[
        str | None,
        typer.Option(
            help="What thresholds are tuned for: f1, f-beta:0.5, precision:0.8, recall:0.9 or cost:5:1 (of a false "
            "positive and of a miss); with ,floor:0.1 a tag whose F1 is lower is off. Default: as the config says."
        ),
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Point this alias, such as challenger, at the new model.")] = None,
    models_dir: ModelsDir = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="The same gives the same model on this machine.")] = 0,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda or cuda:N.")] = "auto",
    restart: Annotated[bool, typer.Option("--restart", help="Discard what a broken-off training kept.")] = False,
    json: JsonFlag = False,
) -> None:
    """Train a model with tuned thresholds; prints its version.

    A training that is broken off, by Ctrl-C or otherwise, goes on where it was when the same command is given again.
    """
    from model import config as configs
    from model.objective import Objective

    settings = configs.load(config)
    if objective is not None:
        settings = replace(settings, objective=Objective.parse(objective))
    version, trained = train_and_register(
        data, valid, settings, alias, models_dir, seed, "tagstream train", device=device, restart=restart
    )
    if json:
        weighted_f1 = reported_figures(trained)["weighted_f1"]
        emit_json({"model": version, "weighted_f1": weighted_f1, "seconds": trained.seconds})
        return
    tell_trained(version, trained, settings)


def train_and_register(
    data: Path,
    valid: Path | None,
    settings: "TrainingConfig",
    alias: str | None,
    models_dir: Path | None,
    seed: int,
    command: str,
    *,
    device: str = "auto",
    restart: bool = False,
) -> tuple[str, "Trained"]:
    """Train, save, and point the alias at it; returns version and model.

    Goes on where the same training was broken off, unless it is to `restart`.
    """
    from model import artifact, training, workfolder
    from model import device as devices
    from model.dataset import load, load_splits

    registry = open_registry(models_dir)
    if alias is not None:
        check_free_alias(registry, alias)
    chosen = devices.choose(device)
    splits = load_splits(data)
    reported = load(valid) if valid is not None else splits.get("val")
    if reported is not None and reported.labels is None:
        raise OpsError(f"{valid or data / 'val'} has no labels to report on.")

    facts = training.facts(splits["train"], settings, seed, chosen)
    with workfolder.open_folder(registry.models_dir, facts, restart) as work, _told_how_to_go_on(work):
        before_s = work.clock().before_s
        if work.parts():
            note(
                f"Going on where this training was broken off after {before_s:.0f} s (kept in {work.path}; --restart "
                "discards it)."
            )
        with progress_bar() as bar:
            task = bar.add_task("preparing", total=None)
            count_from(bar, task, before_s)
            trained = training.train(
                splits["train"],
                reported,
                settings,
                progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
                seed=seed,
                device=chosen,
                work=work,
            )
        version = artifact.save(trained, registry.models_dir)
        work.delete()
    if alias is not None:
        registry.set_alias(alias, version, who=_who(), why=f"{command} --alias")
    return version, trained


def check_free_alias(registry: "Registry", alias: str) -> None:
    """That a training may point this alias at what it makes, before it takes its time.

    Raises:
        OpsError: for the champion's: workers, and the way back, go by what `models promote` has weighed and written.
        ModelError: for what is no alias.
    """
    from model.registry import CHAMPION

    registry.check_alias(alias)
    if alias == CHAMPION:
        raise OpsError(
            f"A training does not name the {CHAMPION}: train without --alias, or with another, then `tagstream models "
            "promote VERSION` compares the new model with the present one and makes it the one that workers obey."
        )


def tell_trained(version: str, trained: "Trained", settings: "TrainingConfig") -> None:
    """What a training came to: its figures and how to go on on stderr, the version on stdout."""
    from model.served import title

    where = "on the reported split" if "valid" in trained.metrics else "out of fold"
    weighted_f1, served = reported_figures(trained)["weighted_f1"], title(trained.metrics["served"])
    note(f"weighted F1 {weighted_f1:.4f} {where}, served: {served}, {trained.seconds:.0f} s")
    if trained.network.config.architecture != settings.network.architecture:
        note(_why_no_network(trained))
    note(f"`tagstream models promote {version}` makes it the one that workers obey.")
    stdout_console.print(version, markup=False)


def _why_no_network(trained: "Trained") -> str:
    from model.training import FEWEST_TRACKS

    if trained.fits:
        return "Out of fold the network was no better than that beyond the noise, so it is not served."
    if trained.data["tracks"] < FEWEST_TRACKS:
        return f"A network takes {FEWEST_TRACKS} tracks to learn from; there are {trained.data['tracks']}."
    return "No track has a label, so there is nothing to learn."


def reported_figures(trained: "Trained") -> dict[str, Any]:
    """Those of the reported split, or out of fold where there is none."""
    return trained.metrics.get("valid", trained.metrics["out_of_fold"])


@contextmanager
def _told_how_to_go_on(work: "WorkFolder") -> Iterator[None]:
    """After Ctrl-C: what is kept, how to go on and how not to."""
    try:
        yield
    except KeyboardInterrupt:
        if work.parts():
            note(
                f"Interrupted: what was learnt so far is kept in {work.path}; the same command goes on from there, "
                "with --restart it begins anew."
            )
        else:
            note("Interrupted before anything was worth keeping: nothing is kept.")
        raise typer.Exit(INTERRUPTED) from None


def evaluate(
    *,
    model: Annotated[str, typer.Option(help="A model version or alias.")],
    data: Annotated[Path, typer.Option(help="A labelled data set; of one with train/ and val/, val is taken.")],
    models_dir: ModelsDir = None,
    json: JsonFlag = False,
) -> None:
    """Measure a model with its tuned thresholds, beside the 0.5 rule on the upstream."""
    from model import metrics
    from model.manifest import learnt_from
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
    if learnt_from(artifact.manifest, dataset.fingerprint()):
        note("This is what the model was trained on, so it flatters; out of fold: `tagstream models show`.")
    print_table(
        f"{artifact.version} on {len(dataset):,} tracks of {choose_split(data, None)}",
        ["", "this model", "0.5 rule"],
        rows,
    )


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

    dataset = load(choose_split(data, None))
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
