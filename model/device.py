"""Where networks compute, and in which precision."""

import re

import torch

from model.errors import ModelError


def choose(name: str) -> torch.device:
    """The device of that name (auto, cpu, cuda or cuda:N); `auto` is a GPU where there is one.

    Raises:
        ModelError: for another name, or where there is no such device.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ModelError(f"'{name}' is not a device; there are auto, cpu, cuda and cuda:N.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError("This machine has no GPU that torch can use; the device cpu does without one.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except RuntimeError as error:
        raise ModelError(f"The device {name} is not usable here: {str(error).splitlines()[0]}") from None
    return device


def autocast(device: torch.device, wanted: bool) -> torch.autocast:
    """bfloat16 where there are units for it; elsewhere it would only cost precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and _has_bfloat16(device))


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
