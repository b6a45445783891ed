"""README is part of the product: what it says of settings and commands must be so."""

import re
import subprocess
import sys
from pathlib import Path

from ops.settings_docs import README, with_settings


def test_the_settings_table_is_in_step() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == with_settings(text), "run `python -m ops.settings_docs`"


def test_every_command_in_the_readme_exists() -> None:
    commands = set(re.findall(r"(?:bin/|`)tagstream ([a-z]+)", README.read_text(encoding="utf-8")))
    assert len(commands) > 5
    executable = Path(sys.executable).with_name("tagstream")
    helped = subprocess.run([executable, "--help"], capture_output=True, text=True, check=True).stdout
    for command in commands:
        assert f" {command} " in helped, f"README names `tagstream {command}`"
