"""How every command speaks: people get text on stdout, machines get one JSON object and nothing else there.

Progress and notes go to stderr, so that `--json` output can be piped. Where that is no terminal (a log, CI), progress
is a plain line now and then, and nothing is cut or broken to a width that nobody has.
"""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text  # as it is: what stands in brackets is no markup

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]

LINE_EVERY_S = 10.0  # of progress, where there is no terminal
CELL_FRAME = 3  # what a table puts around a cell: a line and two blanks

stdout_console = Console(highlight=False)
stderr_console = Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """Tell a person something on stderr."""
    stderr_console.print(text, markup=False, soft_wrap=not stderr_console.is_terminal)


def emit_json(value: Any) -> None:
    """Print `value` as one line of JSON on stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table for people: the first column left, the others right when they hold numbers.

    One that is wider than the terminal goes on below with more columns, each time beside the first one.
    """
    rows = [list(row) for row in rows]
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    numeric = [bool(rows) and all(isinstance(row[at], int | float) for row in rows) for at in range(len(columns))]
    widths = [max(map(cell_len, column)) + CELL_FRAME for column in zip(columns, *cells, strict=True)]
    room = stdout_console.width - 1 if stdout_console.is_terminal else sum(widths)
    width = stdout_console.width if stdout_console.is_terminal else max(room + 1, cell_len(title))
    console = Console(file=stdout_console.file, highlight=False, width=width)
    if title:
        console.print(Text(title, style="italic"))  # a table's own would be broken to its width
    for shown in _columns_that_fit(widths, room):
        table = Table(header_style="bold")
        for at in shown:
            table.add_column(columns[at], justify="right" if numeric[at] else "left", overflow="fold")
        for row in cells:
            table.add_row(*(Text(row[at]) for at in shown))
        console.print(table)


def _columns_that_fit(widths: Sequence[int], room: int) -> list[list[int]]:
    """The columns of each part of a table: the first, and as many more as there is room for, but at least one."""
    parts = [[0]]
    for at in range(1, len(widths)):
        if len(parts[-1]) > 1 and sum(widths[other] for other in parts[-1]) + widths[at] > room:
            parts.append([0])
        parts[-1].append(at)
    return parts


def progress_bar() -> Progress:
    """A progress bar on stderr; where that is no terminal, a line now and then."""
    if not stderr_console.is_terminal:
        return _ProgressLines(console=stderr_console, disable=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr_console,
    )


def count_from(bar: Progress, task_id: TaskID, before_s: float) -> None:
    """Have the elapsed time of a task hold that of the stretches before, of which this one goes on."""
    task = next(task for task in bar.tasks if task.id == task_id)
    task.start_time = bar.get_time() - before_s


class _ProgressLines(Progress):
    """What a bar would show, as plain lines and not too many of them."""

    _told_at = 0.0

    def __enter__(self) -> "_ProgressLines":
        self._told_at = time.monotonic()
        return self

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._tell()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= LINE_EVERY_S:
            self._told_at = now
            elapsed_s = max(task.elapsed or 0.0 for task in self.tasks)
            note(f"[{elapsed_s:.0f} s] {'; '.join(map(_in_words, self.tasks))}")


def _in_words(task: Task) -> str:
    total = "" if task.total is None else f"/{task.total:,.0f}"
    return f"{task.description} ({task.completed:,.0f}{total})"


def tell_obeyed(obeyed_ms: Mapping[str, float | None], does: str) -> None:
    """One line per worker that obeyed a change."""
    for name, took_ms in obeyed_ms.items():
        if took_ms is not None:
            stdout_console.print(f"worker {name} {does} after {took_ms:.0f} ms", markup=False)
