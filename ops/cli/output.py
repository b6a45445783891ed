"""How every command speaks: people get text on stdout, machines get one JSON object and nothing else there.

Progress and notes go to stderr, so that `--json` output can be piped.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text  # as it is: what stands in brackets is no markup

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]

stdout_console = Console(highlight=False)
stderr_console = Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """Tell a person something on stderr."""
    stderr_console.print(text, markup=False)


def emit_json(value: Any) -> None:
    """Print `value` as one line of JSON on stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people: the first column left, the others right when they hold numbers."""
    rows = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text(f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for cell in row))
    stdout_console.print(table)


def progress_bar() -> Progress:
    """A progress bar on stderr; silent where stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr_console,
        disable=not stderr_console.is_terminal,
    )


def tell_obeyed(obeyed_ms: Mapping[str, float | None], does: str) -> None:
    """One line per worker that obeyed a change."""
    for name, took_ms in obeyed_ms.items():
        if took_ms is not None:
            stdout_console.print(f"worker {name} {does} after {took_ms:.0f} ms", markup=False)
