"""Which tags a batch of tracks gets: `float64(score) >= float64(threshold)`, ordered as the contract says.

The whole batch at once and in a compact form, because a Python loop over 127,000 comparisons would cost more than
the model. Knows scores, thresholds and the class of each tag; knows nothing of names or JSON.

Notable choices:
- One int64 per decided tag holds everything that orders it (row and class, then falling score, then the tag), so
  one sort of plain integers is the whole ordering, and the tag is read back out of the sorted key.
- For numbers that are not negative, the bits of a float16 read as an integer order as the number does. So
  `float64(score) >= float64(threshold)` is decided on integers, against the least float16 that is not below the
  threshold: numpy turns float16 into float64 one number at a time, which alone would take most of a millisecond.
  A property test holds this to the contract's own comparison.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.float16 import INFINITY_BITS, MINUS_ZERO, least_bits
from streamer.core.layout import CLASSES, Layout

_TAG_BITS = 16  # a vocabulary has fewer than 65,536 tags
_SCORE_BITS = 15  # a float16 without its sign
_TAG_MASK = (1 << _TAG_BITS) - 1
_SCORE_MASK = (1 << _SCORE_BITS) - 1


@dataclass(frozen=True, slots=True)
class Decided:
    """The decided tags of a batch, flat: row by row, in a row class by class, in a class best first.

    Class `c` of row `b` is `tags[bounds[b, c]:bounds[b, c + 1]]`; the whole row is `bounds[b, 0]:bounds[b, 3]`.
    """

    tags: NDArray[np.int64]  # [N] indices into the vocabulary
    bounds: NDArray[np.int64]  # [B, 4]


def tag_classes(layout: Layout) -> NDArray[np.int64]:
    """`[T]` the class index of each tag: made once per vocabulary, for `decide`."""
    return np.array(layout.tag_class, np.int64)


def decide(scores: NDArray[np.float16], thresholds: NDArray[np.float64], tag_class: NDArray[np.int64]) -> Decided:
    """Decide a batch: scores [B, T], thresholds [T] (+inf is off), tag_class [T]. A NaN is never decided."""
    n_rows, n_tags = scores.shape
    n_classes = len(CLASSES)
    raw = np.ascontiguousarray(scores).view(np.uint16)  # [B, T]
    floor = least_bits(thresholds)  # [T]
    if not floor.all():
        raw = np.where(raw == MINUS_ZERO, np.uint16(0), raw)  # -0.0 reaches a threshold of 0
    span = np.where(np.isinf(thresholds), 0, INFINITY_BITS + 1 - floor).astype(np.uint16)  # [T]; off: nothing
    flat = np.flatnonzero(raw - floor < span)  # [N]; floor <= bits <= infinity in one unsigned comparison
    rows, tags = np.divmod(flat, n_tags)  # [N], [N]
    bits = raw.ravel()[flat].astype(np.int64)  # [N]
    groups = rows * n_classes + tag_class[tags]  # [N]
    keys = (((groups << _SCORE_BITS) | (_SCORE_MASK - bits)) << _TAG_BITS) | tags
    keys.sort()
    ends = np.zeros(n_rows * n_classes + 1, np.int64)
    np.cumsum(np.bincount(groups, minlength=n_rows * n_classes), out=ends[1:])
    bounds = ends[np.arange(n_rows)[:, None] * n_classes + np.arange(n_classes + 1)]  # [B, 4]
    return Decided(keys & _TAG_MASK, bounds)
