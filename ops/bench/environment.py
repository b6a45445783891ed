"""Where a benchmark ran, and what else the machine was doing meanwhile: without both a figure says little.

Foreign load is what the machine's processors did beyond the processes that the benchmark itself started.
"""

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "aiokafka", "bytewax", "confluent-kafka", "faust-streaming", "numpy", "orjson", "pyarrow", "pysimdjson",
    "tagstream", "torch",
)  # fmt: skip
# What decides how fast a model can be on a processor.
TELLING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")


def environment() -> dict[str, Any]:
    """The machine and the versions, and its load at this moment."""
    model, flags = _processor()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": _versions(),
        "load_1min_before": os.getloadavg()[0],
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _processor() -> tuple[str, frozenset[str]]:
    """The processor's name and flags; on a system that does not tell them, what Python knows and none."""
    model, flags = platform.processor() or platform.machine(), frozenset[str]()
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() == "flags":
                flags = frozenset(value.split())
                break
    return model, flags


class ForeignLoad:
    """How many cores foreign work has kept busy since this was made."""

    def __init__(self, ours: Iterable[int]) -> None:
        """`ours` are the processes of the benchmark itself, whose descendants are too."""
        self._ours = [os.getpid(), *ours]
        self._own_s = self._own_cpu_s()
        self._busy_s = _busy_s()
        self._at_s = time.perf_counter()

    def cores(self) -> float:
        """The mean so far; what a process used before it ended within this time counts as foreign."""
        seconds = time.perf_counter() - self._at_s
        foreign_s = (_busy_s() - self._busy_s) - (self._own_cpu_s() - self._own_s)
        return max(0.0, foreign_s / seconds) if seconds > 0 else 0.0

    def _own_cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in self._ours)


def cpu_s(pid: int | None) -> float:
    """CPU seconds of a process and its descendants; 0 of one that has ended."""
    try:
        parent = psutil.Process(pid)
        members = [parent] if pid == os.getpid() else [parent, *parent.children(recursive=True)]
        return sum(sum(member.cpu_times()[:2]) for member in members)
    except psutil.Error:
        return 0.0


def _busy_s() -> float:
    times = psutil.cpu_times()
    return times.user + times.system + sum(getattr(times, name, 0.0) for name in ("nice", "irq", "softirq"))
