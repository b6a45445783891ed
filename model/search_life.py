"""Which trials are alive, and what becomes of those whose process is not, or was asked to stop.

A running trial says which process runs it and, every 20 s, that it still does. Where that process was on this machine
it is looked up; elsewhere two minutes of silence mean that it is gone. A dead process's trial is marked as failed and
queued again with the same parameters, by whichever process sees it first. One way for files, Redis and databases
alike: Optuna's own heartbeat knows databases only. A trial that a person interrupted has not failed: it waits, and
keeps its number.
"""

import contextlib
import copy
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna
import psutil
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

BEAT_S = 20.0
SILENT_S = 120.0  # a process on another machine is taken for dead after this
START_DRIFT_S = 2.0  # of a process's starting time, when the machine's clock was set meanwhile
RETRIES_MAX = 3  # of a trial whose processes died: it may be what kills them (memory)
DIED = "its process died"
PROCESS, BEAT, WHY = "process", "beat", "why"  # user attributes of a trial
SURPLUS = "surplus, since other processes had started the last trials already"


@contextmanager
def signs_of_life(storage: BaseStorage, trial_id: int) -> Iterator[None]:
    """Say who runs the trial, and go on saying that it lives."""
    storage.set_trial_user_attr(trial_id, PROCESS, _this_process())
    storage.set_trial_user_attr(trial_id, BEAT, time.time())
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            try:
                storage.set_trial_user_attr(trial_id, BEAT, time.time())
            except UpdateFinishedTrialError:  # taken for dead, by another machine; the trial's own end will tell
                return
            # Of any driver: what is wrong now, the trial's next report tells.
            except Exception:  # nosec B112
                continue

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def bury_the_dead(study: optuna.Study, storage: BaseStorage) -> None:
    """Fail the running trials of dead processes and queue them again; to be called while this one runs none."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not _alive(trial):
            _fail_and_queue(study, storage, trial._trial_id)


def _fail_and_queue(study: optuna.Study, storage: BaseStorage, trial_id: int) -> None:
    """Mark a running trial as failed and queue it again, unless another process has done so."""
    try:
        storage.set_trial_user_attr(trial_id, WHY, DIED)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return
    failed = copy.deepcopy(storage.get_trial(trial_id))
    failed.user_attrs = {}  # of this attempt
    RetryHeartbeatStaleTrialCallback(max_retry=RETRIES_MAX)(study, failed)


def give_back(storage: BaseStorage, trial_id: int) -> None:
    """Have a running trial wait to be run again, unless another process has taken it for dead.

    It keeps its number, its parameters and the losses it has reported.
    """
    with contextlib.suppress(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.WAITING)


def first_number(trial: FrozenTrial) -> int:
    """The number of the first attempt at this trial: its own, or that of one whose process died."""
    return (RetryHeartbeatStaleTrialCallback.retry_history(trial) or [trial.number])[0]


def is_retry(trial: FrozenTrial) -> bool:
    return first_number(trial) != trial.number


def place(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """How many trials were begun before this one, each counted once however often it was attempted."""
    return len(first_attempts(trials[: first_number(trial)]))


def first_attempts(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that count towards the number asked for: neither attempts at an earlier one nor surplus."""
    return [trial for trial in trials if not is_retry(trial) and trial.user_attrs.get(WHY) != SURPLUS]


def pending(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if not trial.state.is_finished()]


def _this_process() -> dict[str, str | int | float]:
    return {"host": _host(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _host() -> str:
    """The machine, and on it the table of processes: a container has its own."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _alive(trial: FrozenTrial) -> bool:
    process = trial.user_attrs.get(PROCESS)
    if process == _this_process():  # between two trials: one that we dropped when the storage failed
        return False
    if process is not None and process["host"] == _host():
        try:
            found = psutil.Process(process["pid"])
            same = abs(found.create_time() - process["started"]) < START_DRIFT_S
            return same and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
    heard = trial.user_attrs.get(BEAT) or (trial.datetime_start.timestamp() if trial.datetime_start else 0.0)
    return time.time() - heard < SILENT_S
