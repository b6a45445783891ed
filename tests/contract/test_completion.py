"""Completion in a real shell, as `--install-completion` leaves it there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(sys.executable).parent
TYPED = {
    "deadletter re": {"replay", "resume"},
    "models show --vo": {"--vocabulary"},
    "thresh": {"thresholds"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder in which completion for bash has been installed."""
    folder = tmp_path_factory.mktemp("home")
    (folder / ".bashrc").touch()
    done = bash(folder, "set -e; tagstream --install-completion; :")  # bash stays, and is the parent that it looks for
    assert "installed" in done
    return folder


def bash(home: Path, script: str) -> str:
    environment = {**os.environ, "HOME": str(home), "SHELL": "/bin/bash", "PATH": f"{FOLDER}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bash_completes_commands_and_options(home: Path) -> None:
    tried = "".join(
        f"COMP_WORDS=(tagstream {typed}); COMP_CWORD={len(typed.split())}; _tagstream_completion tagstream; "
        'echo "${COMPREPLY[*]}"; '
        for typed in TYPED
    )
    lines = bash(home, f'. "$HOME/.bashrc"; complete -p tagstream >&2; {tried}').splitlines()
    assert [set(line.split()) for line in lines] == list(TYPED.values())
