"""`tagstream thresholds`: see what is decided by, foresee a change, make it while the stream runs, take it back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli import thresholds_drift, thresholds_files, thresholds_history, thresholds_preview
from ops.cli.output import JsonFlag, emit_json, note, print_table, stdout_console
from ops.cli.thresholds_values import parse_changes
from ops.cli.thresholds_window import LastOption, SinceOption, window_of
from ops.cli.thresholds_write import (
    FromOption,
    ModelOption,
    NoWaitOption,
    TimeoutOption,
    WhyOption,
    changes_of,
    open_admin,
    refuse_stale,
    tell_written,
)
from streamer.core.thresholds import threshold_text

if TYPE_CHECKING:
    from ops.thresholds_admin import Live
    from ops.thresholds_preview import Lately

app = typer.Typer(help="Thresholds: what a tag's score must reach. Changes are live at once.", no_args_is_help=True)


@app.command("show", epilog="Example: tagstream thresholds show jazz piano")
def show(
    tags: Annotated[list[str] | None, typer.Argument(help="Only these tags.")] = None,
    *,
    model: ModelOption = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only tags that differ from the tuned value.")] = False,
    last: LastOption = None,
    since: SinceOption = None,
    no_scores: Annotated[bool, typer.Option("--no-scores", help="Only the table: read no retained scores.")] = False,
    json: JsonFlag = False,
) -> None:
    """The live table beside the tuned one, what it has decided lately, and who decides by which version.

    Near misses are tracks whose score is within a tenth below the threshold.
    """
    admin = open_admin()
    live = admin.live(model)
    for tag in tags or ():
        live.number_of(tag)
    workers = admin.workers()
    window = None if no_scores else window_of(live, last, since)
    tracks = window.tracks if window is not None else 0
    found: dict[str, Lately] = {}
    if window is not None:
        from ops.thresholds_preview import lately

        found = lately(window, live.table)
    rows = [row for row in _rows(live, found, tracks) if not tags or row["tag"] in tags]
    if changed:
        rows = [row for row in rows if row["live"] != threshold_text(row["tag"], row["tuned"])]
    if json:
        by = {name: beat.get("thresholds", "") for name, beat in workers.items()}
        answer = {"model": live.model, "thresholds": live.table.version, "tags": rows, "workers": by}
        emit_json({**answer, "tracks": tracks, "refusal": live.refusal})
        return
    if live.refusal:
        note(f"{live.refusal}. Workers keep their last good table; what follows leaves the bad value out.")
    tracks_word = f", decided of {tracks:,} tracks" if tracks else ""
    stdout_console.print(f"model {live.model}, thresholds {live.table.version}{tracks_word}", markup=False)
    for class_name in live.vocabulary.classes:
        _print_class(class_name, [row for row in rows if row["class"] == class_name])
    if not rows:
        note("No tag differs from its tuned threshold.")
    for name, beat in workers.items():
        stdout_console.print(f"worker {name} decides by {beat.get('thresholds', '?')}", markup=False)


def _rows(live: "Live", found: "dict[str, Lately]", tracks: int) -> list[dict[str, Any]]:
    """Class by class, what is known of each tag."""
    texts = live.table.as_hash()
    rows = []
    for class_name, lists in live.vocabulary.classes.items():
        for tag in lists["tags"]:
            seen = found.get(tag)
            rows.append(
                {
                    "class": class_name,
                    "tag": tag,
                    "tuned": live.tuned[tag],
                    "live": texts[tag],
                    "decided": seen.decided if seen else None,
                    "share": seen.decided / tracks if seen else None,
                    "near_misses": seen.near_misses if seen else None,
                }
            )
    return rows


def _print_class(title: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    columns = ["tag", "tuned", "live", "difference"]
    shown = [[row["tag"], threshold_text(row["tag"], row["tuned"]), row["live"], _difference(row)] for row in rows]
    if rows[0]["share"] is not None:
        columns += ["decided", "near misses"]
        for cells, row in zip(shown, rows, strict=True):
            cells += [f"{row['share']:.2%}", row["near_misses"]]
    print_table(title, columns, shown)


def _difference(row: dict[str, Any]) -> str:
    if "off" in (row["live"], row["tuned"]):
        return "" if row["live"] == row["tuned"] else "off" if row["live"] == "off" else "on"
    delta = float(row["live"]) - row["tuned"]
    return f"{delta:+.6f}" if delta else ""


@app.command("set", epilog='Example: tagstream thresholds set jazz=0.35 live=off --why "too many covers"')
def set_(
    changes: Annotated[list[str], typer.Argument(help="TAG=VALUE: a number in [0, 1], or off.")],
    *,
    why: WhyOption = "",
    model: ModelOption = None,
    from_: FromOption = None,
    timeout: TimeoutOption = 10.0,
    no_wait: NoWaitOption = False,
    json: JsonFlag = False,
) -> None:
    """Change thresholds, all at once; waits until every live worker of the model obeys, and says how long each took."""
    values = parse_changes(changes)
    admin = open_admin()
    live = admin.live(model)
    refuse_stale(live, from_)
    made = changes_of(live, admin.stage(live, values).as_hash())
    written = admin.change(live, values, why)
    tell_written(admin, written, made, timeout_s=timeout, no_wait=no_wait, json=json)


app.command("apply", epilog=thresholds_files.APPLY_EPILOG)(thresholds_files.apply)
app.command("export", epilog=thresholds_files.EXPORT_EPILOG)(thresholds_files.export)
app.command("diff", epilog=thresholds_history.DIFF_EPILOG)(thresholds_history.diff)
app.command("preview", epilog=thresholds_preview.PREVIEW_EPILOG)(thresholds_preview.preview)
app.command("suggest", epilog=thresholds_preview.SUGGEST_EPILOG)(thresholds_preview.suggest)
app.command("drift", epilog=thresholds_drift.EPILOG)(thresholds_drift.drift)
app.command("history", epilog=thresholds_history.HISTORY_EPILOG)(thresholds_history.history)
app.command("rollback", epilog=thresholds_history.ROLLBACK_EPILOG)(thresholds_history.rollback)
