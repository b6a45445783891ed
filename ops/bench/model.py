"""`bench model`: tracks per second of a network alone, from probabilities in memory to float16 scores in memory.

By batch size, precision and device, so with the copies to and from a GPU. Every precision is held to float32 by its
decisions, as section 5 of the contract says: they may differ where a score is within one float16 step of its threshold.
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.artifact import disagreements
from model.device import choose
from model.network import Rescorer
from ops.bench.environment import ForeignLoad, environment
from ops.bench.networks import Network, make
from ops.bench.stand import OnProgress
from ops.bench.workload import Workload
from ops.errors import OpsError

STUDY_TRACKS_PER_S = 100e6 / (8 * 3600)  # what the study claims: 100 million tracks in 8 hours
LARGEST_BATCH = 65_536
COMPARED_TRACKS = 4_096
LEAST_S = 0.5  # of each measurement, which is the fastest of ROUNDS
ROUNDS = 3


class Precision(StrEnum):
    """What the network computes in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


AUTOCAST = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


@dataclass(frozen=True)
class Speed:
    """One network at one batch size."""

    network: str
    precision: str
    batch: int
    tracks_per_s: float
    us_per_track: float
    ms_per_batch: float


def run_model(
    networks: Sequence[Network],
    batches: Sequence[int],
    device_name: str,
    precisions: Sequence[Precision],
    threads: int | None,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Measure each network at each precision and batch size; the report that `--json` prints.

    Raises:
        OpsError: for a batch size out of range.
        ModelError: for a device that is not there.
    """
    for batch in batches:
        if not 1 <= batch <= LARGEST_BATCH:
            raise OpsError(f"a batch of {batch:,} tracks is not measured: 1 to {LARGEST_BATCH:,} are.")
    device = choose(device_name)
    torch.set_num_threads(threads or _cores())
    workload = Workload(max(COMPARED_TRACKS, *batches))
    rows = np.concatenate([part for _, part in workload.chunks()]).astype(np.float32)  # [N, F]
    around, foreign = environment(), ForeignLoad([])
    speeds: list[Speed] = []
    agreement: dict[str, dict[str, int]] = {}
    total, done = len(networks) * len(precisions) * len(batches), 0
    for which in networks:
        network = make(workload, which)
        expected = _scores(network, rows[:COMPARED_TRACKS], Precision.FP32, torch.device("cpu"))
        network = network.to(device)
        for precision in precisions:
            scores = _scores(network, rows[:COMPARED_TRACKS], precision, device)
            beyond, within = disagreements(scores, expected, workload.scorer.thresholds)
            agreement[f"{which}-{precision}"] = {
                "decisions": scores.size,
                "differing": beyond,
                "within_one_step": within,
            }
            for batch in batches:
                on_progress(f"{which}, {precision}, {batch:,} a batch", done, total)
                seconds = _fastest(functools.partial(_scores, network, rows[:batch], precision, device))
                done += 1
                speeds.append(
                    Speed(str(which), str(precision), batch, batch / seconds, seconds / batch * 1e6, seconds * 1e3)
                )
    best = {str(which): max(s.tracks_per_s for s in speeds if s.network == which) for which in networks}
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else around["cpu"],
        "threads": torch.get_num_threads(),
        "speeds": [asdict(speed) for speed in speeds],
        "agreement": agreement,
        "best_tracks_per_s": best,
        "ratio_to_study": {name: rate / STUDY_TRACKS_PER_S for name, rate in best.items()},
        "minutes_for_100_million": {name: 100e6 / rate / 60 for name, rate in best.items()},
        "foreign_cores": foreign.cores(),
        "environment": around | {"load_1min_after": os.getloadavg()[0]},
    }


@torch.inference_mode()
def _scores(
    network: Rescorer, rows: NDArray[np.float32], precision: Precision, device: torch.device
) -> NDArray[np.float16]:
    """Scores [B, T] of probabilities [B, F], both in this machine's memory."""
    batch = torch.from_numpy(rows).to(device, non_blocking=True)
    dtype = AUTOCAST.get(precision)
    with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        logits = network(batch)
    return torch.sigmoid(logits.float()).half().cpu().numpy()


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of one call: the fastest of ROUNDS means. `work` ends with a copy to the host, so it has really ended."""
    work()
    started_s = time.perf_counter()
    work()
    calls = max(1, round(LEAST_S / ROUNDS / max(time.perf_counter() - started_s, 1e-6)))
    means = []
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        for _ in range(calls):
            work()
        means.append((time.perf_counter() - started_s) / calls)
    return min(means)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
