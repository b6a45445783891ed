"""`tagstream thresholds apply | export`: the table as a file that is edited, reviewed, kept in version control."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table
from ops.cli.thresholds_write import (
    ModelOption,
    NoWaitOption,
    TimeoutOption,
    WhyOption,
    changes_of,
    open_admin,
    refuse_stale,
    tell_written,
)
from ops.errors import OpsError
from streamer.core.thresholds import BadThreshold

if TYPE_CHECKING:
    from ops.thresholds_admin import Live

APPLY_EPILOG = 'Example: tagstream thresholds apply table.yaml --why "the editors\' round of May"'
EXPORT_EPILOG = "Example: tagstream thresholds export --out table.yaml"


class Format(StrEnum):
    """How a table is written."""

    YAML = "yaml"
    CSV = "csv"


def apply(
    file: Annotated[Path, typer.Argument(help="YAML or CSV: the whole table, or some tags of it.")],
    *,
    why: WhyOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")] = False,
    newest: Annotated[
        bool, typer.Option("--newest", help="Even where the table has changed since the file was exported.")
    ] = False,
    model: ModelOption = None,
    timeout: TimeoutOption = 10.0,
    no_wait: NoWaitOption = False,
    json: JsonFlag = False,
) -> None:
    """Change thresholds as a file says, all of them at once; tags that it leaves out stay as they are.

    A file that was exported from another model is refused, and one that the table has moved on from since, unless
    --newest says so.
    """
    admin = open_admin()
    live = admin.live(model)
    values = file_texts(live, file, None if newest else live.table.version)
    after = admin.stage(live, values)
    changes = changes_of(live, after.as_hash())
    if dry_run:
        if json:
            answer = {"model": live.model, "before": live.table.version, "thresholds": after.version}
            emit_json({**answer, "changes": changes})
            return
        print_table(f"model {live.model}", ["tag", "live", str(file)], [[tag, *two] for tag, two in changes.items()])
        note(f"Tags that would change: {len(changes)}. Nothing is written.")
        return
    written = admin.change(live, values, why, action="apply")
    tell_written(admin, written, changes, timeout_s=timeout, no_wait=no_wait, json=json)


def file_texts(live: "Live", path: Path, version: str | None = None) -> dict[str, str]:
    """Tag -> text of a file, each valid; `version` is the one that the file must be made of, if it says one.

    Raises:
        OpsError: the file is none, is of another model or version, or has a tag or value that is none, with its line.
    """
    from ops.thresholds_files import read_table
    from streamer.core.thresholds import ThresholdTable

    found = read_table(path)
    if found.model and found.model != live.model:
        raise OpsError(f"{path} is of model {found.model[:60]}, these are the thresholds of {live.model}.")
    if version is not None and found.version and found.version != version:
        try:
            refuse_stale(live, found.version[:60])
        except OpsError as error:
            raise OpsError(f"{path} is out of date: {error} (--newest applies it all the same.)") from None
    try:
        ThresholdTable.build(live.vocabulary.tags, found.values, live.tuned)
    except BadThreshold as error:
        line = f", line {found.lines[error.tag]}" if error.tag in found.lines else ""
        raise OpsError(f"{path}{line}: {error}.") from None
    return dict(found.values)


def export(
    version: Annotated[str, typer.Argument(help="live, tuned, or a thresholds version (or its beginning).")] = "live",
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Write it there; .csv or .yaml (default: stdout).")] = None,
    format_: Annotated[Format | None, typer.Option("--format", help="yaml or csv.")] = None,
    model: ModelOption = None,
    json: JsonFlag = False,
) -> None:
    """The table as a file for `apply`, with the model and the version that it was made of."""
    from ops.thresholds_files import table_as_csv, table_as_yaml
    from ops.thresholds_history import table_named

    admin = open_admin()
    live = admin.live(model)
    table = table_named(admin, live, version)
    if json:
        emit_json({"model": live.model, "thresholds": table.version, "tags": table.as_hash()})
        return
    as_csv = format_ is Format.CSV if format_ else out is not None and out.suffix.lower() == ".csv"
    class_of = {tag: name for name, lists in live.vocabulary.classes.items() for tag in lists["tags"]}
    text = (table_as_csv if as_csv else table_as_yaml)(live.model, table.version, table.as_hash(), class_of)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OpsError(f"{out} cannot be written ({error.strerror}).") from None
    note(f"{len(table.tags)} thresholds of {live.model} in {out}")
