"""Deletes, in an image for machines without a GPU, what a CUDA build of torch brings and only a GPU would load.

The build stage of ops/Dockerfile runs it once. The loader's word decides: a library that a small network maps into
the process stays, the rest of NVIDIA's and Triton, which compiles for GPUs, go. A CPU build of torch has neither.
"""

import os
import shutil
import site
from pathlib import Path

import torch

network = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True)
network(torch.zeros(1, 4, 8)).sum().backward()
lines = Path("/proc/self/maps").read_text().splitlines()
loaded = {os.path.realpath(line.split(maxsplit=5)[5]) for line in lines if "/" in line}

freed_bytes = 0
for packages in map(Path, site.getsitepackages()):
    for file in packages.glob("nvidia/**/*"):
        if file.is_file() and os.path.realpath(file) not in loaded:
            freed_bytes += file.stat().st_size
            file.unlink()
    for folder in (packages / "triton", packages / "torch" / "include"):
        freed_bytes += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        shutil.rmtree(folder, ignore_errors=True)
print(f"{freed_bytes / 1e9:.1f} GB that only a GPU or a compiler would use are gone")
