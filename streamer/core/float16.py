"""The bits of a float16. Of numbers that are not negative they order as the numbers do, and compare far faster."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ONE_BITS = 0x3C00  # 1.0: what lies in [0, 1] has the bits 0 .. ONE_BITS
INFINITY_BITS = 0x7C00  # NaNs lie above
MINUS_ZERO = 0x8000
NO_SIGN = 0x7FFF


def least_bits(numbers: NDArray[np.float64] | np.float64) -> Any:
    """The bits, as uint16, of the least float16 that is not below each number."""
    nearest = numbers.astype(np.float16)
    below = nearest.astype(np.float64) < numbers
    return nearest.view(np.uint16) + below.astype(np.uint16)
