"""What a training that is broken off leaves behind, so that the same command goes on from there.

A hidden folder beside the models, named after all that decides the weights: data, configuration, seed, device,
versions of the libraries and the code that fits. Whoever asks for the same gets the folder, whoever asks for anything
else does not. Each part is one safetensors file, plain values in its header; written aside and renamed, so a part is
whole or absent. Nothing is pickled. Knows files; knows nothing of networks.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.clock import Clock
from model.durable import write_aside
from model.errors import ModelError

PREFIX = ".training-"
LOCK = "lock"
SUFFIX = ".safetensors"
SPENT = "spent.json"  # the time that earlier stretches took
ABOUT = "about"  # the one entry of a file's header
LIBRARIES = ("torch", "numpy", "reservoirpy")
CODE = ("augment", "device", "fit", "folds", "initialise", "layers", "network", "reservoir")  # what makes weights
SECONDS_BETWEEN = 5.0  # of a running fit; each time costs some 60 MB of writing


class WorkFolder:
    """The parts of one training, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def parts(self) -> list[str]:
        """The names of what is kept."""
        return sorted(path.stem for path in self.path.glob(f"*{SUFFIX}"))

    def clock(self) -> Clock:
        """The time that this training takes, earlier stretches among it where something of them is kept."""
        if not self.parts():
            (self.path / SPENT).unlink(missing_ok=True)
        return Clock(self.path / SPENT)

    def read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A part: tensors and plain values; None where there is none, or none that can be read."""
        path = self.path / f"{name}{SUFFIX}"
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()[ABOUT])
                return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError, TypeError, KeyError, ValueError):
            return None  # it is learnt anew

    def write(self, name: str, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Keep a part, in place of an older one of that name.

        Raises:
            ModelError: where it cannot be written.
        """
        path = self.path / f"{name}{SUFFIX}"
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        content = safetensors.torch.save(plain, metadata={ABOUT: json.dumps(about)})
        write_aside(path, content)

    def remove(self, name: str) -> None:
        """Forget a part."""
        (self.path / f"{name}{SUFFIX}").unlink(missing_ok=True)

    def delete(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.path, ignore_errors=True)


class Running:
    """The fit under way, as one part of a work folder: `model.fit.Kept`."""

    def __init__(self, folder: WorkFolder, name: str) -> None:
        self._folder, self._name = folder, name
        self._written = time.monotonic()

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        return self._folder.read(self._name)

    def write(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        self._folder.write(self._name, tensors, about)
        self._written = time.monotonic()

    def epochs_done(self) -> int:
        """How many epochs the part holds."""
        kept = self.read()
        return len(kept[1]["fit"]["train_losses"]) if kept else 0

    def due(self) -> bool:
        return time.monotonic() - self._written >= SECONDS_BETWEEN


@contextlib.contextmanager
def open_folder(models_dir: Path, facts: dict[str, Any], restart: bool = False) -> Iterator[WorkFolder]:
    """The work folder in `models_dir` of what `facts` describe, ours alone until the end; `restart` empties it.

    It goes again where nothing was kept in it.

    Raises:
        ModelError: where it cannot be written, or another process is at the same training.
    """
    path = models_dir / f"{PREFIX}{_key(facts)}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / LOCK).open("wb")
    except OSError as error:
        raise ModelError(f"{models_dir} cannot be written: {error.strerror or error}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ModelError(f"Another process is at this very training; what it keeps is in {path}.") from None
        folder = WorkFolder(path)
        for name in folder.parts() if restart else ():
            folder.remove(name)
        try:
            yield folder
        finally:
            if not folder.parts():
                folder.delete()


def _key(facts: dict[str, Any]) -> str:
    code = hashlib.sha256()
    for name in CODE:
        code.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    libraries = {name: library_version(name) for name in LIBRARIES}
    known = json.dumps({**facts, "libraries": libraries, "code": code.hexdigest()}, sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:16]
