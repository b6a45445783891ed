"""Tables of thresholds as files: what is exported is read back, and what is none is refused with its line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import OpsError
from ops.thresholds_files import BYTES_MAX, read_table, table_as_csv, table_as_yaml

NAMES = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=20).map(str.strip)
ODD = ["off", "on", "no", "null", "1990", "a: b", "#1", 'q"x', "é,ü", "x;y", "- a", "drum'n'bass", "r&b", "~", "{a}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(ODD) | NAMES.filter(bool), st.sampled_from(["0.350000", "off", "1.000000"])))
def test_what_is_written_is_read_back(folder, texts):
    texts = {**texts, "jazz": "0.500000"}
    class_of = dict.fromkeys(texts, "genres")
    for name, write in (("a.yaml", table_as_yaml), ("a.csv", table_as_csv)):
        (folder / name).write_text(write("M", "abc", texts, class_of), encoding="utf-8")
        found = read_table(folder / name)
        assert (found.model, found.version, dict(found.values)) == ("M", "abc", texts), name


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("bare.yaml", "jazz: 0.3\noff: off\n", {"jazz": "0.3", "off": "off"}),
        ("part.yml", "tags: {jazz: .3}", {"jazz": ".3"}),
        ("excel.csv", "\ufefftag;threshold;note\njazz;0.3;so\n", {"jazz": "0.3"}),
        ("columns.csv", "threshold,class,tag\n0.3,genres,jazz\n\n", {"jazz": "0.3"}),
    ],
)
def test_hand_made_files_are_read(tmp_path, name, text, values):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_table(tmp_path / name)
    assert (dict(found.values), found.model, found.version) == (values, "", "")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.yaml", b"", "holds no thresholds"),
        ("a.yaml", b"tags: {}\n", "holds no thresholds"),
        ("a.csv", b"", "holds no thresholds"),
        ("a.csv", b"tag,threshold\n", "holds no thresholds"),
        ("a.yaml", b"a: 0.1\na: 0.2\n", "line 2: 'a' stands in line 1 already"),
        ("a.csv", b"# model: M\ntag,threshold\na,0.1\na,0.1\n", "line 4: 'a' stands in line 3"),
        ("a.yaml", b"a: [0.1]\n", "line 1 is not a line of the kind"),
        ("a.yaml", b"a: {b: 0.1}\n", "line 1 is not a line of the kind"),
        ("a.yaml", b"tags:\n  a: &x 0.1\n  b: *x\n", "line 3 is not a line of the kind"),
        ("a.yaml", b"jazz\n", "line 1 is not a line of the kind"),
        ("a.yaml", b"a: 0.1\nb 0.2\n", "is not YAML: could not find"),
        ("a.yaml", b"[" * 100_000, "line 1 is not a line of the kind"),
        ("a.yaml", b"a: \xff\n", "not UTF-8"),
        ("a.csv", b"name,value\na,1\n", "there is no 'tag'"),
        ("a.csv", b"tag,threshold\na\n", "line 2: the row is too short"),
        ("a.txt", b"jazz 0.3", r"is a \.yaml or \.csv file"),
        ("a.yaml", b"#" * (BYTES_MAX + 1), "more than"),
    ],
)
def test_what_is_no_table_is_told_with_its_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OpsError, match=said):
        read_table(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OpsError, match="cannot be read"):
        read_table(tmp_path / "none.yaml")
