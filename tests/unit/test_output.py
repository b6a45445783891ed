"""What commands show where there is no terminal, and on a narrow one: nothing is silent, nothing is cut."""

import io

import pytest
from rich.console import Console

from ops.cli import output

WIDE = ["system", *(f"figure {number}" for number in range(12))]
ROWS = [[f"the system of row {row}", *(f"{row}.{number:04d}" for number in range(12))] for row in range(3)]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃\n ").replace("┃", "│").split("│")]


def test_a_wide_table_in_a_pipe_is_whole_and_one_line_a_row(capsys):
    output.print_table("all figures", WIDE, ROWS)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "all figures" and max(map(len, lines)) > 150
    shown = [cells(line) for line in lines if "system" in line]
    assert shown == [WIDE, *ROWS]


def test_a_wide_table_on_a_terminal_goes_on_below(monkeypatch, capsys):
    terminal = Console(force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(output, "stdout_console", terminal)
    output.print_table("all figures", WIDE, ROWS)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80 and lines.count("all figures") == 1
    shown = [cells(line) for line in lines if "system" in line]
    parts = [shown[at : at + 1 + len(ROWS)] for at in range(0, len(shown), 1 + len(ROWS))]
    assert len(parts) > 1
    for place, whole in enumerate([WIDE, *ROWS]):
        assert [part[place][0] for part in parts] == [whole[0]] * len(parts)
        assert [cell for part in parts for cell in part[place][1:]] == whole[1:]


def test_a_cell_that_is_wider_than_the_terminal_is_folded(monkeypatch, capsys):
    terminal = Console(force_terminal=True, width=40, color_system=None)
    monkeypatch.setattr(output, "stdout_console", terminal)
    output.print_table("", ["name", "words"], [["one", "x" * 100]])
    assert capsys.readouterr().out.count("x") == 100


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch, capsys):
    moments = iter(range(0, 1000, 4))
    monkeypatch.setattr(output.time, "monotonic", lambda: next(moments))
    with output.progress_bar() as bar:
        task = bar.add_task("preparing", total=None)
        output.count_from(bar, task, 100.0)  # of a run that goes on
        for epoch in range(1, 11):
            bar.update(task, description=f"fold 1 of 4, epoch {epoch}", completed=epoch, total=15)
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert shown.out == "" and len(lines) == 3  # ten updates of four seconds each, a line every ten
    assert lines[0].endswith("s] fold 1 of 4, epoch 3 (3/15)") and lines[0].startswith("[10")


def test_a_long_note_in_a_log_is_one_line(capsys):
    output.note("word " * 60)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_for_terminals(monkeypatch, terminal):
    monkeypatch.setattr(output, "stderr_console", Console(file=io.StringIO(), force_terminal=terminal))
    assert output.progress_bar().disable is not terminal
