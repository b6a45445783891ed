"""What an artefact shows to people: a model card, two pictures and a table.

Knows a trained model and how to draw it; decides nothing.
"""

import csv
import io

import numpy as np

from model.curves import CURVES
from model.training import Trained
from model.vocabulary import CLASSES

FIGURE_INCHES = (8, 4.5)
DOTS_PER_INCH = 110
COLUMNS = ("support", "precision", "recall", "f1", "f1_low", "f1_high")


def files(trained: Trained) -> dict[str, bytes]:
    """The files by name, relative to the artefact's folder."""
    return {
        "README.md": _card(trained).encode(),
        CURVES: trained.curves.to_json(),
        "report/tags.csv": _table(trained).encode(),
        "report/learning-curve.png": _learning_curve(trained),
        "report/f1-by-frequency.png": _f1_by_frequency(trained),
    }


def _card(trained: Trained) -> str:
    vocabulary, figures = trained.vocabulary, trained.metrics
    counts = ", ".join(f"{len(vocabulary.classes[name]['tags'])} {name}" for name in CLASSES)
    lines = [
        "# Model card",
        "",
        f"Turns an upstream tagger's {vocabulary.n_inputs} probabilities of a track into scores for "
        f"{vocabulary.n_tags} tags ({counts}), each with its own threshold.",
        "",
        f"- Network: {trained.config.network.architecture}, "
        f"{sum(p.numel() for p in trained.network.parameters()):,} weights.",
        f"- Vocabulary: {vocabulary.fingerprint}.",
        f"- Trained on {trained.data['tracks']:,} tracks (data {trained.data['fingerprint'][:12]}), "
        f"seed {trained.seed}, {trained.seconds:.0f} s.",
        f"- Served because it was best out of fold: {figures['served']} "
        f"(threshold smoothing {figures['smoothing']:g}).",
        "",
        "| weighted F1, thresholds fitted on other artists | |",
        "|---|---|",
        *(f"| {name} | {value:.4f} |" for name, value in figures["cross_fitted_weighted_f1"].items()),
        "",
    ]
    if "valid" in figures:
        names = ("weighted_f1", "micro_f1", "macro_f1", "bce", "accuracy", "ece")
        lines += [f"Reported on {figures['valid']['tracks']:,} tracks that chose nothing:", ""]
        lines += ["| | this model | 0.5 rule on the upstream |", "|---|---|---|"]
        lines += [f"| {n} | {figures['valid'][n]:.4f} | {figures['valid_benchmark'][n]:.4f} |" for n in names]
        lines += [""]
    lines += [
        "Limits: scores are only as good as the upstream they come from; another upstream, or one that was "
        "retrained, needs a new model. Tags rare in the training data (see `report/tags.csv`) are decided poorly.",
        "",
    ]
    return "\n".join(lines)


def _table(trained: Trained) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("tag", "class", "threshold", *COLUMNS))
    for (tag, known), index in zip(trained.curves.tags.items(), trained.vocabulary.tag_class, strict=True):
        rates = [f"{getattr(known, name):.4f}" for name in COLUMNS[1:]]
        writer.writerow((tag, CLASSES[index], known.threshold, known.support, *rates))
    return out.getvalue()


def _learning_curve(trained: Trained) -> bytes:
    figure, axes = _figure()
    for name, fit in trained.fits.items():
        epochs = range(1, len(fit.train_losses) + 1)
        line = axes.plot(epochs, fit.train_losses, "--", linewidth=1, label=f"{name}, training")[0]
        if fit.held_losses:
            axes.plot(epochs, fit.held_losses, color=line.get_color(), label=f"{name}, held out")
    axes.set(xlabel="epoch", ylabel="binary cross-entropy", title="Learning curve")
    if trained.fits:
        axes.legend(fontsize=7)
    return _png(figure)


def _f1_by_frequency(trained: Trained) -> bytes:
    figure, axes = _figure()
    tag_class = np.array(trained.vocabulary.tag_class)
    figures = trained.curves.tags.values()
    frequency = np.array([known.support for known in figures]) / max(trained.curves.tracks, 1)
    f1 = np.array([known.f1 for known in figures])
    for index, name in enumerate(CLASSES):
        mine = (tag_class == index) & (frequency > 0)
        if mine.any():
            axes.scatter(frequency[mine], f1[mine], s=12, label=name)
    axes.set(xscale="log", xlabel="share of tracks with the tag", ylabel="F1", title="F1 by tag frequency")
    axes.legend(fontsize=8)
    return _png(figure)


def _figure():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=FIGURE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
