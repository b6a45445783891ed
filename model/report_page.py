"""`report/index.html`: everything that is known of a model on one page that needs nothing else.

No script, no network: pictures are inline SVG, and the page's own policy forbids anything more. Every name (tags,
track ids, folds) comes from somebody's files and is escaped. Knows HTML; draws nothing and computes no figures.
"""

from collections.abc import Iterable, Sequence
from html import escape

from model import report_pictures as pictures
from model.curves import TagFigures
from model.evidence import Example
from model.intervals import LEVEL
from model.report_card import Card
from model.served import title
from model.thresholds import OFF
from model.training import Trained
from model.vocabulary import CLASSES

WORST_SHOWN = 15
PANELS_WORST = 3  # of the worst tags that get a picture each
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --dim: #5d6770; --line: #d9dee3; --paper: #fff; --shade: #f4f6f8;
  --right: #1d7a3f; --wrong: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --dim: #9aa5af; --line: #39424b; --paper: #14181c;
  --shade: #1e242a; --right: #6fd391; --wrong: #ff8f85; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 66rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; }
p, li, figcaption { max-width: 46rem; } .dim, figcaption { color: var(--dim); }
nav a { margin-right: 1rem; } a { color: inherit; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } td.number, th.number { text-align: right; }
.scroll { overflow-x: auto; } td { overflow-wrap: break-word; max-width: 24rem; }
figure { margin: 0 0 1rem; } svg { max-width: 100%; height: auto; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr)); gap: .5rem 1.5rem; }
.right { color: var(--right); } .wrong { color: var(--wrong); } .missed { color: var(--dim); }
.tags span { display: inline-block; margin: 0 .5rem .1rem 0; }
.facts { display: flex; flex-wrap: wrap; gap: .5rem 2.5rem; margin-bottom: 1rem; }
.big { font-size: 1.8rem; font-weight: 600; }
summary { cursor: pointer; }
"""


def page(trained: Trained, card: Card) -> bytes:
    """The whole page."""
    sections = {
        "card": ("Model card", _card(card)),
        "learning": ("Learning curves", _learning(trained)),
        "frequency": ("F1 by frequency", _frequency(trained)),
        "thresholds": ("Precision, recall and the chosen threshold", _panels(trained)),
        "reliability": ("Reliability", _reliability(trained)),
        "scores": ("Scores", _scores(trained)),
        "worst": ("Worst tags", _worst(trained)),
        "examples": ("Eight tracks", _examples(trained)),
        "all": ("All tags", _all_tags(trained)),
    }
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, (title, _) in sections.items())
    body = "".join(f'<h2 id="{key}">{escape(title)}</h2>{content}' for key, (title, content) in sections.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Training report</title><style>{STYLE}</style></head><body>"
        f"<h1>Training report</h1><nav>{links}</nav>{body}</body></html>\n"
    ).encode()


def _card(card: Card) -> str:
    facts = "".join(
        f'<div><div class="big">{escape(one.value)}</div>{escape(one.what)}<br><span class="dim">{escape(one.interval)}'
        "</span></div>"
        for one in card.headline
    )
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in card.facts)
    tables = "".join(
        f"<p>{escape(table.title)}</p>" + _table(table.columns, table.rows, numbers_from=1) for table in card.tables
    )
    limits = "".join(f"<li>{escape(limit)}</li>" for limit in card.limits)
    return (
        f'<p>{escape(card.purpose)}</p><div class="facts">{facts}</div><table>{rows}</table>'
        f"{tables}<p><b>Limits</b></p><ul>{limits}</ul>"
    )


def _learning(trained: Trained) -> str:
    if not trained.fits:
        return f"<p>No network was trained; served: {title(trained.metrics['served'])}.</p>"
    text = "Dashed: training, with whatever is mixed in there; solid: tracks of other artists; the dot: the epoch kept."
    return _figure(pictures.learning_curves(trained.fits), text)


def _frequency(trained: Trained) -> str:
    text = (
        f"Each dot is a tag, its line the {LEVEL:.0%} interval (bootstrap over artists). Out of fold, thresholds "
        "fitted on other artists. Tags without a positive are left out."
    )
    return _figure(pictures.f1_by_frequency(trained.curves, _classes(trained)), text)


def _panels(trained: Trained) -> str:
    text = (
        "Of each class the most frequent tag and the median one, then the worst. Left: what any threshold would have "
        "done out of fold, the ring is the chosen one, thin lines join equal F1. Right: scores of all tracks (grey) "
        "and of those with the tag; the upright line is the threshold."
    )
    shown = "".join(
        f"<figure>{pictures.tag_panel(tag, pictures.COLOURS[its_class])}<figcaption><b>{escape(name)}</b> "
        f"({its_class}): {escape(_in_words(tag))}</figcaption></figure>"
        for name, its_class, tag in _tags_of_note(trained)
    )
    return f'<p class="dim">{text}</p><div class="panels">{shown}</div>'


def _reliability(trained: Trained) -> str:
    text = (
        "Of the tags that were given this score, how many the tracks have: on the dotted line a score is a "
        "probability. Out of fold, all tags; both axes are log odds, bins with no or only positives are left out. "
        "Thresholds are fitted per tag, so a curve off the line costs no decision, but is no probability there."
    )
    return _figure(pictures.reliability(trained.evidence.reliability), text)


def _scores(trained: Trained) -> str:
    text = "Grey: all tracks and tags of the class, out of fold; coloured: where the track has the tag."
    return _figure(pictures.score_histograms(trained.curves, _classes(trained)), text)


def _worst(trained: Trained) -> str:
    unseen = sum(tag.support == 0 for tag in trained.curves.tags.values())
    off = sum(tag.threshold == OFF for tag in trained.curves.tags.values())
    text = f"The lowest F1 of tags with a positive. {unseen} tags have none, {off} tags are off."
    return f'<p class="dim">{escape(text)}</p>' + _tag_table(_by_f1(trained)[:WORST_SHOWN])


def _examples(trained: Trained) -> str:
    where = "of the reported split, which chose nothing" if trained.evidence.examples_held_out else "out of fold"
    text = (
        f"Evenly spread over the tracks {where}, not picked. ✓ the track has the tag, ✗ it has not, – it has, but the "
        "tag was not decided."
    )
    rows = [
        [escape(one.track_id), _chips(one.half_rule, one), _chips(one.decided, one), escape(", ".join(one.labels))]
        for one in trained.evidence.examples
    ]
    head = ("track", "upstream, 0.5 rule", "this model", "labels")
    return f'<p class="dim">{escape(text)}</p>' + _table(head, rows, escaped=True)


def _chips(decided: Sequence[str], example: Example) -> str:
    """Decided tags, right ones first, then those that are missing; marked by sign and by colour."""
    signs = [("right", "✓", [tag for tag in decided if tag in example.labels])]
    signs += [("wrong", "✗", [tag for tag in decided if tag not in example.labels])]
    signs += [("missed", "–", [tag for tag in example.labels if tag not in decided])]
    spans = (f'<span class="{kind}">{sign} {escape(tag)}</span>' for kind, sign, tags in signs for tag in tags)
    return f'<div class="tags">{"".join(spans)}</div>'


def _all_tags(trained: Trained) -> str:
    rows = [(name, c, tag) for (name, tag), c in zip(trained.curves.tags.items(), _classes(trained), strict=True)]
    return f"<details><summary>{len(rows)} tags (also in tags.csv)</summary>{_tag_table(rows)}</details>"


def _tag_table(rows: Iterable[tuple[str, str, TagFigures]]) -> str:
    head = ("tag", "class", "tracks", "threshold", "precision", "recall", "F1", f"{LEVEL:.0%} interval")
    cells = [
        [
            name,
            its_class,
            f"{tag.support:,}",
            _threshold(tag),
            *(f"{value:.3f}" for value in (tag.precision, tag.recall, tag.f1)),
            f"{tag.f1_low:.3f} to {tag.f1_high:.3f}",
        ]
        for name, its_class, tag in rows
    ]
    return _table(head, cells, numbers_from=2)


def _tags_of_note(trained: Trained) -> list[tuple[str, str, TagFigures]]:
    """For a picture each: of every class the most frequent tag and the median one, then the worst of all."""
    rows = [(name, c, tag) for (name, tag), c in zip(trained.curves.tags.items(), _classes(trained), strict=True)]
    found = []
    for its_class in CLASSES:
        mine = sorted((row for row in rows if row[1] == its_class and row[2].support), key=lambda row: -row[2].support)
        found += [mine[index] for index in sorted({0, len(mine) // 2}) if mine]
    found += _by_f1(trained)[:PANELS_WORST]
    return list({row[0]: row for row in found}.values())


def _by_f1(trained: Trained) -> list[tuple[str, str, TagFigures]]:
    """Tags with a positive, worst first."""
    rows = zip(trained.curves.tags.items(), _classes(trained), strict=True)
    return sorted(((n, c, tag) for (n, tag), c in rows if tag.support), key=lambda row: row[2].f1)


def _classes(trained: Trained) -> list[str]:
    return [CLASSES[index] for index in trained.vocabulary.tag_class]


def _in_words(tag: TagFigures) -> str:
    return (
        f"{tag.support:,} tracks, threshold {_threshold(tag)}, F1 {tag.f1:.3f} ({tag.f1_low:.3f} to {tag.f1_high:.3f})"
    )


def _threshold(tag: TagFigures) -> str:
    return OFF if tag.threshold == OFF else f"{tag.threshold:.4f}"


def _figure(svg: str, caption: str) -> str:
    return f'<figure><div class="scroll">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 99, escaped: bool = False) -> str:
    """A table; columns from `numbers_from` on are set flush right. `escaped` cells are HTML already."""

    def line(cells: Sequence[str], mark: str) -> str:
        opened = (f'<{mark} class="number">' if index >= numbers_from else f"<{mark}>" for index in range(len(cells)))
        return "".join(f"{start}{cell}</{mark}>" for start, cell in zip(opened, cells, strict=True))

    body = "".join(f"<tr>{line(cells if escaped else [escape(c) for c in cells], 'td')}</tr>" for cells in rows)
    return f'<div class="scroll"><table><tr>{line([escape(c) for c in head], "th")}</tr>{body}</table></div>'
