"""A sample of what a model was given and what it made of it, over the last hour, beside what it was tuned on.

A few tracks of a micro-batch now and then, counted into histograms at once: it costs no more at a higher rate, and what
is kept does not grow. Written by the scorer's thread and read by another: a reader may see half a sample, which
moves no figure by anything to be seen.
"""

import numpy as np
from numpy.typing import NDArray

from streamer.core.drift import Groups, Reference, bins_by_bits
from streamer.core.float16 import ONE_BITS, least_bits

TRACKS_PER_S = 64.0  # at most
ROWS = 32  # of a micro-batch that has as many
SLICES, SLICE_S = 12, 300.0  # an hour


class DriftSample:
    """Of one model. T tags and F inputs are R = T + F rows of histograms."""

    def __init__(self, reference: Reference, tuned: NDArray[np.float64]) -> None:
        self.reference = reference
        self._bins = bins_by_bits(reference.edges)
        self._least = least_bits(tuned)  # [T]; an `off` one is beyond every score
        known = [reference.scores, *([] if reference.inputs is None else [reference.inputs])]
        self._reference = np.concatenate(known)  # [R, B]; without the inputs where there are none
        self._groups = Groups.of(self._reference)
        self._counts = np.zeros((SLICES, *self._reference.shape), np.int32)
        self._decided = np.zeros((SLICES, len(tuned)), np.int32)
        self._tracks = np.zeros(SLICES, np.int64)
        self._rows = np.arange(len(self._reference)) * self._reference.shape[1]  # [R] where each one's bins begin
        self._slice = 0
        self._slice_until_s: float | None = None
        self._may, self._may_at_s = 0.0, 0.0  # so many tracks, at that moment

    def add(self, probabilities: NDArray[np.float64], scores: NDArray[np.float16], now_s: float) -> None:
        """Perhaps count some tracks of a micro-batch: `[B, F]` and `[B, T]`."""
        self._may = min(TRACKS_PER_S, self._may + TRACKS_PER_S * (now_s - self._may_at_s))
        self._may_at_s = now_s
        wanted = min(len(scores), ROWS)
        if not 0 < wanted <= self._may:
            return
        self._may -= wanted
        self._turn(now_s)
        step = -(-len(scores) // ROWS)
        bits = scores[::step].view(np.uint16)  # [n, T]
        every = bits
        if self.reference.inputs is not None:
            inputs = probabilities[::step].astype(np.float16).view(np.uint16)  # [n, F]
            every = np.concatenate([bits, inputs], axis=1)  # [n, R]
        whole = (every <= ONE_BITS).all(axis=1)  # a row that was rejected holds anything
        every, bits = every[whole], bits[whole]
        found = np.bincount((self._bins[every] + self._rows).ravel(), minlength=self._reference.size)
        self._counts[self._slice] += found.reshape(self._reference.shape).astype(np.int32)
        self._decided[self._slice] += (bits >= self._least).sum(axis=0, dtype=np.int32)
        self._tracks[self._slice] += len(bits)

    def _turn(self, now_s: float) -> None:
        """Begin a slice anew when its time has come."""
        if self._slice_until_s is None:
            self._slice_until_s = now_s + SLICE_S
        turns = int((now_s - self._slice_until_s) // SLICE_S) + 1
        self._slice_until_s += turns * SLICE_S
        for _ in range(min(turns, SLICES)):
            self._slice = (self._slice + 1) % SLICES
            for kept in (self._counts, self._decided, self._tracks):
                kept[self._slice] = 0

    @property
    def tracks(self) -> int:
        """How many are counted."""
        return int(self._tracks.sum())

    def tuned_shares(self) -> NDArray[np.float64]:
        """`[T]` of them, how many the tuned thresholds decide."""
        return self._decided.sum(axis=0) / max(self.tracks, 1)

    def psi(self) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """The index of each tag's scores `[T]` and of each input `[F]`; None where no reference of these is known."""
        found = self._groups.psi(self._counts.sum(axis=0), self._reference)
        n_tags = len(self._least)
        return found[:n_tags], None if self.reference.inputs is None else found[n_tags:]
