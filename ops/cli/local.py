"""`tagstream local`: the Kafka and the Redis of demo and tests, by hand and for as long as wanted."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, print_table

if TYPE_CHECKING:
    from ops.local.services import Services

app = typer.Typer(help="Kafka and Redis on this machine, real ones, without Docker.", no_args_is_help=True)

Brokers = Annotated[
    int | None,
    typer.Option(min=1, max=9, help="How many (1 unless said); 3 or more replicate: 3 copies, 2 in sync."),
]


@app.command(epilog='Example: eval "$(tagstream local up)"   tagstream local up --brokers 3 --json')
def up(brokers: Brokers = None, as_json: JsonFlag = False) -> None:
    """Start Kafka and Redis and leave them running; when they are up already, say where.

    On stdout are the two lines that point every other command at them.
    """
    from ops.local import state

    result = state.up(brokers)
    addresses = result.services.environment()
    if result.was_up:
        note(f"{_count(result.services)} and Redis are up already.")
    elif result.restarted:
        note(f"Started again with its data: {', '.join(result.restarted)}.")
    else:
        note(f"{_count(result.services)} and Redis are up; `tagstream local down` ends them.")
    for variable, address in addresses.items():
        if os.environ.get(variable, address) != address:
            note(f"{variable} is set to {os.environ[variable]}: commands of this shell go there.")
    if as_json:
        emit_json({"kafka": result.services.kafka_bootstrap, "redis": result.services.redis_url})
        return
    for variable, address in addresses.items():
        print(f"export {variable}={address}")


def _count(services: "Services") -> str:
    return "Kafka" if len(services.brokers) == 1 else f"Kafka ({len(services.brokers)} brokers)"


@app.command(epilog="Example: tagstream local down")
def down(as_json: JsonFlag = False) -> None:
    """End what `up` started and delete its data."""
    from ops.local import state

    ended = state.down()
    if as_json:
        emit_json({"ended": ended})
    else:
        print(f"Ended: {', '.join(ended)}; the data are deleted." if ended else "Nothing was up.")


@app.command(epilog="Example: tagstream local status --json")
def status(as_json: JsonFlag = False) -> None:
    """Say what is up and where; exit code 1 when something of it does not answer."""
    from ops.local import state

    services = state.load()
    processes = services.processes if services else []
    rows = [
        {"name": process.name, "pid": process.pid, "running": process.is_running(), "answers": process.answers()}
        for process in processes
    ]
    healthy = all(row["answers"] for row in rows)
    if as_json:
        where = {"kafka": services.kafka_bootstrap, "redis": services.redis_url} if services else {}
        emit_json({"up": bool(rows) and healthy, **where, "processes": rows})
    elif services is None:
        print("Nothing is up: `tagstream local up` starts Kafka and Redis.")
    else:
        print_table("tagstream local", list(rows[0]), [list(row.values()) for row in rows])
        for variable, address in services.environment().items():
            print(f"export {variable}={address}")
    if not healthy:
        raise typer.Exit(1)
