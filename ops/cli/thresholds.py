"""`tagstream thresholds`: see what is decided by, and change it while the stream runs."""

from typing import Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, stdout_console, tell_obeyed
from ops.errors import OpsError
from streamer.core.thresholds import threshold_text

app = typer.Typer(help="Thresholds: what a tag's score must reach. Changes are live at once.", no_args_is_help=True)

ModelOption = Annotated[str | None, typer.Option("--model", help="Version or alias (default: the active model).")]


@app.command("show", epilog="Example: tagstream thresholds show jazz piano")
def show(
    tags: Annotated[list[str] | None, typer.Argument(help="Only these tags.")] = None,
    *,
    model: ModelOption = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only tags that differ from the tuned value.")] = False,
    json: JsonFlag = False,
) -> None:
    """The live table beside the tuned one, and who decides by which version."""
    admin = _admin()
    live = admin.live(model)
    texts = live.table.as_hash()
    rows = []
    for class_name, names in ((c, live.vocabulary.classes[c]["tags"]) for c in live.vocabulary.classes):
        for tag in names:
            differs = texts[tag] != threshold_text(tag, live.tuned[tag])
            if (not tags or tag in tags) and (differs or not changed):
                rows.append({"class": class_name, "tag": tag, "tuned": live.tuned[tag], "live": texts[tag]})
    unknown = sorted(set(tags or ()) - set(texts))
    if unknown:
        raise OpsError(
            f"no tag {unknown[0]!r} in the vocabulary of {live.model}; the nearest: {_nearest(unknown[0], texts)}."
        )
    workers = admin.workers()
    if json:
        by = {name: beat.get("thresholds", "") for name, beat in workers.items()}
        answer = {"model": live.model, "thresholds": live.table.version, "tags": rows, "workers": by}
        emit_json({**answer, "refusal": live.refusal})
        return
    if live.refusal:
        note(f"{live.refusal}. Workers keep their last good table; what follows leaves the bad value out.")
    if not rows:
        note("No tag differs from its tuned threshold.")
    shown = [
        [row["class"], row["tag"], threshold_text(row["tag"], row["tuned"]), row["live"], _difference(row)]
        for row in rows
    ]
    title = f"model {live.model}, thresholds {live.table.version}"
    print_table(title, ["class", "tag", "tuned", "live", "difference"], shown)
    for name, beat in workers.items():
        stdout_console.print(f"worker {name} decides by {beat.get('thresholds', '?')}", markup=False)


@app.command("set", epilog='Example: tagstream thresholds set jazz=0.35 live=off --why "too many covers"')
def set_(
    changes: Annotated[list[str], typer.Argument(help="TAG=VALUE: a number in [0, 1], or off.")],
    *,
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "",
    model: ModelOption = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the workers.")] = 10.0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the workers.")] = False,
    json: JsonFlag = False,
) -> None:
    """Change thresholds; waits until every live worker obeys and says how long each took."""
    admin = _admin()
    parsed = [_parse(change) for change in changes]
    values = dict(parsed)
    if len(values) < len(parsed):
        raise OpsError("a tag is named twice.")
    live = admin.live(model)
    before = live.table.as_hash()
    written = admin.change(live, values, why)
    active = admin.active_model() == written.model
    obeyed = {} if no_wait or not active else admin.wait_obeyed(written, timeout)
    late = [name for name, took_ms in obeyed.items() if took_ms is None]
    if json:
        emit_json({"model": written.model, "before": written.before, "thresholds": written.after, "obeyed_ms": obeyed})
    else:
        for tag, value in values.items():
            stdout_console.print(f"{tag}: {before[tag]} -> {value}", markup=False)
        stdout_console.print(f"thresholds {written.before} -> {written.after} of model {written.model}", markup=False)
        tell_obeyed(obeyed, "obeys")
        if not active:
            note("This model is not the active one: no worker decides by it now.")
        elif not obeyed and not no_wait:
            note("No worker is running.")
    if late:
        raise OpsError(f"written, but not obeyed within {timeout:g} s by {', '.join(late)}.")


def _admin() -> Any:
    from ops.thresholds_admin import ThresholdsAdmin
    from streamer.settings import load_settings

    return ThresholdsAdmin(load_settings())


def _parse(change: str) -> tuple[str, str]:
    tag, equals, value = change.rpartition("=")
    if not equals or not tag:
        raise OpsError(f"{change!r} is not TAG=VALUE, such as jazz=0.35 or live=off.")
    return tag, value


def _difference(row: dict[str, Any]) -> str:
    if "off" in (row["live"], row["tuned"]):
        return "" if row["live"] == row["tuned"] else "off" if row["live"] == "off" else "on"
    delta = float(row["live"]) - row["tuned"]
    return f"{delta:+.6f}" if delta else ""


def _nearest(tag: str, known: dict[str, str]) -> str:
    import difflib

    return ", ".join(difflib.get_close_matches(tag, known, 3, cutoff=0.3)) or "none"
