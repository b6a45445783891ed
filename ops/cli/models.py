"""`tagstream models`: which models there are, what they say of themselves, and whether they are what they say."""

from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, stdout_console, tell_obeyed
from ops.cli.train import ModelsDir, open_registry

app = typer.Typer(help="The models of the registry.", no_args_is_help=True)

ModelName = Annotated[str, typer.Argument(help="A model version or alias.")]
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
    from model.errors import ModelError
    from model.manifest import read_manifest

    registry = open_registry(models_dir)
    aliases = registry.aliases()
    models = []
    for version in registry.versions():
        names = sorted(alias for alias, target in aliases.items() if target == version)
        try:
            manifest = read_manifest(registry.models_dir / version)
        except ModelError as error:
            models.append({"model": version, "aliases": names, "error": str(error)})
            continue
        figures = manifest.get("metrics", {})
        measured = figures.get("valid") or figures.get("out_of_fold") or {}
        models.append(
            {
                "model": version,
                "aliases": names,
                "architecture": manifest["network"]["architecture"],
                "vocabulary": manifest["fingerprint"],
                "weighted_f1": measured.get("weighted_f1"),
            }
        )
    if json:
        emit_json({"models": models})
        return
    rows = [
        [
            entry["model"],
            ", ".join(entry["aliases"]),
            entry.get("architecture", "damaged"),
            entry.get("vocabulary", ""),
            "" if entry.get("weighted_f1") is None else f"{entry['weighted_f1']:.4f}",
        ]
        for entry in models
    ]
    print_table(f"{len(rows)} models", ["model", "aliases", "network", "vocabulary", "weighted F1"], rows)


@app.command("show", epilog="Example: tagstream models show champion")
def show(model: ModelName, models_dir: ModelsDir = None, json: JsonFlag = False) -> None:
    """A model's card; with --json its manifest without weights and golden rows."""
    from model.manifest import read_checked, read_manifest

    folder = open_registry(models_dir).path(model)
    manifest = read_manifest(folder)
    if json:
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


@app.command("promote", epilog='Example: tagstream models promote 20261122T094500Z-1a2b3c4d --why "better on moods"')
def promote(
    model: ModelName,
    *,
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "",
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the workers.")] = 30.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the workers.")] = False,
    json: JsonFlag = False,
) -> None:
    """Make a model the active one: verify it, write its table, tell the workers, name it champion.

    Thresholds that were edited under this model before are kept.
    """
    from ops.errors import OpsError
    from ops.thresholds_admin import ThresholdsAdmin
    from streamer.settings import load_settings

    admin = ThresholdsAdmin(load_settings())
    written = admin.promote(model, why)
    obeyed = {} if no_wait else admin.wait_obeyed(written, timeout)
    if json:
        emit_json({"model": written.model, "before": written.before, "thresholds": written.after, "obeyed_ms": obeyed})
    else:
        stdout_console.print(f"active model {written.before or '(none)'} -> {written.model}", markup=False)
        tell_obeyed(obeyed, "serves it")
        if not obeyed and not no_wait:
            note("No worker has reported yet: those that wait for a model begin now.")
    late = [name for name, took_ms in obeyed.items() if took_ms is None]
    if late:
        raise OpsError(f"named in Redis, but not served within {timeout:g} s by {', '.join(late)}: see their logs.")
