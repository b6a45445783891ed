"""A search in one process or in several: each is a worker on the same storage, and none is in charge.

The process that a person started only watches the others. Workers are fresh processes (a fork would inherit torch's
threads half alive); one whose parent is gone queues its trial again and ends.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import ModelError
from ops.errors import OpsError

if TYPE_CHECKING:
    from model.dataset import Dataset
    from model.search import Search

WATCH_S = 0.5
STOP_PATIENCE_S = 5.0  # for workers to see the Ctrl-C that reached us
INTERRUPTED = 130  # exit code


@dataclass(frozen=True)
class Request:
    """What a worker is told."""

    data: Path
    storage: str
    study: str
    space: str
    trials: int  # of the study in all
    seed: int
    timeout_s: float
    threads: int  # of a worker


def open_request(request: Request, dataset: "Dataset | None" = None) -> "Search":
    """The search that is asked for.

    Raises:
        ModelError: where data, space or storage are not what they should be.
    """
    from model import search, search_space, search_storage
    from model.dataset import load_splits

    space = search_space.find(request.space)
    dataset = dataset or load_splits(request.data)["train"]
    storage = search_storage.open_storage(request.storage, request.study)
    return search.open_search(storage, request.study, space, dataset, request.seed)


@contextmanager
def told_plainly(place: str) -> Iterator[None]:
    """A storage that is lost on the way, or a full disk, is one sentence.

    Raises:
        OpsError: with it.
    """
    from optuna.exceptions import StorageInternalError
    from redis.exceptions import RedisError
    from sqlalchemy.exc import SQLAlchemyError

    from model.search_storage import complaint

    try:
        yield
    except OSError as error:
        raise OpsError(f"The search stopped: {error}; the same command goes on with it.") from None
    except (StorageInternalError, RedisError, SQLAlchemyError) as error:
        told = complaint(error, place)
        raise OpsError(f"The storage of the search was lost: {told}; the same command goes on with it.") from None


def run_workers(request: Request, workers: int, watch: Callable[[], None]) -> None:
    """Run that many workers to the end, with `watch()` now and then.

    Raises:
        OpsError: where none of them came to the end.
        KeyboardInterrupt: when every worker has queued its trial again and ended.
    """
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(request,), name=f"search-{i}") for i in range(workers)]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes):
            watch()
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        _stop(processes)
        raise
    watch()
    if all(process.exitcode for process in processes):
        raise OpsError("Every worker of the search ended early; what they finished is kept, the same command goes on.")


def _work(request: Request) -> None:
    """One worker, in a process of its own."""
    import torch

    from model import search

    torch.set_num_threads(request.threads)
    parent = multiprocessing.parent_process()
    assert parent is not None
    deadline = time.monotonic() + request.timeout_s
    try:
        with told_plainly(request.storage):
            search.run(open_request(request), request.trials, deadline=deadline, wanted=parent.is_alive)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (ModelError, OpsError) as error:
        sys.exit(f"tagstream: {error}")


def _stop(processes: Sequence[BaseProcess]) -> None:
    """A Ctrl-C in a terminal has reached them already; one that was sent to us alone has not."""
    until = time.monotonic() + STOP_PATIENCE_S
    for process in processes:
        process.join(max(until - time.monotonic(), 0.0))
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
            process.join()
