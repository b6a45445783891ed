"""`tagstream data describe`: tables for people, one object for machines, pictures and a page of its own."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from model import catalogue_figures, describe_page, describe_pictures
from model.errors import ModelError
from ops.cli import main as cli
from tests.model_data import MOODS_ONLY, SMALL, make_dataset, write_dataset

PNG = b"\x89PNG\r\n\x1a\n"
ALL_PICTURES = ["frequencies.png", "tags-per-track.png", "correlation.png", "reliability.png", "components.png"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run one command; returns exit code, stdout, stderr."""

    def call(*words: object):
        monkeypatch.setattr(sys, "argv", ["tagstream", "data", "describe", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return call


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path / "data" / "train", make_dataset(150))
    write_dataset(tmp_path / "data" / "val", make_dataset(40, seed=5))
    return tmp_path / "data"


def test_tables(run, data):
    code, out, _ = run(data)
    assert code == 0 and SMALL.fingerprint in out
    for words in ("tags per track", "over confidence", "same tags", "genres", "instruments", "moods", "Gini"):
        assert words in out, words
    assert run(data / "val")[0] == 0


def test_json_is_one_object_with_the_figures_of_each_split(run, data):
    code, out, _ = run(data, "--json")
    found = json.loads(out)
    assert code == 0 and set(found) == {"vocabulary", "splits"} and found["vocabulary"] == SMALL.fingerprint
    dataset = make_dataset(150)
    assert found["splits"]["train"]["labels"]["density"] == pytest.approx(dataset.labels.mean())
    rule = catalogue_figures.describe(dataset)["upstream"]["weighted_f1_of_0.5_rule"]
    assert found["splits"]["train"]["upstream"]["weighted_f1_of_0.5_rule"] == pytest.approx(rule)


def test_pictures_and_page(run, data, tmp_path):
    out = tmp_path / "new" / "look"
    out.mkdir(parents=True)
    (out / "index.html").write_text("an earlier one")
    code, printed, _ = run(data / "val", "--out", out, "--json")
    files = json.loads(printed)["files"]
    assert code == 0
    assert files == [str(out / "index.html"), *(str(out / "val" / name) for name in ALL_PICTURES)]
    for path in out.rglob("*.png"):
        content = path.read_bytes()
        assert content.startswith(PNG) and len(content) > 3_000
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64,") == len(ALL_PICTURES)
    assert not re.search(r"(src|href)=['\"](?!data:)", page)  # self-contained
    assert "piano" in page and "over confidence" in page
    assert sorted(path.name for path in out.parent.iterdir()) == ["look"]


def test_other_files_are_never_replaced(run, data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    for out in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        code, printed, err = run(data, "--out", out)
        assert code == 1 and printed == "" and "choose another folder" in err
    assert (tmp_path / "mine" / "notes.txt").read_text() == "kept"


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        describe_page.write(tmp_path / "file" / "look", "x", {}, {})


@pytest.mark.parametrize("labelled", [True, False])
def test_pictures_of_hardly_anything(labelled):
    dataset = make_dataset(1, MOODS_ONLY)
    dataset = replace(dataset, labels=np.zeros_like(dataset.labels) if labelled else None)
    shown = describe_pictures.pictures(dataset, catalogue_figures.describe(dataset))
    assert list(shown) == (ALL_PICTURES if labelled else ["components.png"])
    assert all(png.startswith(PNG) for png in shown.values())


def test_names_are_text_on_the_page(tmp_path):
    found = catalogue_figures.describe(make_dataset(9))
    found["tags"][0]["tag"] = "<script>alert(1)</script>"
    describe_page.write(tmp_path / "look", "a & b", {"train": found}, {"train": {}})
    page = (tmp_path / "look" / "index.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page and "a &amp; b" in page


def test_tags_that_go_together_stand_together():
    phi = np.eye(6)
    for one, other in ((0, 3), (1, 4), (2, 5)):
        phi[one, other] = phi[other, one] = 0.9
    order = describe_pictures.side_by_side(phi).tolist()
    assert sorted(order) == list(range(6))
    assert all(abs(order.index(one) - order.index(one + 3)) == 1 for one in range(3))
