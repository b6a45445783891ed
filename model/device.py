"""Where training computes, and in which precision."""

import torch

from model.errors import ModelError

DEVICES = ("auto", "cpu", "cuda")


def choose(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one.

    Raises:
        ModelError: for another name, or where there is no such device.
    """
    if name not in DEVICES:
        raise ModelError(f"'{name}' is not a device; there are {', '.join(DEVICES)}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("This machine has no GPU that torch can use; --device cpu trains without one.")
    found = torch.cuda.is_available() if name == "auto" else name == "cuda"
    return torch.device("cuda" if found else "cpu")


def autocast(device: torch.device, wanted: bool) -> torch.autocast:
    """bfloat16 where there are units for it; elsewhere it would only cost precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted and _has_bfloat16(device))


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
