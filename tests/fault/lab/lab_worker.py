"""A real worker whose scorer can be made slow or made to fail, by a small file that is read before each batch.

`python -m tests.fault.lab.lab_worker`: nothing but the call into the model is replaced. Only what is scored for the
stream is touched, not a model's warm-up. `LAB_CONTROL` names the file: {"slow_s": 0.2}, {"raise": true, "times": 1}
or {"oom": true, "times": 2}; no file, no fault.
"""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from ops.cli.worker import worker

CONTROL_VARIABLE = "LAB_CONTROL"


class InjectedError(RuntimeError):
    """What no scorer of ours would raise."""


def write_control(path: Path, orders: dict[str, Any] | None) -> None:
    """Give orders to the worker that reads `path`; None: no more."""
    if orders is None:
        path.unlink(missing_ok=True)
        return
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(orders))
    aside.replace(path)


def obey(path: Path) -> None:
    """Do what the control file says. An order to fail counts down, so that a worker that is restarted goes on."""
    try:
        orders = json.loads(path.read_text())
    except FileNotFoundError:
        return
    time.sleep(orders.get("slow_s", 0))
    if "times" not in orders:
        return
    left = orders["times"] - 1
    write_control(path, {**orders, "times": left} if left else None)
    if orders.get("oom"):
        import torch

        raise torch.cuda.OutOfMemoryError("CUDA out of memory. (injected by the laboratory)")
    raise InjectedError("the laboratory's own fault in the scorer")


def inject(path: Path) -> None:
    """Put the faults before `Artifact.score`."""
    from model.artifact import Artifact

    score = Artifact.score

    def faulty(self: Artifact, probabilities: Any) -> Any:
        if threading.current_thread().name.startswith("scorer"):
            obey(path)
        return score(self, probabilities)

    Artifact.score = faulty  # type: ignore[method-assign]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as `worker` does, before what takes seconds to import
    inject(Path(os.environ[CONTROL_VARIABLE]))
    worker()
