"""Every system trained and measured under one protocol, each as often as there are seeds.

A finished run (system, seed) is one JSON file, named by all that decides it, so that a comparison that was killed
goes on where it was (a network even from the epoch it had reached), and several processes may share a folder.
Training gets the training data; only what has been settled by then meets the reported splits. Knows systems and files;
knows nothing of intervals or tables.
"""

import base64
import contextlib
import hashlib
import json
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import metrics
from model.clock import Clock
from model.dataset import Dataset
from model.durable import write_aside
from model.errors import ModelError
from model.fit import Progress
from model.systems import Fitted, System, fit_system
from model.training import FEWEST_TRACKS

FORMAT = 1
RUNS, WORK = "runs", "work"  # finished runs; those under way
SPENT = "spent.json"
SPEED_BATCH = 512  # tracks per call where speed is measured
SPEED_SECONDS = 1.0  # at least this long, after a warm-up
WARM_UP_CALLS = 3


@dataclass(frozen=True)
class Reported:
    """What one run came to on one split: figures, and the decisions `[N, T]` they were made from."""

    figures: dict[str, float]
    decisions: NDArray[np.bool_]


@dataclass(frozen=True)
class Run:
    """One system trained with one seed."""

    system: str
    seed: int
    seconds: float  # of training by the clock, thresholds among it
    cpu_seconds: float  # the same over all threads: what other processes took meanwhile is not in it
    tracks_per_s: float | None  # scored, in batches of SPEED_BATCH; None where nothing is computed
    parameters: int
    digest: str
    thresholds: list[float | None]  # None is off
    about: dict[str, Any]
    reported: dict[str, Reported]


def planned(systems: list[System], seeds: int) -> list[tuple[System, int]]:
    """Which runs there are to be: a system without chance in it needs only one."""
    return [(system, seed) for system in systems for seed in range(seeds if system.random else 1)]


def compare(
    train: Dataset,
    splits: dict[str, Dataset],
    systems: list[System],
    seeds: int,
    folder: Path,
    tell: Progress,
    started: Callable[[str], None],
    only_finished: bool = False,
) -> list[Run]:
    """Train and measure what is not finished yet; all asked-for runs that are finished then.

    `splits` are what is reported on, by name. `started(run)` is called once for each planned run, finished ones
    included. With `only_finished` nothing is trained.

    Raises:
        ModelError: where a split lacks labels or has other columns, or the folder cannot be written.
    """
    check(train, splits)
    fingerprints = {"train": train.fingerprint(), **{name: split.fingerprint() for name, split in splits.items()}}
    runs = []
    for system, seed in planned(systems, seeds):
        started(f"{system.title}, seed {seed}")
        key = run_key(system, seed, fingerprints)
        path = folder / RUNS / f"{system.name}-{seed}-{key[:12]}.json"
        run = load_run(path, key, splits)
        if run is None and not only_finished:
            work_dir = folder / WORK / path.stem
            run = measure(system, seed, train, splits, tell, work_dir)
            save_run(run, path, key, system, fingerprints)
            shutil.rmtree(work_dir, ignore_errors=True)
            with contextlib.suppress(OSError):  # others are under way
                work_dir.parent.rmdir()
        if run is not None:
            runs.append(run)
    return runs


def check(train: Dataset, splits: dict[str, Dataset]) -> None:
    """That there is enough to compare.

    Raises:
        ModelError: in one sentence, where there is not.
    """
    train.need_labels()
    if len(train) < FEWEST_TRACKS:
        raise ModelError(f"A comparison needs at least {FEWEST_TRACKS} tracks to train on; there are {len(train)}.")
    if not splits:
        raise ModelError("There is nothing to report on: give --valid DIR, or data with a val/ or test/ folder.")
    for name, split in splits.items():
        if split.labels is None:
            raise ModelError(f"The split '{name}' has no labels to report on.")
        if split.vocabulary != train.vocabulary:
            raise ModelError(f"The split '{name}' has other columns than the training data.")


def measure(
    system: System, seed: int, train: Dataset, splits: dict[str, Dataset], tell: Progress, work_dir: Path
) -> Run:
    """One run: first everything is settled, then the reported splits are looked at."""
    clock = Clock(work_dir / SPENT)

    def told(what: str, done: int, total: int) -> None:
        clock.keep()
        tell(what, done, total)

    fitted = fit_system(system, train, seed, told, work_dir)
    seconds, cpu_seconds = clock.read()
    return Run(
        system=system.name,
        seed=seed,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        tracks_per_s=None if system.config is None else scoring_speed(fitted, train.probabilities),
        parameters=fitted.parameters,
        digest=fitted.digest,
        thresholds=[float(value) if np.isfinite(value) else None for value in fitted.thresholds],
        about=fitted.about,
        reported={name: _report(fitted, split) for name, split in splits.items()},
    )


def _report(fitted: Fitted, split: Dataset) -> Reported:
    scores = fitted.score(split.probabilities)
    return Reported(
        figures=metrics.summary(split.need_labels(), scores, fitted.thresholds),
        decisions=scores.astype(np.float64) >= fitted.thresholds,
    )


def scoring_speed(fitted: Fitted, probabilities: NDArray) -> float:
    """Tracks scored per second, one batch after the other.

    The fastest call decides, as in `timeit`: the others tell how busy the machine was.
    """
    batches = [probabilities[at : at + SPEED_BATCH] for at in range(0, len(probabilities), SPEED_BATCH)]
    if len(batches) > 1:
        batches = batches[:-1]  # all of one size
    for _ in range(WARM_UP_CALLS):
        fitted.score(batches[0])
    took: list[float] = []
    while sum(took) < SPEED_SECONDS:
        began = time.perf_counter()
        fitted.score(batches[len(took) % len(batches)])
        took.append(time.perf_counter() - began)
    return len(batches[0]) / min(took)


def run_key(system: System, seed: int, fingerprints: dict[str, str]) -> str:
    """sha256 of all that decides a run."""
    decides = {
        "format": FORMAT,
        "tagstream": version("tagstream"),
        "system": system.name,
        "config": system.settings(),
        "seed": seed,
        "data": fingerprints,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def save_run(run: Run, path: Path, key: str, system: System, fingerprints: dict[str, str]) -> None:
    """Write one run aside and rename it into place.

    Raises:
        ModelError: where the folder cannot be written.
    """
    content = {
        **asdict(run),
        "key": key,
        "config": system.settings(),
        "data": fingerprints,
        "reported": {
            name: {"figures": reported.figures, "decisions": pack(reported.decisions)}
            for name, reported in run.reported.items()
        },
    }
    write_aside(path, json.dumps(content, indent=1).encode())


def load_run(path: Path, key: str, splits: dict[str, Dataset]) -> Run | None:
    """The finished run at `path`; None where there is none, or something else is there."""
    try:
        content = json.loads(path.read_bytes())
        if content.pop("key") != key:
            return None
        reported = {
            name: Reported(
                figures=content["reported"][name]["figures"],
                decisions=unpack(content["reported"][name]["decisions"], split.need_labels().shape),
            )
            for name, split in splits.items()
        }
        del content["config"], content["data"]
        return Run(**{**content, "reported": reported})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None


def pack(decisions: NDArray[np.bool_]) -> str:
    """Decisions as text: bits, compressed, base64."""
    return base64.b64encode(zlib.compress(np.packbits(decisions).tobytes(), 9)).decode()


def unpack(text: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The decisions again.

    Raises:
        ValueError: where they are not of this shape.
    """
    cells = int(np.prod(shape))
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    if len(bits) != (cells + 7) // 8:
        raise ValueError(f"{len(bits)} bytes do not hold {shape} decisions")
    return np.unpackbits(bits, count=cells).reshape(shape).astype(bool)
