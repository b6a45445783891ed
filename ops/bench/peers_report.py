"""What `bench peers` tells: a table, a sentence for what was not measured, and the picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ops.bench.pictures import bars, keep

COLUMNS = ["system", "what it is", "events/s", "lowest..highest", "CPU us", "ratio", "outputs"]
OURS = "tagstream"
NOTICED_CORES = 0.15  # of foreign work; less is the kernel's and the shell's


def title(report: dict[str, Any]) -> str:
    """One line over the table."""
    rounds = f"{report['rounds']} round{'s' * (report['rounds'] > 1)}"
    return f"{report['events']:,} JSON events of 2 KB, one process on one core, median of {rounds}"


def rows(report: dict[str, Any]) -> list[list[str]]:
    """One row per system, in the order of COLUMNS; those that were not measured come last and say so."""
    measured = [
        [
            name,
            system["what"],
            f"{system['events_per_s']:,.0f}",
            _span([run["events_per_s"] for run in system["runs"]]),
            f"{system['cpu_us_per_event']:.1f}",
            "-" if system["ratio_to_stock_faust"] is None else f"{system['ratio_to_stock_faust']:.2f}",
            "equal" if system["agree"] else "WRONG",
        ]
        for name, system in report["systems"].items()
    ]
    return measured + [[name, "not measured", "-", "-", "-", "-", "-"] for name in report["missing"]]


def notes(report: dict[str, Any]) -> Iterator[str]:
    """What a reader of the table must know."""
    yield from report["missing"].values()
    for name, system in report["systems"].items():
        yield f"{name}: {_agreement_line(system)}"
    drift, environment = report["drift"], report["environment"]
    yield (
        f"CPU us is per event, ratio to stock Faust; {environment['cores']} cores of {environment['cpu']}, load "
        f"{environment['load_1min_before']:.1f} before and {environment['load_1min_after']:.1f} after; "
        f"{report['seconds']:.0f} s in all."
    )
    if len(drift) > 1:
        spread = (max(drift) / min(drift) - 1) * 100
        yield f"Between the rounds the machine's speed changed by {spread:.0f} %."
    if report["foreign_cores"] > NOTICED_CORES:
        yield (
            f"Foreign work kept up to {report['foreign_cores']:.1f} of {environment['cores']} cores busy meanwhile: "
            "trust ratios and CPU us, not events/s."
        )


def save(report: dict[str, Any], folder: Path) -> Path:
    """JSON and bar chart into `folder`; the picture's path."""

    def draw(axes: Any) -> None:
        bars(axes, {name: system["events_per_s"] for name, system in report["systems"].items()}, "events/s", OURS)
        axes.set_title(title(report), fontsize=10)

    return keep(folder, "peers", report, draw, height=1.0 + 0.35 * len(report["systems"]))


def _span(values: list[float]) -> str:
    return f"{min(values):,.0f}..{max(values):,.0f}"


def _agreement_line(system: dict[str, Any]) -> str:
    agreement = system["agreement"]
    return (
        f"{system['events']:,} events; of {agreement['tags']:,} tags {agreement['tags_differing']:,} differ from the "
        f"reference and {agreement['tags_at_threshold']:,} within one float16 step of the threshold; "
        f"{agreement['missing_tracks']:,} tracks missing, {agreement['unknown_tracks']:,} unknown, "
        f"{agreement['repeated_outputs']:,} outputs repeated"
    )
