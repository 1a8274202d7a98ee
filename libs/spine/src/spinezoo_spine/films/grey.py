"""Grey levels of a film on one scale, whatever its bits: for networks and for the reader."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EASY = 1e-30
"""Films whose levels are spread over less than this, or over more than its inverse, are scaled in
double precision."""


def unit_grey(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """(height, width) pixels of which the 0.5th and 99.5th percentile become 0 and 1, clipped.

    A film of one single value becomes all 0. The percentiles are taken on every fourth row and
    column, which moves them by less than a grey level and saves most of the time.
    """
    low, high = np.percentile(pixels[::4, ::4].astype(np.float64), [0.5, 99.5])
    if high <= low:
        low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return np.zeros(pixels.shape, dtype=np.float32)
    if not _EASY < high - low < 1.0 / _EASY:  # single precision would end in infinities
        share = (pixels.astype(np.float64) - low) / (high - low)
        return np.clip(share, 0.0, 1.0).astype(np.float32)
    grey = (pixels.astype(np.float32) - np.float32(low)) * np.float32(1.0 / (high - low))
    return np.clip(grey, 0.0, 1.0, out=grey)
