"""`tagstream redecide`: apply the thresholds of now to the tracks of the past, without running the model."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar, stdout_console
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.redecide import Redecisions
    from streamer.core.redecide_runs import Run

EPILOG = (
    "Examples: tagstream redecide --dry-run   tagstream redecide --why 'jazz was too strict'"
    "   tagstream redecide --follow   tagstream redecide --cancel"
)
STEPS = 1000  # of the progress bar
SHOWN_TAGS = 20


def redecide(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would change; publish nothing.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the run that is going on.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Follow the run that is going on.")] = False,
    why: Annotated[str, typer.Option(help="The reason, kept with the run.")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Ask for the run, and do not wait for its end.")] = False,
    json: JsonFlag = False,
) -> None:
    """Re-decide every track whose tags the live thresholds change, from its retained scores.

    The workers do it beside the stream, which stays fast; a run goes on without this command.
    """
    from ops.redecide import Redecisions
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.settings import load_settings

    if sum((dry_run, cancel, follow)) > 1:
        raise OpsError("--dry-run, --cancel and --follow exclude each other.")
    quiet_client_logs()
    runs = Redecisions(load_settings())
    if cancel:
        run = runs.cancel()
    else:
        run = runs.going_on() if follow else runs.begin(runs.look_up(), why, dry_run=dry_run)
        if not no_wait:
            run = _follow(runs, run)
    if json:
        emit_json(as_report(run))
    else:
        _print(run)
    _tell_how_it_ended(run, cancel)


def _follow(runs: "Redecisions", run: "Run") -> "Run":
    try:
        with progress_bar() as bar:
            task = bar.add_task("re-deciding", total=STEPS)
            return runs.follow(run, lambda now: bar.update(task, completed=int(now.share * STEPS)))
    except KeyboardInterrupt:
        note(f"The run {run.name} goes on: `tagstream redecide --follow`, or `tagstream redecide --cancel`.")
        raise typer.Exit(130) from None


def as_report(run: "Run") -> dict[str, Any]:
    """For machines."""
    from ops.redecide import state_of

    counts = run.counts
    progress = [run.progress[partition] for partition in sorted(run.progress)]
    return {
        "run": run.name,
        "state": state_of(run),
        "dry_run": run.dry_run,
        "who": run.who,
        "why": run.why,
        "model": run.model,
        "thresholds": sorted({one.thresholds for one in progress} or {run.thresholds}),
        "share": round(run.share, 4),
        "examined": counts.examined,
        "changed": counts.changed,
        "other_models": counts.other_models,
        "unexplained": counts.unexplained,
        "unreadable": counts.unreadable,
        "added": dict(counts.added.most_common()),
        "removed": dict(counts.removed.most_common()),
        "partitions": {str(one.partition): {"state": one.state.value, "share": one.share} for one in progress},
        "errors": [one.error for one in progress if one.error],
    }


def _print(run: "Run") -> None:
    from ops.redecide import state_of

    counts = run.counts
    does = "would change" if run.dry_run else "changed"
    stdout_console.print(
        f"run {run.name} under thresholds {run.thresholds} of model {run.model}, {state_of(run)}: "
        f"{counts.examined:,} tracks examined, {counts.changed:,} {does}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if counts.other_models:
        note(f"{counts.other_models:,} tracks skipped: their scores are another model's.")
    if counts.unexplained:
        note(f"{counts.unexplained:,} tracks left as they are: Redis has lost the thresholds they were decided under.")
    if counts.unreadable:
        note(f"{counts.unreadable:,} tracks left as they are: their scores are not what a worker writes.")
    tags = sorted({*counts.added, *counts.removed}, key=lambda tag: -(counts.added[tag] + counts.removed[tag]))
    if tags:
        rows = [[tag, counts.added[tag], counts.removed[tag]] for tag in tags[:SHOWN_TAGS]]
        print_table("", ["tag", "tracks that gain it", "tracks that lose it"], rows)
    if len(tags) > SHOWN_TAGS:
        note(f"... and {len(tags) - SHOWN_TAGS:,} tags more")


def _tell_how_it_ended(run: "Run", cancel: bool) -> None:
    from ops.redecide import state_of

    state = state_of(run)
    if state == "running":
        note("The workers go on with it: `tagstream redecide --follow` shows how far they are.")
    if state == "done" and {one.thresholds for one in run.progress.values()} != {run.thresholds}:
        note("The thresholds were changed meanwhile, and what came later was followed: run it again to be sure of all.")
    if state == "failed":
        errors = sorted({one.error.rstrip(".") for one in run.progress.values() if one.error})
        raise OpsError(f"not all of it could be re-decided: {'; '.join(errors)}.")
    if state == "cancelled" and not cancel:
        raise OpsError(f"the run {run.name} was cancelled at {run.share:.0%}; what was published stays.")
