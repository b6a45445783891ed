"""What `bench worker`, `scale`, `stages`, `model` and `latency` tell: tables, sentences and pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ops.bench.pictures import OURS, THEIRS, bars, keep

WORKER_COLUMNS = ["lane", "network", "workers", "partitions", "events/s", "CPU us", "Kafka us", "x study", "100 M, min"]
MODEL_COLUMNS = ["network", "precision", "batch", "tracks/s", "us a track", "ms a batch"]
LATENCY_COLUMNS = ["load", "events/s", "p50 ms", "p99 ms", "p99.9 ms", "most ms", "sent late, p99 ms"]
PROFILE_COLUMNS = ["where", "CPU us an event"]
NOTICED_CORES = 0.15  # of foreign work; less is the kernel's and the shell's
LEAST_SHOWN_US = 0.1


def worker_rows(report: dict[str, Any]) -> list[list[str]]:
    """One row per plan."""
    return [
        [
            run["wire"],
            run["network"],
            str(run["workers"]),
            str(run["partitions"]),
            f"{run['events_per_s']:,.0f}",
            f"{run['cpu_us_per_event']:.1f}",
            f"{run['services_cpu_us_per_event']:.1f}",
            f"{run['ratio_to_study']:.1f}",
            f"{run['minutes_for_100_million']:,.0f}",
        ]
        for run in report["runs"]
    ]


def model_rows(report: dict[str, Any]) -> list[list[str]]:
    """One row per network, precision and batch size."""
    return [
        [
            speed["network"],
            speed["precision"],
            f"{speed['batch']:,}",
            f"{speed['tracks_per_s']:,.0f}",
            f"{speed['us_per_track']:.2f}",
            f"{speed['ms_per_batch']:.2f}",
        ]
        for speed in report["speeds"]
    ]


def latency_rows(report: dict[str, Any]) -> list[list[str]]:
    """One row per load."""
    return [
        [
            f"{load['share']:.0%}",
            f"{load['sent_per_s']:,.0f}",
            f"{load['p50_ms']:.0f}",
            f"{load['p99_ms']:.0f}",
            f"{load['p999_ms']:.0f}",
            f"{load['max_ms']:.0f}",
            f"{load['late_p99_ms']:.1f}",
        ]
        for load in report["loads"]
    ]


def profile_rows(report: dict[str, Any], most: int = 30) -> list[list[str]]:
    """The places where most time goes, and what is left of it."""
    shown = [(place, us) for place, us in report["profile_us"].items() if us >= LEAST_SHOWN_US][:most]
    rest = sum(report["profile_us"].values()) - sum(us for _, us in shown)
    return [[place, f"{us:.2f}"] for place, us in shown] + [["all else", f"{rest:.2f}"]]


def stage_rows(report: dict[str, Any]) -> list[list[str]]:
    """By the worker's own clocks."""
    return [[stage, f"{us:.2f}"] for stage, us in report["stages_us"].items()]


def machine_notes(report: dict[str, Any]) -> Iterator[str]:
    """On what machine, and who else used it."""
    around = report["environment"]
    yield (
        f"{around['cores']} cores of {around['cpu']} ({' '.join(around['cpu_flags'])}), load "
        f"{around['load_1min_before']:.1f} before and {around['load_1min_after']:.1f} after."
    )
    if (foreign := report.get("foreign_cores", 0.0)) > NOTICED_CORES:
        yield f"Foreign work kept {foreign:.1f} cores busy meanwhile: trust ratios and CPU us, not events/s."


def save_workers(report: dict[str, Any], name: str, folder: Path) -> Path:
    """A bar per plan."""
    values = {
        f"{run['wire']}, {run['network']}, {run['workers']} of {run['partitions']}": run["events_per_s"]
        for run in report["runs"]
    }

    def draw(axes: Any) -> None:
        bars(axes, values, "events/s", "arrow")
        axes.set_title("lane, network, workers of partitions", fontsize=10)

    return keep(folder, name, report, draw, height=1.2 + 0.4 * len(values))


def save_model(report: dict[str, Any], folder: Path) -> Path:
    """Tracks/s over the batch size, a line per network and precision."""

    def draw(axes: Any) -> None:
        lines: dict[str, list[tuple[int, float]]] = {}
        for speed in report["speeds"]:
            label = f"{speed['network']}, {speed['precision']}"
            lines.setdefault(label, []).append((speed["batch"], speed["tracks_per_s"]))
        for label, points in lines.items():
            axes.loglog(*zip(*sorted(points), strict=True), marker="o", markersize=3, label=label)
        axes.set_xlabel("tracks a batch")
        axes.set_ylabel("tracks/s")
        axes.set_title(f"{report['device_name']}, {report['threads']} threads", fontsize=10)
        axes.legend(fontsize=8)

    return keep(folder, "model", report, draw)


def save_latency(report: dict[str, Any], folder: Path) -> Path:
    """Percentiles over the load."""

    def draw(axes: Any) -> None:
        shares = [100 * load["share"] for load in report["loads"]]
        for name, label, colour in (
            ("p50_ms", "p50", THEIRS), ("p99_ms", "p99", OURS), ("p999_ms", "p99.9", "tab:red")
        ):  # fmt: skip
            axes.plot(shares, [load[name] for load in report["loads"]], marker="o", label=label, color=colour)
        axes.set_yscale("log")
        axes.set_xlabel("offered load, % of capacity")
        axes.set_ylabel("ms from due to appended")
        axes.set_title(f"{report['network']}, capacity {report['capacity']['events_per_s']:,.0f} events/s", fontsize=10)
        axes.legend()

    return keep(folder, "latency", report, draw)


def save_stages(report: dict[str, Any], folder: Path) -> Path:
    """A bar per place of the profile; of the clocks where there is none."""
    shown = {row[0]: float(row[1]) for row in (profile_rows(report) if report["samples"] else stage_rows(report))}

    def draw(axes: Any) -> None:
        bars(axes, shown, "us an event", "streamer/", "{:.1f}")
        axes.set_title(
            f"{report['wire']}, {report['network']}: {report['cpu_us_per_event']:.1f} us of CPU", fontsize=10
        )

    return keep(folder, f"stages-{report['wire']}", report, draw, height=1.2 + 0.28 * len(shown))
