"""The filters that `deadletter list` and `deadletter replay` share."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ops.errors import OpsError
from streamer.core.events import Code

if TYPE_CHECKING:
    from ops.deadletters import Selection

CodeOption = Annotated[list[str] | None, typer.Option("--code", help="Only this error.code; may be repeated.")]
FieldOption = Annotated[
    str | None, typer.Option("--field", help="Only this error.field and what is in it, such as genres.tags.")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Only from then on: 2h, 7d (ago) or 2026-11-22T09:45Z.")
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only before then.")]
SourcePartitionOption = Annotated[
    int | None, typer.Option("--source-partition", min=0, help="Only events of this input partition.")
]
KeyOption = Annotated[str | None, typer.Option("--key", "--track", help="Only this key; without a key, this track_id.")]
WorkerOption = Annotated[str | None, typer.Option("--worker", help="Only from this worker.")]
AttemptMaxOption = Annotated[
    int | None, typer.Option("--attempt-max", min=1, help="Only events tried at most so often.")
]


def selection_of(
    code: list[str] | None,
    field: str | None,
    since: str | None,
    until: str | None,
    source_partition: int | None,
    key: str | None,
    worker: str | None,
    attempt_max: int | None,
) -> "Selection":
    """The filters as one selection.

    Raises:
        OpsError: for a code that no worker gives, a time that is none, or an empty span of time.
    """
    from ops.deadletters import Selection, moment_ms

    known = [str(name) for name in Code]
    for name in code or ():
        if name not in known:
            raise OpsError(f"there is no error code {name!r}; there are {', '.join(known)}.")
    now_ms = int(time.time() * 1000)
    since_ms = None if since is None else moment_ms(since, now_ms)
    until_ms = None if until is None else moment_ms(until, now_ms)
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise OpsError(f"--since {since} is not before --until {until}.")
    return Selection(frozenset(code or ()), field, since_ms, until_ms, source_partition, key, worker, attempt_max)
