"""float32 or bfloat16: what this machine scores a model in, found out once, when it is loaded.

bfloat16 has the range of float32 and eight bits of precision; processors with units for it (AVX512-BF16, AMX) are up to
twice as fast in it. It is taken where it is faster by far and decides alike, as DESIGN section 5 has it: the golden
inputs, and tracks put together from them, a quarter of a million decisions, none of which may differ but where a score
lies within one float16 step of its threshold. What was found holds for as long as the model is loaded.
"""

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.artifact import Artifact, check_golden, disagreements
from model.device import has_bfloat16
from model.errors import ModelError

FASTER = 1.25  # by less the precision is not given away, nor by what else runs on the machine meanwhile
ROUNDS = 5
CHECKED_DECISIONS = 250_000
SEED = 20261125


def settle(artifact: Artifact, rows: int) -> tuple[Artifact, str]:
    """The model in the precision that it is to be scored in here, so many rows at a time; and why, in a sentence."""
    device = artifact.network.features.mean.device
    if device.type != "cpu" or not has_bfloat16(device):
        return artifact, "in float32: there are no units for bfloat16"
    short = replace(artifact, bf16=True)
    try:
        check_golden(short)
    except ModelError as error:
        return artifact, f"in float32, because in bfloat16 it is another: {error}"
    tracks = _mixed(artifact, CHECKED_DECISIONS // len(artifact.thresholds))
    beyond, within = disagreements(artifact.score(tracks), short.score(tracks), artifact.threshold_row())
    differ = f"of {CHECKED_DECISIONS:,} decisions {within} differ within a float16 step, {beyond} beyond"
    if beyond:
        return artifact, f"in float32, because in bfloat16 it decides otherwise: {differ}"
    long_s, short_s = _least_s(artifact, short, _mixed(artifact, rows))
    figures = f"{short_s / rows * 1e6:.0f} us a track in bfloat16, {long_s / rows * 1e6:.0f} in float32"
    if short_s * FASTER > long_s:
        return artifact, f"in float32: {figures}"
    return short, f"in bfloat16: {figures}; {differ}"


def _mixed(artifact: Artifact, count: int) -> NDArray[np.float32]:
    """`[count, F]` tracks with each number from one of the golden inputs: of a size and spread as real ones have."""
    golden = np.array(artifact.manifest["golden"]["inputs"], np.float32)  # [G, F]
    random = np.random.default_rng(SEED)
    return np.take_along_axis(golden, random.integers(0, len(golden), (count, golden.shape[1])), axis=0)


def _least_s(one: Artifact, other: Artifact, rows: NDArray[np.float32]) -> tuple[float, float]:
    """The least time of either, measured in turn: what else runs here only ever adds."""
    least = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for place, artifact in enumerate((one, other)):
            began_s = time.perf_counter()
            artifact.score(rows)
            least[place] = min(least[place], time.perf_counter() - began_s)
    return least[0], least[1]
