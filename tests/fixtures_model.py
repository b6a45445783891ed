"""What tests of the trainer share: its commands in this process, and networks on one thread."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ops.cli import main as cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run one command, with a models folder of its own; returns exit code, stdout, stderr."""
    monkeypatch.setenv("TAGSTREAM_MODELS_DIR", str(tmp_path / "models"))

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tagstream", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err  # type: ignore[return-value]

    return call


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks this small lose more to waiting for threads than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
