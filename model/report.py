"""What an artefact shows to people: a model card, a table of tags and a page with pictures; and its curves for tools.

Knows which files there are; what they say is the business of `report_card`, `report_page` and `curves`.
"""

import csv
import io

from model.curves import CURVES
from model.report_card import Card, card
from model.report_page import page
from model.training import Trained
from model.vocabulary import CLASSES

COLUMNS = ("support", "precision", "recall", "f1", "f1_low", "f1_high")
PAGE = "report/index.html"


def files(trained: Trained) -> dict[str, bytes]:
    """The files by name, relative to the artefact's folder."""
    made = card(trained)
    return {
        "README.md": _markdown(made).encode(),
        CURVES: trained.curves.to_json(),
        "report/tags.csv": _table(trained).encode(),
        PAGE: page(trained, made),
    }


def _markdown(made: Card) -> str:
    lines = ["# Model card", "", made.purpose, ""]
    lines += [f"- {what}: {value}." for what, value in made.facts]
    lines += [f"- {one.what}: {one.value}{one.interval and f' ({one.interval})'}." for one in made.headline]
    lines += ["", f"Pictures, worst tags and example tracks: [{PAGE}]({PAGE}).", ""]
    for table in made.tables:
        lines += [table.title, "", f"| {' | '.join(table.columns)} |", "|---" * len(table.columns) + "|"]
        lines += [*(f"| {' | '.join(row)} |" for row in table.rows), ""]
    return "\n".join([*lines, "Limits:", "", *(f"- {limit}" for limit in made.limits), ""])


def _table(trained: Trained) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("tag", "class", "threshold", *COLUMNS))
    for (tag, known), index in zip(trained.curves.tags.items(), trained.vocabulary.tag_class, strict=True):
        rates = [f"{getattr(known, name):.4f}" for name in COLUMNS[1:]]
        writer.writerow((tag, CLASSES[index], known.threshold, known.support, *rates))
    return out.getvalue()
