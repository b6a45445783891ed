"""Loops over single bytes and numbers, as machine code.

What the stream does to each byte of an event, numpy has no word for and Python needs ten times as long for as
everything else together. Such a loop is a plain function of arrays, marked `@kernel`: numba compiles it when it is
first called and keeps the result beside the source (or in NUMBA_CACHE_DIR, or nowhere where neither can be written).

A kernel checks no index, so it must hold every one of them to its array itself; their tests run once more with
NUMBA_BOUNDSCHECK=1. It holds no GIL meanwhile.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile this function of arrays and numbers at its first call."""
    try:
        return numba.njit(function, cache=True, nogil=True, forceinline=True, error_model="numpy")
    except RuntimeError:  # nowhere to keep it: compiled anew in each process
        return numba.njit(function, nogil=True)
