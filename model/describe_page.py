"""A data set as one page that needs nothing else: tables, and the pictures inside it, beside them as PNG files.

Knows figures and bytes of pictures; measures and draws nothing.
"""

import base64
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from model.catalogue_figures import Figures
from model.errors import ModelError

PAGE = "index.html"
SMALLEST_SHOWN = 1e-6
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 0 0 1.5rem }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
caption { text-align: left; font-weight: 600; padding: .5rem 0 }
img { max-width: 100%; display: block; margin: 1rem 0 }
"""
CLASS_COLUMNS = {
    "tags_per_track": "a track",
    "gini": "Gini",
    "mean_phi": "phi",
    "first_component": "1st",
    "ten_components": "10",
}
Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]  # title, columns, rows


def tables(figures: Mapping[str, Figures]) -> list[Table]:
    """What people read, of one or more splits: splits, classes and upstream."""
    names = list(figures)
    overall = [
        [_words(key), *(_flat(figures[name]).get(key) for name in names)]
        for key in dict.fromkeys(key for name in names for key in _flat(figures[name]))
    ]
    classes = [
        [
            name,
            class_name,
            f"{of_class['tags']} + {of_class['categories']}",
            *(of_class.get(key) for key in CLASS_COLUMNS),
        ]
        for name in names
        for class_name, of_class in figures[name]["classes"].items()
    ]
    return [
        ("splits", ["", *names], [[cell(value) for value in row] for row in overall]),
        (
            "classes (phi: mean correlation; 1st, 10: variance in components of the logits)",
            ["split", "class", "tags + cat.", *CLASS_COLUMNS.values()],
            [[cell(value) for value in row] for row in classes],
        ),
    ]


def _flat(figures: Figures) -> dict[str, object]:
    return {
        "tracks": figures["tracks"],
        "artists": figures["artists"],
        **(figures["labels"] or {}),
        **{key if "of_0.5" in key else f"upstream_{key}": value for key, value in figures["upstream"].items()},
    }


def _words(key: str) -> str:
    return key.replace("_", " ")


def cell(value: object) -> str:
    """A number as people read it; nothing for what is not known."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) >= SMALLEST_SHOWN else "0"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write(
    folder: Path, title: str, figures: Mapping[str, Figures], pictures: Mapping[str, Mapping[str, bytes]]
) -> list[Path]:
    """`index.html` and `<split>/<name>.png` in `folder`, all of it or nothing; returns the files, the page first.

    Raises:
        ModelError: where the folder holds something else already, or cannot be written.
    """
    check_free(folder)
    files = {PAGE: _page(title, figures, pictures).encode()}
    files |= {f"{split}/{name}": png for split, shown in pictures.items() for name, png in shown.items()}
    aside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".describe-", dir=folder.parent))
        for name, content in files.items():
            (aside / name).parent.mkdir(exist_ok=True)
            (aside / name).write_bytes(content)
        aside.chmod(0o755)  # mkdtemp makes it private
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror or error}.") from None
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return [folder / name for name in files]


def check_free(folder: Path) -> None:
    """That a description may be written there.

    Raises:
        ModelError: where something else is.
    """
    if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
        raise ModelError(f"{folder} is there already and holds no description: choose another folder.")


def _is_ours(folder: Path) -> bool:
    """Empty, or an earlier description: nothing but the page and folders of pictures."""
    return all(
        path.name == PAGE or (path.is_dir() and all(inner.suffix == ".png" for inner in path.iterdir()))
        for path in folder.iterdir()
    )


def _page(title: str, figures: Mapping[str, Figures], pictures: Mapping[str, Mapping[str, bytes]]) -> str:
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(title)}</title>",
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>",
        *(_table(*table) for table in tables(figures)),
    ]
    for split, shown in pictures.items():
        parts.append(f"<h2>{escape(split)}</h2>")
        for name, png in shown.items():
            data = base64.b64encode(png).decode()
            parts.append(f"<img alt='{escape(name)} of {escape(split)}' src='data:image/png;base64,{data}'>")
        parts.append(_table(*_tags_table(figures[split])))
    return "\n".join(parts) + "\n"


def _tags_table(figures: Figures) -> Table:
    keys = ("tag", "class", "positives", "frequency", "mean_probability")
    rows = sorted(figures["tags"], key=lambda row: -row.get("frequency", row["mean_probability"]))
    known = [key for key in keys if rows and key in rows[0]]
    return "tags", [_words(key) for key in known], [[cell(row[key]) for key in known] for row in rows]


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption><tr>{head}</tr>{body}</table>"
