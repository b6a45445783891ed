"""The measured parts of docs/performance.md, made of the reports that lie in docs/performance.

    python -m ops.bench.document            writes them into the page
    make bench-record                       takes all measurements anew, then this

Each `<!-- bench: NAME -->` of the page is followed by what is made here, up to `<!-- end -->`; what else the page
says is written by people. A report that is not there yet is told.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from ops.bench import peers_report, run_report

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE, REPORTS = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance"
BLOCK = re.compile(r"(<!-- bench: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
THEIR_BEST = ("quix-apply", "quix-batches", "bytewax")

Reports = dict[str, dict[str, Any]]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows]]
    return "\n".join(lines) + "\n"


def peers(reports: Reports) -> str:
    report = reports["peers"]
    told = [line for line in peers_report.notes(report) if "float16 step" not in line]
    body = table(peers_report.COLUMNS, peers_report.rows(report))
    return f"{peers_report.title(report)}:\n\n{body}\n{' '.join(told)}\n\n![peers](performance/peers.png)\n"


def targets(reports: Reports) -> str:
    """The issue's table with what was reached."""
    rates = {name: system["events_per_s"] for name, system in reports["peers"]["systems"].items()}
    ours, bulk = rates["tagstream-json"], rates["tagstream-arrow"]
    best = max(rates[name] for name in THEIR_BEST if name in rates)
    served = max(
        run["ratio_to_study"]
        for name, one in reports.items()
        if name.startswith("worker-json-served")
        for run in one["runs"]
    )
    half = next(load["p99_ms"] for load in reports["latency"]["loads"] if load["share"] == 0.5)
    rows = [
        _target("JSON lane, cheap scorer, one worker, to stock Faust", ours / rates["stock-faust"], 10, 20),
        _target("to Quix and Bytewax at their best", ours / best, 1.7, 3),
        _target("to hand-written confluent-kafka with simdjson", ours / rates["confluent-simdjson"], 0.6, 1.1),
        _target("Arrow lane to our JSON lane", bulk / ours, 2.5, 8),
        _target("served model, JSON lane, both cores, to 3,472/s", served, 2, 5),
        _target("p99 latency at half load, linger included", half, 150, 30, " ms"),
    ]
    return table(["what", "floor", "goal", "reached", ""], rows)


def _target(what: str, reached: float, floor: float, goal: float, unit: str = "x") -> list[str]:
    better = (lambda limit: reached <= limit) if goal < floor else (lambda limit: reached >= limit)
    verdict = "goal" if better(goal) else "floor" if better(floor) else "**below the floor**"
    return [what, f"{floor:g}{unit}", f"{goal:g}{unit}", f"{reached:.3g}{unit}", verdict]


def worker(reports: Reports) -> str:
    return _runs(reports, "worker-")


def scale(reports: Reports) -> str:
    return _runs(reports, "scale-")


def _runs(reports: Reports, start: str) -> str:
    found = [reports[name] for name in sorted(reports) if name.startswith(start)]
    if not found:
        raise KeyError(start)
    return table(run_report.WORKER_COLUMNS, [row for report in found for row in run_report.worker_rows(report)])


def model(reports: Reports) -> str:
    report = reports["model"]
    lines = [table(run_report.MODEL_COLUMNS, run_report.model_rows(report))]
    lines += [" ".join(run_report.machine_notes(report)), "\n![model](performance/model.png)\n"]
    for name, agreement in report["agreement"].items():
        lines.append(
            f"{name}: {agreement['differing']:,} of {agreement['decisions']:,} decisions differ from float32's beyond "
            f"one float16 step of the threshold, {agreement['within_one_step']:,} within it."
        )
    return "\n".join(lines) + "\n"


def latency(reports: Reports) -> str:
    report = reports["latency"]
    told = f"One worker carries {report['capacity']['events_per_s']:,.0f} events/s here."
    rows = table(run_report.LATENCY_COLUMNS, run_report.latency_rows(report))
    return f"{told}\n\n{rows}\n![latency](performance/latency.png)\n"


def stages(reports: Reports) -> str:
    parts = []
    for wire in ("json", "arrow"):
        report = reports[f"stages-{wire}"]
        parts.append(f"{wire} lane, {report['cpu_us_per_event']:.1f} us of CPU an event:\n")
        parts.append(table(run_report.PROFILE_COLUMNS, run_report.profile_rows(report, most=16)))
    return "\n".join(parts)


def hundred(reports: Reports) -> str:
    """What 100 million tracks take at the measured rates."""
    rates = {f"{name}, one core": one["events_per_s"] for name, one in reports["peers"]["systems"].items()}
    rates = {name: rate for name, rate in rates.items() if name.startswith(("tagstream", "stock"))}
    for name, report in sorted(reports.items()):
        if name.startswith("worker-"):
            run = report["runs"][0]
            workers = f"{run['workers']} worker{'s' * (run['workers'] > 1)}"
            rates[f"{run['wire']} lane, {run['network']} network, {workers}, all cores"] = run["events_per_s"]
    rates |= {f"the {name} network alone": rate for name, rate in reports["model"]["best_tracks_per_s"].items()}
    rows = [[name, f"{rate:,.0f}", _span(100e6 / rate), _span(1e6 / rate)] for name, rate in rates.items()]
    return table(
        ["what", "tracks/s", "100 million", "a million"], [["the study's claim", "3,472", "8.0 h", "4.8 min"], *rows]
    )


def _span(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


BLOCKS: dict[str, Callable[[Reports], str]] = {
    one.__name__: one for one in (peers, targets, worker, scale, model, latency, stages, hundred)
}


def with_measurements(text: str, reports: Reports) -> str:
    """The page with its measured parts as the reports have them."""

    def fill(found: re.Match[str]) -> str:
        try:
            made = BLOCKS[found[2]](reports)
        except (KeyError, ValueError, StopIteration):
            made = "Not measured yet: `make bench-record` does.\n"
        return f"{found[1]}\n{made}\n{found[3]}"

    return BLOCK.sub(fill, text)


def read_reports() -> Reports:
    """Every report that lies there, by its file's name."""
    return {path.stem: orjson.loads(path.read_bytes()) for path in sorted(REPORTS.glob("*.json"))}


def main() -> int:
    PAGE.write_text(with_measurements(PAGE.read_text(encoding="utf-8"), read_reports()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
