"""`tagstream thresholds preview | suggest`: what a change would do, seen before it is made."""

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, stderr_console, stdout_console
from ops.cli.thresholds_values import parse_changes
from ops.cli.thresholds_window import LastOption, SinceOption, curves_of, refuse_nothing_known, window_of
from ops.cli.thresholds_write import (
    ModelOption,
    NoWaitOption,
    TimeoutOption,
    WhyOption,
    changes_of,
    open_admin,
    short,
    tell_written,
)
from ops.errors import OpsError
from streamer.core.thresholds import threshold_text

if TYPE_CHECKING:
    from model.curves import Curves
    from ops.thresholds_admin import Live
    from ops.thresholds_preview import Example, Preview, TagPreview
    from ops.thresholds_scores import Window

PREVIEW_EPILOG = "Example: tagstream thresholds preview jazz=0.35 live=off --since 7d"
SUGGEST_EPILOG = 'Example: tagstream thresholds suggest jazz --precision 0.8 --apply --why "editors want 80 %"'

Target = Annotated[float | None, typer.Option(min=0, max=1)]


def preview(
    changes: Annotated[list[str], typer.Argument(help="TAG=VALUE: a number in [0, 1], or off.")],
    *,
    last: LastOption = None,
    since: SinceOption = None,
    examples: Annotated[int, typer.Option(min=0, max=1000, help="Tracks to show of each tag.")] = 3,
    model: ModelOption = None,
    json: JsonFlag = False,
) -> None:
    """How many tracks would gain or lose each tag, which ones, and what that does to precision and recall.

    The tracks are those whose scores are retained; they are read once into a cache on this machine, and then only
    what is new. Precision, recall and F1 are those of the model's training, on tracks that it had not seen.
    """
    values = parse_changes(changes)
    live = (admin := open_admin()).live(model)
    table = admin.stage(live, values)
    window, curves = window_of(live, last, since), curves_of(live)
    refuse_nothing_known(window, curves)
    from ops.thresholds_preview import preview as foresee

    found = foresee(live, table, window, curves, examples=examples)
    if json:
        emit_json(_as_json(found))
        return
    if not found.tags:
        note("Nothing changes: the live table says so already.")
        return
    _print(found)
    _tell_how(found)


def _tell_how(found: "Preview") -> None:
    """The command that makes the change, in one line to copy."""
    words = " ".join(shlex.quote(f"{one.tag}={short(one.after)}") for one in found.tags)
    command = f'tagstream thresholds set {words} --from {found.before} --why "..."'
    stderr_console.print(f"Nothing is changed yet: {command}", markup=False, soft_wrap=True)


def _as_json(found: "Preview") -> dict[str, Any]:
    answer = asdict(found)
    for one in answer["tags"]:
        for when in ("before", "after"):
            one[f"share_{when}"] = one[f"decided_{when}"] / found.tracks if found.tracks else None
    return answer


def _print(found: "Preview") -> None:
    from ops.thresholds_preview import SUPPORT_FEW

    if found.tracks:
        title = f"{found.tracks:,} tracks, of which {found.touched:,} would change"
        columns = ["tag", "threshold", "gain it", "lose it", "share with it"]
        print_table(title, columns, [_tracks_row(one, found.tracks) for one in found.tags])
        for one in found.tags:
            _print_examples(one.tag, "would gain", one.gaining)
            _print_examples(one.tag, "would lose", one.losing)
    known = [one for one in found.tags if one.rates is not None]
    if known:
        columns = ["tag", "precision", "recall", "F1", "labelled"]
        print_table("by the labelled tracks of the training", columns, [_rates_row(one) for one in known])
    few = [one.tag for one in known if one.rates is not None and one.rates.support < SUPPORT_FEW]
    if few:
        note(f"Fewer than {SUPPORT_FEW} labelled tracks had {', '.join(few)}: precision and recall are rough.")


def _tracks_row(one: "TagPreview", tracks: int) -> list[object]:
    share = f"{one.decided_before / tracks:.2%} -> {one.decided_after / tracks:.2%}"
    return [one.tag, _move(one), f"{one.gained:,}", f"{one.lost:,}", share]


def _rates_row(one: "TagPreview") -> list[object]:
    assert one.rates is not None
    before, after = one.rates.before, one.rates.after
    shown = [f"{getattr(before, name):.3f} -> {getattr(after, name):.3f}" for name in ("precision", "recall", "f1")]
    return [one.tag, *shown, one.rates.support]


def _move(one: "TagPreview") -> str:
    return f"{short(one.before)} -> {short(one.after)}"


def _print_examples(tag: str, would: str, examples: "list[Example] | Any") -> None:
    from ops.kafka_view import printable

    if examples:
        shown = ", ".join(f"{printable(one.track_id)} ({one.score:.3f})" for one in examples)
        stdout_console.print(f"{would} {tag}: {shown}", markup=False, soft_wrap=True)


def suggest(
    tag: Annotated[str, typer.Argument(help="The tag.")],
    *,
    precision: Annotated[float | None, typer.Option(help="So many of those decided are to be right: 0.8.")] = None,
    recall: Annotated[float | None, typer.Option(help="So many of those that have it are to get it.")] = None,
    share: Annotated[float | None, typer.Option(help="So many of all tracks are to get it, such as 0.05.")] = None,
    last: LastOption = None,
    since: SinceOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Make the change at once.")] = False,
    why: WhyOption = "",
    model: ModelOption = None,
    timeout: TimeoutOption = 10.0,
    no_wait: NoWaitOption = False,
    json: JsonFlag = False,
) -> None:
    """A threshold for one aim, with what it would do; it is set only with --apply.

    Precision and recall are looked up in the model's curves, a share in the retained scores.
    """
    target = _target(precision, recall, share)
    admin = open_admin()
    live = admin.live(model)
    live.number_of(tag)
    window, curves = window_of(live, last, since), curves_of(live)
    value = threshold_text(tag, _suggested(live, tag, target, window, curves))
    table = admin.stage(live, {tag: value})
    from ops.thresholds_preview import preview as foresee

    found = foresee(live, table, window, curves)
    aim = f"{target[0]} {target[1]:g}"
    answer = {"tag": tag, "aim": target[0], "target": target[1], "threshold": value, "preview": _as_json(found)}
    if not json:
        stdout_console.print(f"{tag}={short(value)} is suggested for {aim}", markup=False)
        _print(found)
    if not apply:
        if json:
            emit_json(
                {"tag": tag, "aim": target[0], "target": target[1], "threshold": value, "preview": _as_json(found)}
            )
        elif found.tags:
            _tell_how(found)
        else:
            note("The live threshold is that already.")
        return
    changes = changes_of(live, table.as_hash())
    written = admin.change(live, {tag: value}, why or f"suggested for {aim}", action="suggest")
    tell_written(admin, written, changes, timeout_s=timeout, no_wait=no_wait, json=json, more=answer)


def _target(precision: float | None, recall: float | None, share: float | None) -> tuple[str, float]:
    """The one aim that was given."""
    given = [(name, value) for name, value in (("precision", precision), ("recall", recall), ("share", share))
             if value is not None]  # fmt: skip
    if len(given) != 1:
        raise OpsError("one aim is needed: --precision, --recall or --share.")
    if not 0 < given[0][1] <= 1:
        raise OpsError(f"--{given[0][0]} {given[0][1]:g} is no aim: a number above 0, at most 1, is needed.")
    return given[0]


def _suggested(
    live: "Live", tag: str, target: tuple[str, float], window: "Window | None", curves: "Curves | None"
) -> float:
    from ops.thresholds_preview import suggest_by_curve, suggest_by_share

    name, value = target
    if name == "share":
        if window is None:
            raise OpsError(f"a share is counted over retained scores, and there are none of {live.model}.")
        return suggest_by_share(window, live.number_of(tag), tag, value)
    if curves is None:
        raise OpsError(f"{name} is looked up in the curves of the artefact, and {live.model} has none.")
    return suggest_by_curve(curves, tag, **{name: value})
