"""`tagstream deadletter resume`: workers that a surge of dead letters has paused go on."""

from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, stdout_console
from ops.errors import OpsError

EPILOG = "Example: tagstream deadletter resume"


def resume(
    *,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the workers.")] = 10.0,
    json: JsonFlag = False,
) -> None:
    """Let workers go on that a surge of dead letters has paused."""
    from ops.circuit import resume_workers
    from streamer.settings import load_settings

    workers = resume_workers(load_settings(), timeout)
    if json:
        emit_json({"workers": {name: {"resumed": one.resumed, "paused": one.paused} for name, one in workers.items()}})
    for name, one in workers.items() if not json else ():
        again = f", and is paused again: {one.paused}" if one.paused else ""
        if one.resumed:
            stdout_console.print(f"worker {name} has gone on{again}", markup=False)
    if not workers:
        note("No worker is paused.")
    if any(one.paused for one in workers.values()):
        note("Mend what sends them; or start workers with TAGSTREAM_BREAKER_SHARE=1 to let all of them through.")
    standing = [name for name, one in workers.items() if not one.resumed]
    if standing:
        raise OpsError(f"not resumed within {timeout:g} s: {', '.join(standing)}.")
