"""The composition of the command line: which module answers which command, and how mistakes are told.

Command modules import torch, Faust and the like inside their functions, so `tagstream --help` stays quick.
"""

import os
import sys

import typer

from model.errors import ModelError
from ops.cli import (
    bench,
    compare,
    console,
    data,
    deadletter,
    demo,
    doctor,
    local,
    models,
    produce,
    redecide,
    score,
    search,
    tail,
    thresholds,
    topics,
    train,
    worker,
)
from ops.cli.output import note
from ops.errors import OpsError
from streamer.core.errors import TagstreamError

app = typer.Typer(
    name="tagstream",
    help="A streaming music tagger: probabilities in, tag decisions out, thresholds swapped live.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("demo", epilog=demo.EPILOG)(demo.demo)
app.add_typer(local.app, name="local")
app.add_typer(topics.app, name="topics")
app.command("produce", epilog=produce.EPILOG)(produce.produce)
app.command("tail", epilog=tail.EPILOG)(tail.tail)
app.add_typer(deadletter.app, name="deadletter")
app.command("worker")(worker.worker)
app.add_typer(thresholds.app, name="thresholds")
app.command("console", epilog=console.EPILOG)(console.console)
app.command("redecide", epilog=redecide.EPILOG)(redecide.redecide)
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.command("train", epilog=train.TRAIN_EPILOG)(train.train)
app.command("evaluate", epilog=train.EVALUATE_EPILOG)(train.evaluate)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.command("search", epilog=search.EPILOG)(search.search)
app.command("score", epilog=score.EPILOG)(score.score)
app.add_typer(models.app, name="models")


@app.callback()
def _tell_misspelt_settings(context: typer.Context) -> None:
    """A setting that is none would be ignored without a word. (The worker has a log for it.)"""
    if context.invoked_subcommand != "worker" and any(name.startswith("TAGSTREAM_") for name in os.environ):
        from streamer.settings import misspelt_variables

        for told in misspelt_variables(os.environ):
            note(told)


def main() -> None:
    """Run one command; a person's mistake is one sentence on stderr and a non-zero exit code, never a traceback.

    Typer itself tells wrong usage (exit code 2) and Ctrl-C (130).
    """
    try:
        app()
    except (ModelError, OpsError, TagstreamError) as error:
        print(f"tagstream: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
