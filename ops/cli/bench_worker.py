"""`tagstream bench worker|scale|stages|latency|model`: our own worker and its networks, seen from several sides."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar

DEFAULT_OUT = Path("build/bench")
OutOption = Annotated[Path, typer.Option(help="Folder for the report (JSON) and its picture.")]
EventsOption = Annotated[
    int, typer.Option(min=1_000, help="Events in the preloaded topic; the bulk lane gets four times as many tracks.")
]


class Lane(StrEnum):
    """How tracks travel."""

    JSON = "json"
    ARROW = "arrow"


class Scorer(StrEnum):
    """Which network: a linear one, what `train` serves by default, or the study's."""

    CHEAP = "cheap"
    SERVED = "served"
    STUDY = "study"


LaneOption = Annotated[Lane, typer.Option(help="json: an event per message; arrow: thousands.")]
ScorerOption = Annotated[Scorer, typer.Option(help="cheap: linear; served: what train serves; study: the study's.")]


def worker(
    *,
    lane: LaneOption = Lane.JSON,
    scorer: ScorerOption = Scorer.CHEAP,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Workers in the group.")] = 1,
    partitions: Annotated[int, typer.Option(min=1, max=256, help="Partitions of the topic.")] = 4,
    events: EventsOption = 60_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="The median is told.")] = 3,
    out: OutOption = DEFAULT_OUT,
    json: JsonFlag = False,
) -> None:
    """Workers over a preloaded topic, with all cores, beside the broker: events/s, and what 100 million would take."""
    from ops.bench import run_report

    plan = _plan(lane, scorer, workers, partitions, events, rounds)
    report = _run_plans([plan])
    name = f"worker-{lane}-{scorer}-{workers}"
    _tell(report, "Workers over a preloaded topic", run_report.save_workers(report, name, out), json)


def scale(
    *,
    lane: LaneOption = Lane.JSON,
    scorer: ScorerOption = Scorer.CHEAP,
    events: EventsOption = 60_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; the median is told.")] = 3,
    out: OutOption = DEFAULT_OUT,
    json: JsonFlag = False,
) -> None:
    """The same with 1, 2 and 4 workers on as many partitions."""
    from ops.bench import run_report
    from ops.bench.worker import scale_plans

    report = _run_plans(scale_plans(_plan(lane, scorer, 1, 1, events, rounds)))
    name = f"scale-{lane}-{scorer}"
    _tell(report, "Workers and partitions", run_report.save_workers(report, name, out), json)


def stages(
    *,
    lane: LaneOption = Lane.JSON,
    scorer: ScorerOption = Scorer.CHEAP,
    events: EventsOption = 120_000,
    out: OutOption = DEFAULT_OUT,
    json: JsonFlag = False,
) -> None:
    """Where a worker's microseconds go: its stage clocks, and a profile from outside where py-spy is installed."""
    from ops.bench import run_report
    from ops.bench.stages import run_stages
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    with progress_bar() as bar:
        report = run_stages(_plan(lane, scorer, 1, 4, events, 1), _follow(bar))
    picture = run_report.save_stages(report, out)
    if json:
        emit_json(report)
    else:
        title = f"{lane}, {scorer}: {report['cpu_us_per_event']:.1f} us of CPU an event"
        print_table(f"{title}, by the profile", run_report.PROFILE_COLUMNS, run_report.profile_rows(report))
        print_table("By the worker's own clocks, waiting included", ["stage", "us"], run_report.stage_rows(report))
    if report["missing"]:
        note(report["missing"])
    _close(report, picture)


def latency(
    *,
    scorer: ScorerOption = Scorer.CHEAP,
    load: Annotated[
        list[int] | None, typer.Option(min=1, max=100, help="Offered load, % of the capacity; more than once.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="Of each load, beside 2 s of warm-up.")] = 15.0,
    events: Annotated[int, typer.Option(min=1_000, help="Events of the run that measures the capacity.")] = 60_000,
    out: OutOption = DEFAULT_OUT,
    json: JsonFlag = False,
) -> None:
    """From an event's due time to its acknowledged decision, at 10 to 90 % of what one worker carries."""
    from ops.bench import run_report
    from ops.bench.latency import behind, run_latency
    from ops.bench.networks import Network
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    shares = [percent / 100 for percent in load or (10, 30, 50, 70, 90)]
    with progress_bar() as bar:
        report = run_latency(Network(scorer), shares, seconds, events, _follow(bar))
    picture = run_report.save_latency(report, out)
    if json:
        emit_json(report)
    else:
        title = f"Latency, {scorer}; the worker carries {report['capacity']['events_per_s']:,.0f} events/s"
        print_table(title, run_report.LATENCY_COLUMNS, run_report.latency_rows(report))
    for offered in report["loads"]:
        if behind(offered):
            note(f"At {offered['share']:.0%} only {offered['sent_per_s']:,.0f} events/s were sent.")
    _close(report, picture)


def model(
    *,
    scorer: Annotated[list[Scorer] | None, typer.Option(help="Which networks. Default: study and served.")] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Tracks a batch, 1 to 65536; more than once for several.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32, bf16, fp16. Default: fp32 and bf16.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads on a CPU. Default: the cores.")] = None,
    out: OutOption = DEFAULT_OUT,
    json: JsonFlag = False,
) -> None:
    """A network alone, from probabilities in memory to float16 scores in memory; decisions are held to float32's."""
    from ops.bench import run_report
    from ops.bench.model import Precision, run_model
    from ops.bench.networks import Network
    from ops.errors import OpsError

    known = [str(one) for one in Precision]
    for name in precision or ():
        if name not in known:
            raise OpsError(f"there is no precision {name!r}; there are {', '.join(known)}.")
    networks = [Network(name) for name in scorer or (Scorer.STUDY, Scorer.SERVED)]
    precisions = [Precision(name) for name in precision or (Precision.FP32, Precision.BF16)]
    batches = batch or [1, 8, 64, 512, 1_024, 4_096, 16_384]
    with progress_bar() as bar:
        report = run_model(networks, batches, device, precisions, threads, _follow(bar))
    picture = run_report.save_model(report, out)
    if json:
        emit_json(report)
    else:
        title = f"{report['device_name']}, {report['threads']} threads"
        print_table(title, run_report.MODEL_COLUMNS, run_report.model_rows(report))
    for name, rate in report["best_tracks_per_s"].items():
        minutes = report["minutes_for_100_million"][name]
        note(f"{name}: {rate:,.0f} tracks/s at best; 100 million tracks take {minutes:,.0f} minutes.")
    for name, agreement in report["agreement"].items():
        note(
            f"{name}: of {agreement['decisions']:,} decisions {agreement['differing']:,} differ from float32's beyond "
            f"one float16 step of the threshold, {agreement['within_one_step']:,} within it."
        )
    _close(report | {"agree": True}, picture)


def _plan(lane: Lane, scorer: Scorer, workers: int, partitions: int, events: int, rounds: int) -> Any:
    from ops.bench.networks import Network
    from ops.bench.peers import Wire
    from ops.bench.worker import Plan

    return Plan(Wire(lane), Network(scorer), workers, partitions, events, rounds)


def _run_plans(plans: list[Any]) -> dict[str, Any]:
    from ops.bench.worker import run_workers
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    with progress_bar() as bar:
        return run_workers(plans, _follow(bar))


def _follow(bar: Any) -> Any:
    task = bar.add_task("", total=1)
    return lambda title, done, total: bar.update(task, description=title, completed=done, total=total)


def _tell(report: dict[str, Any], title: str, picture: Path, json: bool) -> None:
    from ops.bench import run_report

    if json:
        emit_json(report)
    else:
        print_table(title, run_report.WORKER_COLUMNS, run_report.worker_rows(report))
    _close(report, picture)


def _close(report: dict[str, Any], picture: Path) -> None:
    """What every one of them ends with; a figure with wrong outputs is none."""
    from ops.bench.run_report import machine_notes

    for line in machine_notes(report):
        note(line)
    note(f"Picture: {picture}")
    if not report["agree"]:
        note("The decisions differ from the reference: the figures are void.")
        raise typer.Exit(1)
