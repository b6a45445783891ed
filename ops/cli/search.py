"""`tagstream search`: a better configuration, found on the training data alone."""

import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar, stdout_console
from ops.cli.train import (
    ModelsDir,
    check_free_alias,
    open_registry,
    reported_figures,
    tell_trained,
    train_and_register,
)
from ops.errors import OpsError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from model.search import Search

EPILOG = "Example: tagstream search --data data/jamendo-hot --trials 40 --train --alias challenger"
FOLDER = "searches"  # in the folder of models
SHOWN = 5  # trials of the table


def search(
    *,
    data: Annotated[Path, typer.Option(help="A data set; of one with train/ and val/, only train is looked at.")],
    trials: Annotated[int, typer.Option(help="How many in all, those of earlier runs included.")],
    space: Annotated[str, typer.Option(help="ours, or study: the study's five parameters.")] = "ours",
    study: Annotated[
        str | None, typer.Option(help="Its name; the same name goes on (default: data and space).")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Where trials are kept: a file, redis://..., or a database URL.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    timeout: Annotated[float | None, typer.Option(min=0, help="Start no trial after so many seconds.")] = None,
    train: Annotated[bool, typer.Option("--train", help="Train the winner and register it.")] = False,
    alias: Annotated[str | None, typer.Option(help="With --train: point this alias at the new model.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report (default: beside the models).")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of what is proposed, and of every trial.")] = 0,
    models_dir: ModelsDir = None,
    json: JsonFlag = False,
) -> None:
    """Search for a better configuration; resumable, and shared by as many processes as use its storage."""
    from model import search_space, search_storage
    from ops.search_workers import Request, open_request, told_plainly

    registry = open_registry(models_dir)
    _check(trials, train, alias, registry)
    search_space.find(space)
    study = study or f"{data.resolve().name}-{space}"
    search_storage.check_name(study)
    folder = registry.models_dir / FOLDER / study
    out = out or folder
    place = storage or str(folder / search_storage.JOURNAL)
    cores = os.cpu_count() or 1
    request = Request(
        data, place, study, space, trials, seed, math.inf if timeout is None else timeout, max(cores // workers, 1)
    )
    opened = open_request(request)
    started = time.perf_counter()
    try:
        with told_plainly(place):
            _run(opened, request, workers)
            found = _results(opened, out)
    except KeyboardInterrupt:
        shown = search_storage.hide_password(place)
        note(f"Stopped; every finished trial is kept in {shown}: the same command goes on.")
        raise
    found |= {"storage": search_storage.hide_password(place), "seconds": round(time.perf_counter() - started, 1)}
    if not json:
        _show(opened, found)
    if train:
        found |= _train(Path(found["config"]), data, alias, models_dir, seed, json)
    if json:
        emit_json(found)


def _check(trials: int, train: bool, alias: str | None, registry: Any) -> None:
    if trials < 1:
        raise OpsError(f"--trials is at least 1, not {trials}.")
    if alias is not None:
        if not train:
            raise OpsError("--alias names the model that --train makes: give both.")
        check_free_alias(registry, alias)


def _run(opened: "Search", request: Any, workers: int) -> None:
    from model import search
    from ops.search_workers import run_workers

    with progress_bar() as bar:
        task = bar.add_task("searching", total=request.trials)
        told = {trial.number for trial in opened.study.get_trials(deepcopy=False) if trial.state.is_finished()}
        if told:
            note(f"Going on with '{request.study}': {len(told)} trials have ended before.")

        def ended() -> None:
            """Tell each trial that has ended, whoever ran it, and what is being done."""
            known = opened.study.get_trials(deepcopy=False)
            for trial in known:
                if trial.state.is_finished() and trial.number not in told:
                    told.add(trial.number)
                    note(_line(trial, opened))
            done, total = search.settled(known, request.trials)
            running = sum(not trial.state.is_finished() and bool(trial.params) for trial in known)
            bar.update(task, completed=done, total=total, description=f"{running} running{_best(opened)}")

        if workers > 1:
            run_workers(request, workers, ended)
            return
        search.run(
            opened,
            request.trials,
            tell=lambda what, done, total: bar.update(
                task, description=what + _best(opened), completed=done, total=total
            ),
            deadline=time.monotonic() + request.timeout_s,
            ended=ended,
        )


def _results(opened: "Search", out: Path) -> dict[str, Any]:
    """The report, and the figures of `--json`."""
    from model import search, search_report

    files = search_report.write(opened.study, opened.space, out)
    winner = search.best(opened.study)
    if winner is None:
        raise OpsError(f"No trial was completed, so there is no winner; {files[search_report.TABLE]} says why.")
    return {
        "study": opened.study.study_name,
        "space": opened.space.name,
        "objective": opened.space.objective,
        "trials": search_report.count(opened.study.get_trials(deepcopy=False)),
        "upstream": opened.study.user_attrs[search.UPSTREAM],
        "best": {"trial": winner.number, "value": winner.value, "params": winner.params},
        "config": str(files[search_report.WINNER]),
        "report": str(files[search_report.PAGE]),
    }


def _train(
    config: Path, data: Path, alias: str | None, models_dir: Path | None, seed: int, json: bool
) -> dict[str, Any]:
    from model import config as configs

    settings = configs.load(str(config))
    version, trained = train_and_register(data, None, settings, alias, models_dir, seed, "tagstream search --train")
    if not json:
        tell_trained(version, trained, settings)
    weighted_f1 = reported_figures(trained)["weighted_f1"]
    return {"model": version, "weighted_f1": weighted_f1, "served": trained.metrics["served"]}


def _show(opened: "Search", found: dict[str, Any]) -> None:
    from model import search_report

    ranked = search_report.ranking(opened.study.get_trials(deepcopy=False), opened.space)[:SHOWN]
    rows = [search_report.columns(trial, opened.space) for trial in ranked]
    fields = ["trial", opened.space.objective, "seconds", "weights", *opened.space.ranges]
    values = [[name, *(row[name] for row in rows)] for name in fields]
    counted = ", ".join(f"{number} {name}" for name, number in found["trials"].items() if number)
    print_table(f"The best of {counted}", ["", *(str(place + 1) for place in range(len(rows)))], values)
    note(search_report.against_upstream(opened.study, opened.space, ranked[0]))
    stdout_console.print(f"report  {found['report']}", markup=False, soft_wrap=True)
    stdout_console.print(f"winner  {found['config']}", markup=False, soft_wrap=True)


def _line(trial: "FrozenTrial", opened: "Search") -> str:
    from optuna.trial import TrialState

    from model import search, search_life

    seconds = f"{trial.duration.total_seconds():.0f} s" if trial.duration else ""
    if trial.state == TrialState.COMPLETE:
        winner = search.best(opened.study)
        mark = ", the best so far" if winner is not None and winner.number == trial.number else ""
        return f"trial {trial.number}: {opened.space.objective} {trial.value:.4f} in {seconds}{mark}"
    why = trial.user_attrs.get(search_life.WHY)
    if trial.state == TrialState.PRUNED:
        return f"trial {trial.number}: pruned after {len(trial.intermediate_values)} epochs{f', {why}' if why else ''}"
    return f"trial {trial.number}: failed, {why or 'nobody knows why'}"


def _best(opened: "Search") -> str:
    from model import search

    winner = search.best(opened.study)
    return "" if winner is None else f" | best {winner.value:.4f} (trial {winner.number})"
