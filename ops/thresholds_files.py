"""Thresholds as files that people edit: YAML or CSV, the whole table or some tags of it.

A file that `thresholds export` wrote names its model and the version it was made of, so that `apply` can refuse it
where another model is active or somebody has changed the table since; a bare list of tags is accepted too. Knows
text; what is a valid tag or number is the table's business.

Notable choices:
- YAML is read as text only (`off` would be False, a tag `1990` a number, `on` a tag True), and only two levels of it:
  no lists, aliases or types, nothing is constructed and nothing nests.
- A tag that is named twice is refused: YAML and CSV readers take the last without a word.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ops.errors import OpsError

BYTES_MAX = 4 * 2**20
TAG, THRESHOLD = "tag", "threshold"  # the columns that a CSV file needs
SHOWN_CHARACTERS = 60
_YAML = (".yaml", ".yml")
_PLAIN = re.compile(r"[^\W_](?:[\w /&.+'-]*\w)?")  # what YAML reads as it stands; the rest is quoted as JSON does it


@dataclass(frozen=True, slots=True)
class TableFile:
    """What a file says. `model` and `version` are empty where it does not say them."""

    model: str
    version: str  # of the thresholds it was made of
    values: Mapping[str, str]  # tag -> text
    lines: Mapping[str, int] = field(default_factory=dict)  # tag -> where it stands


def read_table(path: Path) -> TableFile:
    """The thresholds in a `.yaml` or `.csv` file.

    Raises:
        OpsError: the file cannot be read, is of no such kind, has no thresholds, or names a tag twice.
    """
    text = _text_of(path)
    if path.suffix.lower() == ".csv":
        head, rows = _csv(path, text)
    elif path.suffix.lower() in _YAML:
        head, rows = _yaml(path, text)
    else:
        raise OpsError(f"{path}: a table of thresholds is a .yaml or .csv file.")
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, tag, value in rows:
        if tag in values:
            raise OpsError(f"{path}, line {line}: {_shown(tag)} stands in line {lines[tag]} already.")
        values[tag], lines[tag] = value, line
    if not values:
        raise OpsError(f"{path} holds no thresholds.")
    return TableFile(head.get("model", ""), head.get("thresholds", ""), values, lines)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise OpsError(f"{path} has more than {BYTES_MAX:,} bytes: that is no table of thresholds.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise OpsError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise OpsError(f"{path} is not UTF-8 text.") from None


Rows = Iterable[tuple[int, str, str]]  # line, tag, value


def _yaml(path: Path, text: str) -> tuple[dict[str, str], Rows]:
    found: tuple[list[tuple[int, str, str]], ...] = ([], [])  # at the top, and under `tags`
    try:
        for depth, row in _yaml_rows(path, text):
            found[depth - 1].append(row)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise OpsError(f"{path}{where} is not YAML: {problem}.") from None
    outer, inner = found
    return ({key: value for _, key, value in outer}, inner) if inner else ({}, outer)


def _yaml_rows(path: Path, text: str) -> Iterator[tuple[int, tuple[int, str, str]]]:
    """Depth (1 or 2), and line, key and value; what else YAML can say is refused as soon as it begins."""
    depth, key = 0, None
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.MappingStartEvent) and (depth == 0 or (depth == 1 and key == "tags")):
            depth, key = depth + 1, None
        elif isinstance(event, yaml.MappingEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and depth:
            if key is None:
                key = event.value
            else:
                yield depth, (line, key, event.value)
                key = None
        elif isinstance(event, yaml.NodeEvent | yaml.CollectionStartEvent):
            raise OpsError(f"{path}, line {line} is not a line of the kind `tag: threshold`.")


def _csv(path: Path, text: str) -> tuple[dict[str, str], Rows]:
    head: dict[str, str] = {}
    lines = text.splitlines()
    start = 0
    while start < len(lines) and (lines[start].startswith("#") or not lines[start].strip(" ,;")):
        name, colon, value = lines[start].lstrip("# ").rstrip(",; ").partition(":")
        if colon:
            head[name.strip()] = value.strip()
        start += 1
    if start == len(lines):
        return head, ()
    delimiter = ";" if ";" in lines[start] and "," not in lines[start] else ","
    return head, _csv_rows(path, lines, start, delimiter)


def _csv_rows(path: Path, lines: list[str], start: int, delimiter: str) -> Iterator[tuple[int, str, str]]:
    reader = csv.DictReader(lines[start:], delimiter=delimiter)
    missing = [name for name in (TAG, THRESHOLD) if name not in (reader.fieldnames or ())]
    if missing:
        raise OpsError(f"{path}, line {start + 1}: the first row names the columns, and there is no {missing[0]!r}.")
    try:
        for row in reader:
            if row[TAG] is None or row[THRESHOLD] is None:
                raise OpsError(f"{path}, line {start + reader.line_num}: the row is too short.")
            yield start + reader.line_num, row[TAG], row[THRESHOLD]
    except csv.Error as error:
        raise OpsError(f"{path}, line {start + reader.line_num} is not CSV: {error}.") from None


def table_as_yaml(model: str, version: str, texts: Mapping[str, str], class_of: Mapping[str, str]) -> str:
    """A file that `read_table` reads, the tags under headings of their classes."""
    out = [f"model: {model}", f"thresholds: {version}  # the version this was made of", "tags:"]
    heading = ""
    for tag, text in texts.items():
        if class_of[tag] != heading:
            heading = class_of[tag]
            out.append(f"  # {heading}")
        out.append(f"  {tag if _PLAIN.fullmatch(tag) else json.dumps(tag, ensure_ascii=False)}: {text}")
    return "\n".join(out) + "\n"


def table_as_csv(model: str, version: str, texts: Mapping[str, str], class_of: Mapping[str, str]) -> str:
    """A file that `read_table` reads, with the class beside each tag."""
    out = io.StringIO()
    out.write(f"# model: {model}\n# thresholds: {version}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["class", TAG, THRESHOLD])
    writer.writerows([class_of[tag], tag, text] for tag, text in texts.items())
    return out.getvalue()


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")
