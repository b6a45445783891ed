"""Ends one child process when its parent is gone, however it went: even `kill -9` leaves no broker behind.

Run as a script, not imported: `python -I -S guard.py COMMAND...`. Its stdin is a pipe that only the parent
holds, so the end of that pipe is the end of the parent, on every Unix, without prctl. The guard is itself the
child's parent: there is no moment in which the child runs unguarded. It knows nothing about Kafka or Redis and
imports only the standard library, to stay at a few megabytes.

It prints the child's pid as its only line, and exits with the child's exit code.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from typing import Any

PARENT_CHECK_INTERVAL_S = 1.0


def _kill_child_when_parent_is_gone(child: "subprocess.Popen[bytes]", parent_pid: int) -> None:
    """Wait for the end of stdin; a changed parent counts too, for a forked sibling may hold the pipe open."""
    while os.getppid() == parent_pid:
        readable, _, _ = select.select([0], [], [], PARENT_CHECK_INTERVAL_S)
        if readable and not os.read(0, 1024):
            break
    child.kill()


def main(command: list[str]) -> int:
    """Run `command` until it ends or our parent does."""
    parent_pid = os.getppid()
    child: subprocess.Popen[bytes] | None = None
    ending = False

    def end_child(_signal_number: int, _frame: Any) -> None:
        nonlocal ending
        ending = True
        if child is not None:
            child.kill()

    for ending_signal in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ending_signal, end_child)
    # The child's output goes where our stderr goes (its log); our stdout is the pipe for the pid, not for it.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2)
    if ending:
        child.kill()
    threading.Thread(target=_kill_child_when_parent_is_gone, args=(child, parent_pid), daemon=True).start()
    # A parent that is gone already cannot read it; then the thread ends the child.
    with contextlib.suppress(OSError):
        os.write(1, f"{child.pid}\n".encode())
    return child.wait()


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    # A child that a signal ended has a negative code; shells say 128 + signal.
    os._exit(exit_code if exit_code >= 0 else 128 - exit_code)
