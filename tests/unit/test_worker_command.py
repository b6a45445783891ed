"""SIGTERM before the worker has begun: it ends, though a module that is being imported catches whatever is raised."""

import os
import subprocess
import sys

TOLD_WHILE_IMPORTING = """
import importlib.abc, os, signal, sys, time

class Catcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "streamer.agents":
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.1)
            except BaseException:
                pass

sys.meta_path.insert(0, Catcher())
from ops.cli.worker import worker
worker()
"""


def test_sigterm_within_an_import_that_catches_everything():
    environment = os.environ | {"TAGSTREAM_BATCH_MAX": "0"}  # refused: if it goes on, it ends with 1 soon
    command = [sys.executable, "-c", TOLD_WHILE_IMPORTING]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr[-1000:]
