"""`tagstream compare`: every system of the study, and ours with and without its parts, under one protocol."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar, stdout_console
from ops.errors import OpsError

EPILOG = "Example: tagstream compare --data data/jamendo-hot --systems rule,thresholds,linear,ours --seeds 3"
SYSTEMS = (
    "rule, thresholds, forest, linear, study-plain, study, ours, network (ours without the fallback to the upstream), "
    "and network without a part: without-skip, -reservoir, -transformer, -both, -linear, -mlp, -ensemble, -swap, "
    "-mixup"
)


def compare(
    *,
    data: Annotated[Path, typer.Option(help="A data set; of one with train/, its val/ and test/ are reported on.")],
    valid: Annotated[Path | None, typer.Option(help="Report on this in place of val/; it chooses nothing.")] = None,
    test: Annotated[Path | None, typer.Option(help="Report on this too; it chooses nothing.")] = None,
    systems: Annotated[str | None, typer.Option(help=f"Names with commas between (default: all): {SYSTEMS}.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Seeds of each system with chance in it.")] = 3,
    config: Annotated[str, typer.Option(help="The recipe of ours: a name or a TOML file, as of train.")] = "default",
    parts_config: Annotated[
        str | None, typer.Option(help="The recipe by which the parts of ours are judged (default: --config).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for finished runs, tables and pictures.")] = Path("comparison"),
    finished: Annotated[bool, typer.Option("--finished", help="Train nothing: report what is finished.")] = False,
    json: JsonFlag = False,
) -> None:
    """Train and measure every system; a run that was killed goes on where it was."""
    from model import compare as comparison
    from model import config as configs
    from model.compare_intervals import results
    from model.dataset import load, load_splits
    from model.systems import all_systems, choose

    chosen = choose(all_systems(configs.load(config), configs.load(parts_config or config)), systems)
    splits = load_splits(data)
    train = splits.pop("train")
    splits.update({name: load(path) for name, path in (("val", valid), ("test", test)) if path is not None})
    with progress_bar() as bar:
        overall = bar.add_task("starting", total=len(comparison.planned(chosen, seeds)))
        inner = bar.add_task("", total=None)
        begun = 0

        def started(what: str) -> None:
            nonlocal begun
            bar.update(overall, description=what, completed=begun)
            begun += 1

        def tell(what: str, done: int, total: int) -> None:
            bar.update(inner, description=what, completed=done, total=total)

        runs = comparison.compare(train, splits, chosen, seeds, out, tell, started, only_finished=finished)
        bar.update(overall, description="intervals", completed=begun)
        if not runs:
            raise OpsError(f"{out} holds no finished run of these systems on this data.")
        found = results(chosen, runs, train, splits)
    _write(found, out)
    if json:
        emit_json(found)
        return
    _show(found, out)


def _write(found: dict, out: Path) -> None:
    """results.json, comparison.md and the pictures, each whole or not there."""
    import orjson

    from model.compare_pictures import pictures
    from model.compare_report import markdown
    from model.durable import write_aside

    command = shlex.join(["tagstream", *sys.argv[1:]])
    files = {
        "results.json": orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY),
        "comparison.md": markdown(found, command).encode(),
    }
    for name, split in found["splits"].items():
        files.update(pictures(split, name))
    for name, content in files.items():
        write_aside(out / name, content)


def _show(found: dict, out: Path) -> None:
    from model import compare_report

    for name, split in found["splits"].items():
        for title, table in (
            (f"on {name}, {split['tracks']:,} tracks", compare_report.quality(split)),
            ("all figures", compare_report.figures(split)),
            ("costs", compare_report.costs(split)),
        ):
            print_table(title, *table)
        for sentence in compare_report.sentences(split):
            stdout_console.print(f"- {sentence}", markup=False, soft_wrap=not stdout_console.is_terminal)
    note(f"{out / 'results.json'}, comparison.md and pictures are written.")
