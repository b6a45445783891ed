"""`tagstream console`: the ops web page."""

import asyncio
import os
from typing import Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, stdout_console

EPILOG = "Examples: tagstream console   tagstream console --port 0 --read-only   (others: docs/console.md)"


def console(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: TAGSTREAM_CONSOLE_HOST).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one (default: TAGSTREAM_CONSOLE_PORT).")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nobody may change anything.")] = False,
    json: JsonFlag = False,
) -> None:
    """The web page for ops and catalogue people: what the stream does, thresholds, tracks, dead letters, models.

    It listens on 127.0.0.1 for this machine's user. On any other address it asks for the names and tokens of
    TAGSTREAM_CONSOLE_USERS, and does not start without.
    """
    from ops.console.access import is_loopback
    from ops.console.server import Server
    from streamer.settings import load_settings

    settings = load_settings(console_host=host, console_port=port)
    server = Server(settings, read_only=read_only)

    def listening(url: str) -> None:
        if json:
            emit_json({"url": url, "pid": os.getpid()})
            return
        stdout_console.print(f"The console is at {url} (Ctrl-C ends it).", markup=False, soft_wrap=True)
        if url.startswith("http:") and not is_loopback(settings.console_host):
            note("Tokens travel unencrypted: set TAGSTREAM_CONSOLE_SSL_CERTFILE, or put it behind a proxy with TLS.")

    asyncio.run(server.serve(listening))
