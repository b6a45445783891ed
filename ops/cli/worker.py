"""`tagstream worker`: one member of the consumer group."""

import os
import signal
from typing import Annotated

import typer


def worker(
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End at once when Kafka, a topic or a model is missing.")
    ] = False,
) -> None:
    """Run a worker: probability events in, tag decisions out. Start as many as you like, up to one per partition.

    Settings come from TAGSTREAM_* variables (README). SIGTERM drains and exits 0.

    Example: TAGSTREAM_KAFKA_BOOTSTRAP=localhost:9092 tagstream worker
    """
    # Until the worker has its own handlers there is nothing to drain: torch and Faust alone take seconds to import.
    # Not sys.exit: modules catch what is raised while they import, and the worker would go on as if never told.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from streamer.agents import run_worker
    from streamer.settings import load_settings

    run_worker(load_settings(), fail_fast=fail_fast)
