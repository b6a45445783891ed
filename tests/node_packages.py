"""Node packages that judge what we make: pinned in a folder beside the test, fetched once into the cache."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from ops.errors import OpsError
from ops.local.jars import cache_dir

PACKAGES = ("package.json", "package-lock.json")
INSTALL_S = 180


def installed(pins: Path) -> Path:
    """The folder with what `pins` names: made aside and renamed into place, since another run may do the same."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise OpsError(f"{pins.name} needs node and npm.")
    pinned = hashlib.sha256((pins / PACKAGES[1]).read_bytes()).hexdigest()[:12]
    folder = cache_dir() / f"{pins.name}-{pinned}"
    if folder.exists():
        return folder
    cache_dir().mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{pins.name}-", dir=cache_dir()))
    for name in PACKAGES:
        shutil.copy(pins / name, aside)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=aside, check=False, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        raise OpsError(f"npm ci failed: {done.stderr.strip()[-500:]}")
    try:
        aside.rename(folder)
    except OSError:  # the other run was first
        shutil.rmtree(aside)
    return folder
