"""What a run was: figures of each fault, for people (report.md) and for programs (report.json).

*Recovery* of a fault is counted from when it was over (of a kill, which is over at once, from the kill) until every
partition has decided an event that was produced after that moment: the backlog before it is worked off by then.
Only faults that were alone are counted, from their beginning to their recovery.
"""

import json
import signal
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean

from tests.checker import Report
from tests.evidence import Evidence
from tests.fault.lab.nemesis import Happened
from tests.fault.lab.schedule import Entry
from tests.fault.lab.watch import Watch
from tests.fault.lab.world import Exit, Size
from tests.harness import PARTITIONS


@dataclass
class Run:
    """One seed's run and what came of it."""

    seed: int
    minutes: float
    size: Size
    schedule: list[Entry]
    command: str
    failure: str = ""
    began_ms: float = 0.0
    happened: list[Happened] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    checked: Report | None = None
    tracks: int = 0  # that the last re-decide looked at, after all faults
    line: str = ""  # the checker's
    in_bulk: int = 0  # of the tracks sent
    longest_pause_s: float = 0.0
    recoveries: dict[str, list[float]] = field(default_factory=dict)  # seconds by kind

    def keep(self, checked: Report) -> None:
        """Its figures, not the evidence: of ten runs that would be gigabytes."""
        self.line, self.longest_pause_s = checked.line(), checked.longest_pause_s()
        self.in_bulk = sum(event.in_bulk for event in checked.found.inputs.values())
        self.checked = replace(checked, decisions=[], found=Evidence())


def recoveries(happened: Sequence[Happened], watch: Watch) -> dict[str, list[float]]:
    """Seconds by kind of fault; see the module's docstring."""
    by_partition = _decided_after(watch)
    found: dict[str, list[float]] = defaultdict(list)
    done = [one for one in happened if one.healed_ms]
    for one in done:
        recovered = [_first_after(by_partition[p], one.healed_ms) for p in range(PARTITIONS)]
        if None in recovered:
            continue  # the run ended before
        until_ms = max(ms for ms in recovered if ms is not None)
        if not any(o is not one and o.injected_ms < until_ms and o.healed_ms > one.injected_ms for o in done):
            found[one.name].append(round(max(0.0, until_ms - one.healed_ms) / 1000, 2))
    return dict(found)


def _decided_after(watch: Watch) -> list[list[tuple[int, int]]]:
    """By partition, in order: when each event was produced, and when it was done with."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(PARTITIONS)]
    for (partition, *_), seen in sorted(watch.inputs.items()):
        if seen.done_ms:
            found[partition].append((seen.at_ms, seen.done_ms))
    return found


def _first_after(events: Sequence[tuple[int, int]], since_ms: float) -> int | None:
    return next((done_ms for at_ms, done_ms in events if at_ms >= since_ms), None)


def as_json(run: Run) -> dict[str, object]:
    """All of it."""
    checked = run.checked
    return {
        "seed": run.seed,
        "minutes": run.minutes,
        "command": run.command,
        "failure": run.failure,
        "size": asdict(run.size),
        "faults": dict(Counter(one.name for one in run.happened if one.injected_ms)),
        "sent": checked.inputs if checked else None,
        "lost": 0 if checked else None,
        "decided": checked.decided if checked else None,
        "dead_letters": checked.dead if checked else None,
        "in_bulk": run.in_bulk if checked else None,
        "redecided": checked.redecided if checked else None,
        "tracks_re_decided_at_last": run.tracks,
        "duplicated": checked.duplicates if checked else None,
        "commits_watched": checked.commits_sampled if checked else None,
        "longest_pause_s": round(run.longest_pause_s, 1) if checked else None,
        "recovery_s": run.recoveries,
        "exits": [asdict(one) for one in run.exits],
        "schedule": [entry.as_json() for entry in run.schedule],
        "happened": [
            {"fault": one.name, "injected_ms": one.injected_ms, "healed_ms": one.healed_ms, "trouble": one.trouble}
            for one in run.happened
        ],
    }


def _recovery_rows(faults: Counter[str], recovered: dict[str, list[float]]) -> list[str]:
    rows = ["| fault | times | alone | mean recovery | worst |", "|---|---|---|---|---|"]
    for name, count in sorted(faults.items()):
        times = recovered.get(name, [])
        figures = f"{mean(times):.1f} s | {max(times):.1f} s" if times else "- | -"
        rows.append(f"| {name} | {count} | {len(times)} | {figures} |")
    return rows


def as_markdown(runs: Sequence[Run], title: str) -> str:
    """One run or several in the same form."""
    faults = Counter(one.name for run in runs for one in run.happened if one.injected_ms)
    recovered: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for name, times in run.recoveries.items():
            recovered[name] += times
    lines = [f"# {title}", ""]
    lines += [f"**Seed {run.seed} FAILED**: {run.failure}; again: `{run.command}`\n" for run in runs if run.failure]
    lines += ["| seed | faults | sent | in bulk | lost | decided | dead letters | duplicated | re-decided "
              "| longest pause | worker exits |"]  # fmt: skip
    lines += ["|---|---|---|---|---|---|---|---|---|---|---|"]
    for run in runs:
        count = sum(1 for one in run.happened if one.injected_ms)
        c = run.checked
        figures = (
            f"{c.inputs:,} | {run.in_bulk:,} | 0 | {c.decided:,} | {c.dead:,} | {c.duplicates:,} | {c.redecided:,} "
            f"| {run.longest_pause_s:.1f} s"
            if c
            else "? | ? | ? | ? | ? | ? | ? | ?"
        )
        by_itself = sum(1 for one in run.exits if not one.asked)
        lines.append(f"| {run.seed} | {count} | {figures} | {len(run.exits)} ({by_itself} by itself) |")
    lines += [
        "",
        "Recovery: from the end of a fault that was alone until every partition has decided an event produced",
    ]
    lines += ["after that moment.", "", *_recovery_rows(faults, recovered), ""]
    said = Counter(one.said for run in runs for one in run.exits if not one.asked)
    if said:
        lines += ["Workers that ended by themselves said:", ""]
        lines += [f"- {count} times: {text}" for text, count in said.most_common()] + [""]
    otherwise = Counter(f"{one.code}: {one.said}" for run in runs for one in run.exits if _ended_otherwise(one))
    if otherwise:
        lines += ["Workers that were told to stop and did not end with 0:", ""]
        lines += [f"- {count} times {text}" for text, count in otherwise.most_common()] + [""]
    lines += [f"Again: `{run.command}`" for run in runs]
    return "\n".join(lines) + "\n"


def _ended_otherwise(one: Exit) -> bool:
    return one.asked and one.code not in (0, 128 + signal.SIGKILL)


def write(run: Run, folder: Path) -> None:
    """report.json and report.md."""
    (folder / "report.json").write_text(json.dumps(as_json(run), indent=1))
    picture = "\n![timeline](timeline.png)\n"
    (folder / "report.md").write_text(as_markdown([run], f"Chaos, seed {run.seed}, {run.minutes:g} minutes") + picture)


def write_summary(runs: Sequence[Run], folder: Path) -> None:
    """summary.json and summary.md of several seeds."""
    (folder / "summary.json").write_text(json.dumps([as_json(run) for run in runs], indent=1))
    (folder / "summary.md").write_text(as_markdown(runs, f"Chaos over {len(runs)} seeds"))
