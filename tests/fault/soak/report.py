"""What a soak leaves behind: samples.csv, report.json, report.md and soak.png in one folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.fault.soak.samples import Sample, lives, write_csv
from tests.fault.soak.stage import Mark, Outcome, Plan

PANELS = (
    ("rss_mib", "resident set, MiB"),
    ("fds", "file descriptors"),
    ("threads", "threads"),
    ("tasks", "asyncio tasks"),
    ("kafka_connections", "connections to Kafka"),
    ("redis_connections", "connections to Redis"),
    ("lag", "lag, events"),
)
COLOURS = {"swap": "#dddddd", "switch": "tab:green", "restart": "tab:red", "re-decide": "tab:purple"}


def took(marks: Sequence[Mark], what: str) -> dict[str, float]:
    """How many of these, and how long they took: median and worst, milliseconds."""
    times = [mark.took_ms for mark in marks if mark.what == what]
    return {"count": len(times), "median_ms": median(times), "worst_ms": max(times)} if times else {"count": 0}


def write_reports(
    folder: Path,
    plan: Plan,
    outcome: Outcome,
    samples: Sequence[Sample],
    figures: Mapping[str, Any],
    failures: Sequence[str],
) -> None:
    """All four files; the pictures and figures of a run that failed too."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(samples, folder / "samples.csv")
    report = {
        "plan": asdict(plan) | {"checked_rate": plan.checked_rate},
        "events": outcome.events,
        "checker": outcome.checker,
        "duplicates": outcome.duplicates,
        "exit_codes": outcome.exit_codes,
        "done": {what: took(outcome.marks, what) for what in COLOURS},
        "figures": dict(figures),
        "failures": list(failures),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "report.md").write_text(_markdown(report))
    if samples:
        _draw(samples, outcome.marks, plan, folder / "soak.png")


def _markdown(report: Mapping[str, Any]) -> str:
    plan, figures, done = report["plan"], report["figures"], report["done"]
    lines = [
        f"Soak of {plan['seconds'] / 60:.1f} minutes, seed {plan['seed']}, {plan['checked_rate']:,.0f} events/s, "
        "half as many more in bulk",
        "",
        f'`make soak HOURS={plan["seconds"] / 3600:.3g} SEED={plan["seed"]} ARGS="--rate {plan["checked_rate"]:.0f}"`',
        "",
        *(f"- **FAILED**: {failure}" for failure in report["failures"]),
        f"- checker: {report['checker'] or 'not reached'}",
        *(f"- {what}: {_took(one)}" for what, one in done.items() if one["count"]),
    ]
    if figures:
        lines += _figure_lines(figures)
    return "\n".join(lines) + "\n"


def _took(one: Mapping[str, float]) -> str:
    return f"{one['count']}, median {one['median_ms']:.0f} ms, worst {one['worst_ms']:.0f} ms"


def _figure_lines(figures: Mapping[str, Any]) -> list[str]:
    rss, redis = figures["rss"], figures["redis"]
    return [
        f"- lag: median {figures['lag_median']:,.0f}, most {figures['lag_most']:,} events",
        f"- Redis: {redis['used_mib'][0]:.2f} to {redis['used_mib'][1]:.2f} MiB, clients {redis['clients'][0]} to "
        f"{redis['clients'][1]}; by design one entry per new table: `:tables` {redis['tables'][0]} to "
        f"{redis['tables'][1]}, `:history` {redis['history'][0]} to {redis['history'][1]} (capped)",
        "",
        f"Worker `{figures['judged_worker']}`, {figures['judged_seconds']:.0f} s after a warm-up of "
        f"{figures['warm_up_s']:.0f} s:",
        "",
        "| what | early | end | verdict |",
        "|---|---|---|---|",
        f"| resident set | {rss['median']:.0f} MiB (median) | {rss['rise']:+.1f} MiB, {rss['slope_per_h']:+.1f} MiB/h "
        f"({rss['share_per_h']:+.1%}/h) | {'flat' if rss['flat'] else 'NOT FLAT'}, {rss['allowed']:.1f} MiB allowed |",
        *(
            f"| {name.replace('_', ' ')} | {one['second_fifth']:g} | {one['end']:g} | |"
            for name, one in figures["counts"].items()
        ),
        "",
        "| life of | seconds | resident set, late |",
        "|---|---|---|",
        *(
            f"| {life['worker']} (pid {life['pid']}) | {life['seconds']:.0f} | {life['rss_mib_late']:.0f} MiB |"
            for life in figures["lives"]
        ),
    ]


def _draw(samples: Sequence[Sample], marks: Sequence[Mark], plan: Plan, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(PANELS), 1, figsize=(10, 12), sharex=True, layout="constrained")
    colours = {name: f"C{index}" for index, name in enumerate(sorted({sample.worker for sample in samples}))}
    for axis, (name, title) in zip(axes, PANELS, strict=True):
        for mark in marks:
            axis.axvline(mark.at_s / 60, color=COLOURS[mark.what], linewidth=0.6 if mark.what == "swap" else 1.0)
        drawn: set[str] = set()
        for (worker, _), life in lives(samples).items():
            label = None if worker in drawn else worker
            drawn.add(worker)
            minutes = [sample.at_s / 60 for sample in life]
            axis.plot(minutes, [getattr(sample, name) for sample in life], color=colours[worker], label=label)
        axis.set_ylabel(title, fontsize=8)
        axis.set_ylim(0, 1.1 * max(getattr(sample, name) for sample in samples) or 1)
    axes[0].legend(loc="lower right", fontsize=8)
    axes[0].set_title(
        f"{plan.seconds / 60:.0f} minutes at {plan.checked_rate:,.0f} events/s: swaps grey, model switches green, "
        "restarts red, re-decides purple",
        fontsize=10,
    )
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
