"""The training report: every section, nothing from outside, and no name that becomes markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from model import report
from model.objective import Objective
from model.training import train
from model.vocabulary import Vocabulary
from tests.model_data import SMALL, make_dataset, quick

HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b\n| c", "$\\frac{1}$", "&amp;", "歌謡曲",
    "\u202egnp", "=cmd()", "x" * 5000,
)  # fmt: skip
SECTIONS = {
    "Model card", "Learning curves", "F1 by frequency", "Precision, recall and the chosen threshold", "Reliability",
    "Scores", "Worst tags", "Eight tracks", "All tags",
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would find: headings, elements, attributes, the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if "h2" in self._open:
            self.headings.append(data)
        if {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data

    def names(self) -> set[str]:
        return {name for name, _ in self.elements}


@pytest.fixture(scope="module")
def trained():
    return train(make_dataset(300), make_dataset(60, seed=4), quick("linear"))


@pytest.fixture(scope="module")
def files(trained):
    return report.files(trained)


def test_every_section_is_there_and_filled(trained, files):
    text = files["report/index.html"].decode()
    page = Page(text)
    assert set(page.headings) == SECTIONS
    assert text.count("<svg") >= 4 + 2 * 3  # of each class two tags have a picture of their own
    assert {row[0] for row in page.cells if len(row) == 8} >= set(SMALL.tags)
    for figure in (trained.metrics["valid"], trained.metrics["out_of_fold"], trained.metrics["valid_benchmark"]):
        assert f"{figure['weighted_f1']:.4f}" in text
    tracks = [row for row in page.cells if row[0].startswith("T-")]
    assert len(tracks) == 8
    val = make_dataset(60, seed=4)
    for track, half_rule, ours, labels in tracks:
        row = val.track_ids.index(track)
        wanted = {tag for tag, label in zip(SMALL.tags, val.labels[row], strict=True) if label}
        upstream = {tag for tag, p in zip(SMALL.tags, val.probabilities[row], strict=False) if p >= 0.5}
        assert set(filter(None, labels.split(", "))) == wanted
        assert set(re.findall(r"[✓✗] (\w+)", half_rule)) == upstream
        assert set(re.findall(r"[✓–] (\w+)", ours)) == wanted


def test_it_needs_nothing_else(files):
    text = files["report/index.html"].decode()
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & page.names()
    for name, attributes in page.elements:
        for attribute, value in attributes.items():
            assert not attribute.startswith("on")
            if attribute in ("href", "xlink:href", "src"):
                assert (value or "").startswith("#"), f"{name} {attribute}={value}"
    assert "default-src 'none'" in text and "@import" not in text
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", text))
    assert sum(map(len, files.values())) < 3_000_000


def test_pictures_take_the_colour_of_the_page(files):
    text = files["report/index.html"].decode()
    assert "currentColor" in text and "#010203" not in text
    assert "prefers-color-scheme: dark" in text and "#000000" not in text


def test_the_card_links_to_it_and_says_what_counts(trained, files):
    card = files["README.md"].decode()
    assert "(report/index.html)" in card and "Limits:" in card
    assert "tuned for f1 on out-of-fold scores" in card
    assert f"{trained.metrics['valid']['weighted_f1']:.4f}" in card


def test_hostile_names_stay_names():
    vocabulary = Vocabulary.build({"moods": {"tags": HOSTILE, "categories": ("<b>",)}})
    dataset = make_dataset(120, vocabulary)
    ids = [f"<script>{row}</script>" for row in range(120)]
    trained = train(replace(dataset, track_ids=ids), config=quick("upstream"))
    files = report.files(trained)
    page = Page(files["report/index.html"].decode())
    assert not {"script", "img", "b>"} & page.names()
    rows = {row[0] for row in page.cells if len(row) == 8}
    assert rows >= set(HOSTILE), "each is shown as it is"
    assert "<script>0</script>" in {row[0] for row in page.cells}
    assert "<script>" not in files["README.md"].decode()


def test_little_and_odd_data():
    few = train(make_dataset(3), config=quick("upstream"))
    assert b"No network was trained" in report.files(few)["report/index.html"]
    dataset = make_dataset(120)
    dataset.labels[:] = 0
    page = report.files(train(dataset, config=quick("upstream")))["report/index.html"].decode()
    assert set(Page(page).headings) == SECTIONS and f"{SMALL.n_tags} tags have none" in page


def test_tags_that_are_off_are_told(trained):
    careful = quick("upstream", objective=Objective.parse("precision:1,floor:0.9"))
    off = train(make_dataset(300), config=careful)
    assert set(off.thresholds.values()) == {"off"}
    files = report.files(off)
    assert f"{SMALL.n_tags} tags off" in files["README.md"].decode()
    assert f"{SMALL.n_tags} tags are off" in files["report/index.html"].decode()
    assert files["report/tags.csv"].decode().splitlines()[1].startswith("rock,genres,off,")


def test_the_same_model_gives_the_same_bytes(trained, files):
    assert report.files(trained) == files


def test_the_table_reads_back(trained, files):
    lines = files["report/tags.csv"].decode().splitlines()
    assert lines[0] == "tag,class,threshold,support,precision,recall,f1,f1_low,f1_high"
    values = [line.split(",") for line in lines[1:]]
    assert [line[0] for line in values] == list(SMALL.tags)
    assert [float(line[2]) for line in values] == list(trained.thresholds.values())
    f1 = np.array([[float(cell) for cell in line[6:]] for line in values])
    assert (f1[:, 1] <= f1[:, 0]).all() and (f1[:, 0] <= f1[:, 2]).all()
