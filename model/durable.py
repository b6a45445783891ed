"""Files that are whole or not there, also after a power cut."""

import os
import tempfile
from pathlib import Path

from model.errors import ModelError


def sync(path: Path) -> None:
    """Have what a file holds, or the names that a folder holds, outlive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_aside(path: Path, content: bytes) -> None:
    """Write a file, and its folder where there is none; nobody ever sees a part of it.

    Raises:
        ModelError: where it cannot be written.
    """
    aside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            aside = Path(file.name)
            file.write(content)
        sync(aside)
        aside.chmod(0o644)
        aside.rename(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        if aside is not None:
            aside.unlink(missing_ok=True)
