"""`tagstream bench`: measurements on real parts. Each checks its outputs, and fails where they are wrong."""

from typing import Annotated, Any

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table, progress_bar

app = typer.Typer(help="Measure on real parts; outputs are checked before figures are told.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `peers` a subcommand while it is the only one."""


@app.command("peers", epilog="Example: tagstream bench peers --events 60000 --rounds 3")
def peers(
    *,
    events: Annotated[int, typer.Option(min=1_000, help="Events in the preloaded topic.")] = 60_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; the median is told.")] = 3,
    json: JsonFlag = False,
) -> None:
    """One worker beside a stock Faust worker: the same events, weights, core and acks, on a real Kafka."""
    from ops.bench.compare_peers import run_peers
    from ops.bench.peers import PEERS
    from streamer.adapters.kafka_client import quiet_client_logs

    quiet_client_logs()
    with progress_bar() as bar:
        task = bar.add_task("", total=1)
        report = run_peers(
            PEERS, events, rounds,
            lambda title, done, total: bar.update(task, description=title, completed=done, total=total),
        )  # fmt: skip
    if json:
        emit_json(report)
    else:
        _print(report)
    if not report["agree"]:
        note("The systems' decisions differ: the figures are void.")
        raise typer.Exit(1)


def _print(report: dict[str, Any]) -> None:
    environment = report["environment"]
    print_table(
        f"{report['events']:,} JSON events of 2 KB, one process on one core, median of {report['rounds']} rounds",
        ["system", "events/s", "lowest..highest", "CPU us", "ratio", "outputs"],
        [
            [
                name,
                f"{system['events_per_s']:,.0f}",
                _span([run["events_per_s"] for run in system["runs"]]),
                f"{system['cpu_us_per_event']:.1f}",
                f"{system['ratio_to_stock_faust']:.2f}",
                "equal" if system["agree"] else "WRONG",
            ]
            for name, system in report["systems"].items()
        ],
    )
    for name, system in report["systems"].items():
        note(f"{name}: {_agreement_line(system['agreement'])}")
    note(
        f"CPU us is per event, ratio to stock Faust; {environment['cores']} cores, load "
        f"{environment['load_1min_before']:.1f} before and {environment['load_1min_after']:.1f} after; "
        f"{report['seconds']:.0f} s in all."
    )


def _span(values: list[float]) -> str:
    return f"{min(values):,.0f}..{max(values):,.0f}"


def _agreement_line(agreement: dict[str, int]) -> str:
    return (
        f"of {agreement['tags']:,} tags {agreement['tags_differing']:,} differ from the reference and "
        f"{agreement['tags_at_threshold']:,} within one float16 step of the threshold; "
        f"{agreement['missing_tracks']:,} tracks missing, {agreement['unknown_tracks']:,} unknown, "
        f"{agreement['repeated_outputs']:,} outputs repeated"
    )
