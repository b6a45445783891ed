"""Whether anything grew: the figures of the worker that lived longest, and what each later life of the others had.

Memory may rise by what an allocator takes once and a little an hour (ops/bench/flatness.py); what is counted must not
end above where it was early, but for the few that come and go.
"""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median

from ops.bench.flatness import counts_grew, memory_trend
from tests.fault.soak.samples import Sample, lives, longest_life

# A scrape or a commit under way adds one or two at the moment of the sample.
SLACK = {
    "fds": 4, "threads": 2, "tasks": 4, "kafka_connections": 2, "redis_connections": 1, "other_connections": 3,
}  # fmt: skip
WARM_UP_SHARE = 0.2
WARM_UP_MOST_S = 300.0


def judge(samples: Sequence[Sample], seconds: float) -> tuple[dict[str, object], list[str]]:
    """Figures for the report, and one sentence for each thing that grew."""
    life = longest_life(samples)
    if not life:
        return {}, ["no sample was taken"]
    at_s, warm_up_s = [sample.at_s for sample in life], min(WARM_UP_MOST_S, WARM_UP_SHARE * seconds)
    trend = memory_trend(at_s, [sample.rss_mib for sample in life], warm_up_s)
    uss = memory_trend(at_s, [sample.uss_mib for sample in life], warm_up_s)
    failures = []
    if not trend.flat:
        failures.append(f"the resident set of worker {life[0].worker} is not flat: {trend}")
    counts: dict[str, dict[str, float]] = {}
    for name, slack in SLACK.items():
        values = [getattr(sample, name) for sample in life]
        fifth = max(1, len(values) // 5)
        counts[name] = {"second_fifth": median(values[fifth : 2 * fifth] or values), "end": median(values[-fifth:])}
        if counts_grew(values, slack):
            failures.append(f"{name} grew from {counts[name]['second_fifth']:g} to {counts[name]['end']:g}")
    figures = {
        "judged_worker": life[0].worker,
        "judged_seconds": trend.seconds,
        "warm_up_s": warm_up_s,
        "rss": asdict(trend) | {"flat": trend.flat, "share_per_h": trend.share_per_h},
        "uss": asdict(uss),
        "counts": counts,
        "lives": _lives(samples),
        "redis": {
            "used_mib": [samples[0].redis_mib, samples[-1].redis_mib],
            "clients": [samples[0].redis_clients, samples[-1].redis_clients],
            "tables": [samples[0].tables, samples[-1].tables],
            "history": [samples[0].history, samples[-1].history],
        },
        "lag_most": max(sample.lag for sample in samples),
        "lag_median": median(sample.lag for sample in samples),
    }
    return figures, failures


def _lives(samples: Sequence[Sample]) -> list[dict[str, object]]:
    """Each process: how long it was seen, and its resident set towards the end."""
    return [
        {
            "worker": worker,
            "pid": pid,
            "seconds": life[-1].at_s - life[0].at_s,
            "rss_mib_late": median(sample.rss_mib for sample in life[-max(1, len(life) // 3) :]),
        }
        for (worker, pid), life in lives(samples).items()
    ]
