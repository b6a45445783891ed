"""What a search shows to people: one self-contained page, the winner as a configuration file, all trials as a table.

Knows a study and its space; decides nothing.
"""

import base64
import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from model import search_life as life
from model import search_plots as plots
from model.durable import write_aside
from model.search import ABOUT, FOLDS, RANDOM_TRIALS, UPSTREAM, WEIGHTS, best
from model.search_space import HEAD_WIDTH, Space

PAGE, WINNER, TABLE = "report.html", "winner.toml", "trials.csv"
BEST_SHOWN = 10
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; } img { max-width: 100%; }
table { border-collapse: collapse; font-size: .8rem; } .wide { overflow-x: auto; }
th, td { padding: .2rem .55rem; text-align: right; border-bottom: 1px solid #dde2e8; white-space: nowrap; }
th { border-bottom-color: #8b97a5; } pre { background: #f3f5f8; padding: .8rem 1rem; overflow-x: auto; }
.note { color: #5b6875; font-size: .85rem; }
"""


def write(study: optuna.Study, space: Space, folder: Path) -> dict[str, Path]:
    """Write the files into `folder`; returns their paths. Without a winner there is only the table."""
    folder.mkdir(parents=True, exist_ok=True)
    trials = study.get_trials(deepcopy=False)
    contents = {TABLE: _csv(trials, space)}
    winner = best(study)
    if winner is not None:
        contents[WINNER] = winner_toml(study, space, winner)
        contents[PAGE] = _page(study, space, trials, winner)
    for name, content in contents.items():
        write_aside(folder / name, content.encode())
    return {name: folder / name for name in contents}


def winner_toml(study: optuna.Study, space: Space, winner: FrozenTrial) -> str:
    remark = (
        f"Trial {winner.number} of the search '{study.study_name}': {space.objective} {winner.value:.5f} out of fold"
    )
    return space.to_toml(winner.params, remark)


def count(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """How the trials ended; `retried` are those of `failed` whose work another trial took over."""
    states = [trial.state for trial in trials]
    return {
        "completed": states.count(TrialState.COMPLETE),
        "pruned": states.count(TrialState.PRUNED),
        "failed": states.count(TrialState.FAIL),
        "retried": sum(life.is_retry(trial) for trial in trials),
        "unfinished": len(life.pending(trials)),
    }


def ranking(trials: Sequence[FrozenTrial], space: Space) -> list[FrozenTrial]:
    """Completed trials, the best first."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: trial.value or 0.0, reverse=space.maximises)


def columns(trial: FrozenTrial, space: Space) -> dict[str, object]:
    """One trial as a row: how it ended, then the fields of its configuration."""
    seconds = trial.duration.total_seconds() if trial.duration else None
    about = {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        # Optuna gives a pruned trial its last report as a value: no objective.
        space.objective: trial.value if trial.state == TrialState.COMPLETE else None,
        "epochs": len(trial.intermediate_values) or None,
        "seconds": seconds,
        "weights": trial.user_attrs.get(WEIGHTS),
    }
    params = {name: trial.params.get(name) for name in space.ranges}
    if HEAD_WIDTH in params and trial.params:
        params = {"width": trial.params["heads"] * trial.params[HEAD_WIDTH], **params}
    return {**about, **params, "why": trial.user_attrs.get(life.WHY)}


def _csv(trials: Sequence[FrozenTrial], space: Space) -> str:
    rows = [columns(trial, space) for trial in trials]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _page(study: optuna.Study, space: Space, trials: Sequence[FrozenTrial], winner: FrozenTrial) -> str:
    ranked = ranking(trials, space)
    title = f"Search '{study.study_name}'"
    parts = [
        f"<h1>{escape(title)}</h1>",
        *_summary(study, space, trials, winner),
        "<h2>History</h2>",
        _image(
            plots.history(trials, winner, study.user_attrs[UPSTREAM], space.objective, space.maximises),
            "objective by trial",
        ),
        "<h2>Learning curves</h2>",
        _image(plots.curves(trials, winner, space.maximises), "held-out loss by epoch"),
        "<h2>What mattered</h2>",
        *_importances(study, ranked),
        "<h2>Each parameter alone</h2>",
        _image(plots.slices(trials, winner, space.ranges, space.objective, space.maximises), "slices"),
        "<p class=note>Later trials are darker; the star is the winner; triangles lie beyond the edge.</p>",
        f"<h2>The best {min(BEST_SHOWN, len(ranked))}</h2>",
        _table(ranked[:BEST_SHOWN], space),
        f"<details><summary>All {len(trials)} trials</summary>{_table(trials, space)}</details>",
    ]
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _summary(study: optuna.Study, space: Space, trials: Sequence[FrozenTrial], winner: FrozenTrial) -> list[str]:
    counted = count(trials)
    about = study.user_attrs[ABOUT]
    seconds = sum(trial.duration.total_seconds() for trial in trials if trial.duration)
    way = "the higher the better; thresholds fitted on other folds" if space.maximises else "the lower the better"
    told = ", ".join(f"{number} {name}" for name, number in counted.items() if number)
    return [
        f"<p>Space '{space.name}' around the configuration '{space.base}', {len(space.ranges)} parameters. Objective: "
        f"{space.objective} of the training data's tracks, each scored by a network that saw none of its artist's "
        f"({FOLDS} folds; {way}). Data {about['data'][:12]}, seed {about['seed']}.</p>",
        f"<p>{len(trials)} trials: {told}. {seconds / 60:.1f} minutes of work.</p>",
        f"<p><b>Winner: trial {winner.number}, {space.objective} {winner.value:.4f}</b>{_gain(trials, winner)}.</p>",
        f"<p>{against_upstream(study, space, winner)}</p>",
        f"<pre>{escape(winner_toml(study, space, winner))}</pre>",
        f"<p>Train it: <code>tagstream train --data DIR --config {WINNER}</code></p>",
        f"<p class=note>The winner is the best of {counted['completed']}, so its figure here is a little too high: "
        "noise helped to choose it. What it is worth is told by a split that chose nothing.</p>",
    ]


def against_upstream(study: optuna.Study, space: Space, winner: FrozenTrial) -> str:
    """One sentence."""
    upstream = study.user_attrs[UPSTREAM]
    assert winner.value is not None
    told = f"The upstream alone, with thresholds of its own, has {upstream:.4f}"
    if not space.maximises:
        told = f"The upstream alone, calibrated, has {upstream:.4f}"
    if (winner.value > upstream) == space.maximises:
        return f"{told}, a difference of {winner.value - upstream:+.4f}."
    return f"{told}: no network of this search beats it."


def _gain(trials: Sequence[FrozenTrial], winner: FrozenTrial) -> str:
    """Against trial 0, the space's base (or the attempt that completed it)."""
    base = next((one for one in trials if life.first_number(one) == 0 and one.state == TrialState.COMPLETE), None)
    if base is None or base.value is None or winner.value is None:
        return ""
    if base.number == winner.number:
        return ", which is the base itself"
    return f" (the base, trial {base.number}: {base.value:.4f}, a difference of {winner.value - base.value:+.4f})"


def _importances(study: optuna.Study, complete: Sequence[FrozenTrial]) -> list[str]:
    if len(complete) <= RANDOM_TRIALS:
        return [f"<p class=note>Told from {RANDOM_TRIALS + 1} completed trials on; there are {len(complete)}.</p>"]
    found = optuna.importance.get_param_importances(study)
    return [
        _image(plots.importances(found), "importances"),
        f"<p class=note>PED-ANOVA over {len(complete)} completed trials: how much each parameter alone sets the best "
        "tenth apart. From a few dozen trials this is a hint, no more.</p>",
    ]


def _image(png: bytes, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _table(trials: Sequence[FrozenTrial], space: Space) -> str:
    rows = [columns(trial, space) for trial in trials]
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if any(row.get(name) for row in rows)]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row.get(n))}</td>" for n in names) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return (
        f"{value:.4g}" if isinstance(value, float) else escape(f"{value:,}" if isinstance(value, int) else str(value))
    )
