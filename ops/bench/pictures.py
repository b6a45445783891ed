"""What a benchmark leaves behind in its folder: its report as JSON and its picture, both under the benchmark's name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from ops.errors import OpsError

OURS, THEIRS = "tab:orange", "tab:blue"
DPI = 110


def keep(folder: Path, name: str, report: Mapping[str, Any], draw: Callable[[Any], None], height: float = 4.0) -> Path:
    """Write `<folder>/<name>.json` and `.png`, drawn by `draw` on one pair of axes; the picture's path.

    Raises:
        OpsError: when the folder cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, height), layout="constrained")
    draw(axes)
    path = folder / f"{name}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
        (folder / f"{name}.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise OpsError(f"the report cannot be written to {folder}: {error.strerror}.") from None
    finally:
        pyplot.close(figure)
    return path


def bars(axes: Any, values: Mapping[str, float], label: str, ours: str, form: str = "{:,.0f}") -> None:
    """A horizontal bar per name, in the order given from the top; one that begins with `ours` in its own colour."""
    names = list(values)[::-1]
    heights = [values[name] for name in names]
    drawn = axes.barh(names, heights, color=[OURS if name.startswith(ours) else THEIRS for name in names])
    axes.bar_label(drawn, [" " + form.format(height) for height in heights], fontsize=8)
    axes.set_xlabel(label)
    axes.margins(x=0.12)
