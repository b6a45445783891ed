"""`tagstream topics`: make the four topics as the contract wants them, or say what is wrong with them."""

import asyncio
from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table

app = typer.Typer(help="Make the product's Kafka topics, or check those there are.", no_args_is_help=True)


@app.command("create", epilog="Example: tagstream topics create --partitions 12 --replication 3")
def create(
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Partitions of new topics (default: the input's, or 12)."),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Copies of each partition (default: the brokers, at most 3)."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Make the topics that are missing; never alters one that exists."""
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.adapters.kafka_topics import create_topics, inspect_topics
    from streamer.settings import load_settings

    quiet_client_logs()
    settings = load_settings()
    made = asyncio.run(create_topics(settings, partitions, replication))
    _, problems = asyncio.run(inspect_topics(settings))
    if json:
        topics = [
            {"name": t.name, "partitions": t.partitions, "replication": t.replication, "existed": t.existed}
            for t in made
        ]
        emit_json({"topics": topics, "problems": [str(problem) for problem in problems]})
    else:
        rows = [[t.name, t.partitions, t.replication, "existed" if t.existed else "created"] for t in made]
        print_table("", ["topic", "partitions", "copies", ""], rows)
        for problem in problems:
            note(f"{problem}")
    if any(problem.fatal for problem in problems):
        raise typer.Exit(1)


@app.command("check", epilog="Example: tagstream topics check")
def check(json: JsonFlag = False) -> None:
    """Hold the topics against the contract; for each problem the remedy, and a non-zero exit."""
    from streamer.adapters.kafka_client import quiet_client_logs
    from streamer.adapters.kafka_topics import inspect_topics
    from streamer.settings import load_settings

    quiet_client_logs()
    topics, problems = asyncio.run(inspect_topics(load_settings()))
    if json:
        rows = [{"name": t.name, "partitions": t.partitions, "replication": t.replication} for t in topics.values()]
        found = [{"topic": p.topic, "what": p.what, "remedy": p.remedy, "fatal": p.fatal} for p in problems]
        emit_json({"ok": not problems, "topics": rows, "problems": found})
    else:
        shown = ("cleanup.policy", "max.message.bytes", "min.insync.replicas")
        print_table(
            "",
            ["topic", "parts", "copies", "kept", "max bytes", "min ISR"],
            [
                [t.name, t.partitions, t.replication, *((t.config or {}).get(k, "?") for k in shown)]
                for t in topics.values()
            ],
        )
        for problem in problems:
            note(f"- {problem.what}\n    {problem.remedy}")
        if not problems:
            note("The topics are as they should be.")
    if problems:
        raise typer.Exit(1)
