"""`tagstream demo`: two minutes that show what the product does."""

import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.output import JsonFlag, emit_json, note, stderr_console, stdout_console
from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.demo.story import Demo
    from ops.local.services import Services
    from streamer.settings import Settings

EPILOG = "Example: tagstream demo --keep"


def demo(
    *,
    data: Annotated[
        Path | None, typer.Option(help="A data set with train/ and val/ (default: a simulated one).")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C, and say what to try.")] = False,
    json: JsonFlag = False,
) -> None:
    """The whole system on real parts: train, stream, swap a threshold, kill a worker, count what came out."""
    from ops.demo.story import Demo

    console = stderr_console if json else stdout_console
    folder = Path(tempfile.mkdtemp(prefix="tagstream-demo-"))
    story = Demo(console, folder, data)
    services = None
    try:
        figures, services, settings = story.run()
        if json:
            emit_json(asdict(figures))
        broken = figures.broken_promises()
        if keep:
            _stay(story, services, settings)
        if broken:
            raise OpsError("the demo saw what it must not see: " + "; ".join(broken) + ".")
        if not keep:
            console.print("All of it held. `make demo ARGS=--keep` leaves it running.")
    finally:
        for worker in story.workers:
            worker.terminate()
        if services is not None:
            services.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _stay(story: "Demo", services: "Services", settings: "Settings") -> None:
    for worker in story.workers:
        if not worker.is_running():
            worker.start()
    note("It stays up until Ctrl-C. In another shell:")
    for name in ("kafka_bootstrap", "models_dir", "state_dir", "topic_probabilities", "topic_tags", "group"):
        note(f"  export TAGSTREAM_{name.upper()}={getattr(settings, name)}")
    note(f"  export TAGSTREAM_REDIS_URL={services.redis_url}")
    note("  .venv/bin/tagstream tail --limit 5")
    note("  .venv/bin/tagstream thresholds show")
    note("  .venv/bin/tagstream deadletter list")
    for worker in story.workers:
        note(f"  curl http://127.0.0.1:{worker.port}/metrics    # {worker.name}")
    while True:
        time.sleep(3600)
