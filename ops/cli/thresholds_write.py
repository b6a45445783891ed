"""What every command that changes thresholds has in common: its options, and what it says once the change is made."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import emit_json, note, stdout_console, tell_obeyed
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.thresholds_admin import Live, ThresholdsAdmin, Written

SHOWN_CHANGES = 20

ModelOption = Annotated[str | None, typer.Option("--model", help="Version or alias (default: the active model).")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the history.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for the workers.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the workers.")]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="Only if this is the live version still: the one that you looked at."),
]


def open_admin() -> "ThresholdsAdmin":
    """This deployment's thresholds."""
    from ops.thresholds_admin import ThresholdsAdmin
    from streamer.settings import load_settings

    return ThresholdsAdmin(load_settings())


def refuse_stale(live: "Live", version: str | None) -> None:
    """Raise an OpsError where the live table is not the one that somebody started from."""
    if version and version != live.table.version:
        raise OpsError(
            f"the thresholds are {live.table.version} by now, not {version}: somebody has changed them since. "
            f"See `tagstream thresholds diff {version} live`, and start from there."
        )


def changes_of(live: "Live", after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The tags that differ from the live table, with both texts."""
    from ops.thresholds_history import differences

    return differences(live.table.as_hash(), after)


def short(text: str) -> str:
    """A canonical threshold without the zeros at its end."""
    return text.rstrip("0").removesuffix(".") if "." in text else text


def print_changes(changes: Mapping[str, tuple[str, str]], most: int = SHOWN_CHANGES) -> None:
    """One line per tag, the first so many."""
    for tag, (before, after) in list(changes.items())[:most]:
        stdout_console.print(f"{tag}: {before} -> {after}", markup=False)
    if len(changes) > most:
        stdout_console.print(f"... and {len(changes) - most} more tags", markup=False)


def tell_written(
    admin: "ThresholdsAdmin",
    written: "Written",
    changes: Mapping[str, tuple[str, str]],
    *,
    timeout_s: float,
    no_wait: bool,
    json: bool,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Wait for the workers of that model and say how long each took; an error where one does not in time."""
    active = admin.named_model() == written.model
    obeyed = {} if no_wait or not active else admin.wait_obeyed(written, timeout_s, others=False)
    late = [name for name, took_ms in obeyed.items() if took_ms is None]
    if json:
        answer = {"model": written.model, "before": written.before, "thresholds": written.after, "obeyed_ms": obeyed}
        emit_json({**answer, "changes": changes, **(more or {})})
    else:
        print_changes(changes)
        if written.before == written.after:
            note(f"Nothing changes: the live table of {written.model}, {written.after}, says so already.")
        else:
            versions = f"{written.before} -> {written.after}"
            stdout_console.print(f"thresholds {versions} of model {written.model}", markup=False)
        tell_obeyed(obeyed, "obeys")
        if not active:
            note("This model is not the active one: no worker decides by it now.")
        elif not obeyed and not no_wait:
            note("No worker of this model is running.")
    if late:
        raise OpsError(_why_late(admin, written, late, timeout_s))


def _why_late(admin: "ThresholdsAdmin", written: "Written", late: list[str], timeout_s: float) -> str:
    now = admin.live(written.model).table.version
    if now != written.after:
        return f"written, but somebody has changed the thresholds since: they are {now} now, not {written.after}."
    reasons = [f"{name} ({refusal})" for name in late if (refusal := admin.workers().get(name, {}).get("refusal"))]
    return f"written, but not obeyed within {timeout_s:g} s by {', '.join(reasons or late)}."
