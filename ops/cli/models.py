"""`tagstream models`: which there are, whether they are what they say, and which one is the champion, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, stdout_console, tell_obeyed
from ops.cli.train import ModelsDir, load_for, open_registry

if TYPE_CHECKING:
    from model.alias_history import Change, Period
    from model.listed import Listed
    from ops.thresholds_admin import Written

app = typer.Typer(help="The models of the registry.", no_args_is_help=True)

ModelName = Annotated[str, typer.Argument(help="A model version or alias.")]
Why = Annotated[str, typer.Option(help="The reason, for the history.")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds to wait for the workers.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the workers.")]
SHOWN = (
    "format",
    "version",
    "created_at",
    "network",
    "fingerprint",
    "vocabulary",
    "metrics",
    "training",
    "data",
    "seeds",
)


@app.command("list", epilog="Example: tagstream models list")
def list_models(models_dir: ModelsDir = None, json: JsonFlag = False) -> None:
    """All models, oldest first, with their aliases."""
    from model.listed import listed
    from model.served import title

    registry = open_registry(models_dir)
    registry.check_folder()
    models = listed(registry)
    if json:
        emit_json({"models": [_listed(one) for one in models]})
        return
    rows = [
        [
            one.version,
            ", ".join(one.aliases),
            "damaged" if one.error else title(one.served),
            one.fingerprint,
            "" if one.weighted_f1 is None else f"{one.weighted_f1:.4f}",
        ]
        for one in models
    ]
    print_table(f"{len(rows)} models", ["model", "aliases", "serves", "vocabulary", "weighted F1"], rows)


def _listed(one: "Listed") -> dict[str, Any]:
    if one.error:
        return {"model": one.version, "aliases": one.aliases, "error": one.error}
    return {
        "model": one.version,
        "aliases": one.aliases,
        "architecture": one.network,
        "served": one.served,
        "vocabulary": one.fingerprint,
        "weighted_f1": one.weighted_f1,
    }


@app.command("show", epilog="Example: tagstream models show champion --vocabulary")
def show(
    model: ModelName,
    vocabulary: Annotated[
        bool, typer.Option("--vocabulary", help="The names in the order that arrays of events follow, for upstream.")
    ] = False,
    models_dir: ModelsDir = None,
    json: JsonFlag = False,
) -> None:
    """A model's card; with --json its manifest without weights and golden rows."""
    from model.manifest import read_checked, read_manifest

    folder = open_registry(models_dir).path(model)
    manifest = read_manifest(folder)
    if vocabulary:
        _show_vocabulary(manifest, json)
    elif json:
        emit_json({name: manifest[name] for name in SHOWN if name in manifest})
    elif "README.md" in manifest["files"]:
        stdout_console.print(read_checked(folder, manifest, "README.md").decode("utf-8", "replace"), markup=False)
    else:
        rows = [[name, str(manifest[name])] for name in SHOWN if name in manifest and name != "vocabulary"]
        print_table(manifest["version"], ["", ""], rows)


@app.command("verify", epilog="Example: tagstream models verify champion")
def verify(model: ModelName, models_dir: ModelsDir = None, json: JsonFlag = False) -> None:
    """Check every file's checksum and score the golden inputs again."""
    from model.artifact import check_golden

    artifact = open_registry(models_dir).load(model, verify=True)
    within = check_golden(artifact)
    if json:
        emit_json({"model": artifact.version, "ok": True, "files": len(artifact.manifest["files"]), "within": within})
        return
    stdout_console.print(
        f"{artifact.version}: {len(artifact.manifest['files'])} files as recorded, golden decisions as recorded "
        f"({within} within one float16 step)",
        markup=False,
    )


def _show_vocabulary(manifest: dict[str, Any], json: bool) -> None:
    from model.vocabulary import CLASSES, LISTS, Vocabulary

    words = Vocabulary.from_json(manifest["vocabulary"])
    if json:
        emit_json({"model": manifest["version"], "fingerprint": words.fingerprint, "vocabulary": words.to_dict()})
        return
    rows = [
        [f"{class_name}.{list_name}", place, name]
        for class_name in CLASSES
        for list_name in LISTS
        for place, name in enumerate(words.classes[class_name][list_name])
    ]
    print_table(f"vocabulary {words.fingerprint} of {manifest['version']}", ["list", "place", "name"], rows)


@app.command("history", epilog="Example: tagstream models history --on 2026-11-22")
def history(
    *,
    alias: Annotated[str, typer.Option(help="Of which alias.")] = "champion",
    on: Annotated[
        str | None, typer.Option(help="A day (2026-11-22) or a moment (2026-11-22T09:45), in UTC: what it named then.")
    ] = None,
    models_dir: ModelsDir = None,
    json: JsonFlag = False,
) -> None:
    """Which version an alias named when, since whom, and why."""
    from model import alias_history

    registry = open_registry(models_dir)
    registry.check_folder()
    registry.check_known_alias(alias)
    changes = registry.changes(alias)
    periods = alias_history.periods(changes)
    if on is not None:
        periods = alias_history.on(periods, on)
    if json:
        shown = {"alias": alias, "on": on, "periods": [_period(period) for period in periods]}
        emit_json(shown if on else {**shown, "changes": [_change(change) for change in changes]})
        return
    if not periods:
        stdout_console.print(f"{alias} named no version" + (f" on {on}" if on else ""), markup=False)
    for entry in map(_period, periods):
        until = f"to {entry['until']}" if entry["until"] else "until now"
        said = f"{entry['action']} by {entry['who']}" + (f": {entry['why']}" if entry["why"] else "")
        stdout_console.print(f"{entry['model']}  {entry['since']} {until}  {said}", markup=False, soft_wrap=True)
    for change in changes if on is None else ():
        if not change.took_effect:
            note(f"{change.at:%Y-%m-%d %H:%M:%S}: {change.action} of {change.after} by {change.who} never took effect.")


def _period(period: "Period") -> dict[str, str | None]:
    change = period.change
    return {
        "model": period.model,
        "since": period.since.isoformat(timespec="seconds"),
        "until": period.until.isoformat(timespec="seconds") if period.until else None,
        "action": change.action,
        "who": change.who,
        "why": change.why,
    }


def _change(change: "Change") -> dict[str, Any]:
    return {**vars(change), "at": change.at.isoformat(timespec="milliseconds")}


@app.command("promote", epilog='Example: tagstream models promote 20261122T094500Z-1a2b3c4d --why "better on moods"')
def promote(
    model: ModelName,
    *,
    why: Why = "",
    data: Annotated[
        Path | None, typer.Option(help="A labelled data set to measure both on, instead of comparing what they carry.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even if it is worse; --why says why.")] = False,
    timeout: Timeout = 30.0,
    no_wait: NoWait = False,
    json: JsonFlag = False,
) -> None:
    """Make a model the active one: verify it, write its table, tell the workers, name it champion.

    A model whose weighted F1 is worse than the champion's beyond the noise is refused. They are compared on what both
    were measured on: the same reported split, else out of fold on the same training data, or on --data.

    Data that either of them learnt from says nothing, and is refused.

    Thresholds that were edited under this model before are kept.
    """
    from model.manifest import read_manifest
    from model.vocabulary import Vocabulary
    from ops import promotion
    from ops.thresholds_admin import ThresholdsAdmin
    from streamer.settings import load_settings

    admin, registry = ThresholdsAdmin(load_settings()), open_registry(None)
    dataset = None
    if data is not None:
        dataset = load_for(Vocabulary.from_json(read_manifest(registry.path(model))["vocabulary"]), data)
    weighed = promotion.weigh(admin, registry, model, dataset, str(data), flattery_allowed=force)
    written = promotion.promote(admin, weighed, why, force=force)
    contest = weighed.contest
    if contest is not None:
        note(f"{contest.sentence()}.")
    elif weighed.why_not:
        note(f"Not compared with the champion {weighed.champion}: {weighed.why_not}.")
    compared = {**vars(contest), "worse": contest.worse} if contest is not None else None
    _tell(admin, written, timeout, no_wait, json, {"comparison": compared})


@app.command("rollback", epilog='Example: tagstream models rollback --why "too many moods"')
def rollback(
    *,
    why: Why = "",
    timeout: Timeout = 30.0,
    no_wait: NoWait = False,
    json: JsonFlag = False,
) -> None:
    """Go back to the champion before, by the path of a promotion; once more goes back one further.

    Thresholds that were edited under that model are in effect again.
    """
    from ops import promotion
    from ops.thresholds_admin import ThresholdsAdmin
    from streamer.settings import load_settings

    admin = ThresholdsAdmin(load_settings())
    _tell(admin, promotion.roll_back(admin, open_registry(None), why), timeout, no_wait, json, {})


def _tell(admin: Any, written: "Written", timeout_s: float, no_wait: bool, json: bool, more: dict[str, Any]) -> None:
    """What was written and who serves it; an error where a worker does not in time."""
    from ops.errors import OpsError

    obeyed = {} if no_wait else admin.wait_obeyed(written, timeout_s)
    if json:
        emit_json(
            {"model": written.model, "before": written.before, "thresholds": written.after, "obeyed_ms": obeyed, **more}
        )
    else:
        stdout_console.print(f"active model {written.before or '(none)'} -> {written.model}", markup=False)
        tell_obeyed(obeyed, "serves it")
        if not obeyed and not no_wait:
            note("No worker has reported yet: those that wait for a model begin now.")
    late = [name for name, took_ms in obeyed.items() if took_ms is None]
    if late:
        raise OpsError(f"named in Redis, but not served within {timeout_s:g} s by {', '.join(late)}: see their logs.")
