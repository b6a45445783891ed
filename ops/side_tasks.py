"""What runs beside a command, for as long as somebody wants it."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel all of them and wait until they have ended; a failure of one is raised here."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    for task in ending:
        with suppress(asyncio.CancelledError):
            await task
