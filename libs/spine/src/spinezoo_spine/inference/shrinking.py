"""Films made smaller by area: what OpenCV answers, to the last bit, in a half of its time or less.

Each pixel is the mean of the film's pixels under it, weighted by how much of them it covers. OpenCV
adds them up one by one along a row; here a sparse matrix adds whole columns, and then rows, in the
same order and the same single precision.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LEAST_SHARE = 1e-3
"""OpenCV leaves a pixel out of which less is covered."""

ROWS_AT_ONCE = 512
"""Rows of a film that are added up in one go: what the processor's caches hold."""


def shrunk_by_area(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """A film at a smaller size, in its own pixel type.

    Args:
        pixels: (rows, columns), ``uint8``, ``uint16`` or ``float32``.
        height: Rows of the answer, at most those of the film.
        width: Columns of the answer, at most those of the film.
    """
    rows, columns = pixels.shape
    if rows % height == columns % width == 0:
        # OpenCV has a faster way for whole numbers, which adds up in another order.
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
    across, down = _shares(columns, width), _shares(rows, height)
    narrow = np.empty((rows, width), dtype=np.float32)
    for first in range(0, rows, ROWS_AT_ONCE):
        part = pixels[first : first + ROWS_AT_ONCE]
        turned = cv2.transpose(part).astype(np.float32, copy=False)
        cv2.transpose(across @ turned, dst=narrow[first : first + ROWS_AT_ONCE])
    small: NDArray[np.float32] = down @ narrow
    if pixels.dtype == np.float32:
        return small
    return np.rint(small, out=small).astype(pixels.dtype)


@functools.lru_cache(maxsize=32)
def _shares(source: int, target: int) -> csr_array[np.float32]:
    """(target, source) shares of an axis's pixels in those of the smaller one, as OpenCV's."""
    # Only whoever gets whole films needs it.
    from scipy.sparse import csr_array

    scale = source / target
    begin = np.arange(target) * scale
    end = begin + scale
    whole = np.minimum(scale, source - begin)
    last = np.minimum(np.floor(end).astype(np.int64), source - 1)
    first = np.minimum(np.ceil(begin).astype(np.int64), last)
    before, behind = first - begin, end - last
    starts, ends = before > LEAST_SHARE, behind > LEAST_SHARE
    lowest = first - starts
    count = last + ends - lowest
    stop = np.cumsum(count)
    place = np.arange(stop[-1]) + np.repeat(lowest - stop + count, count)
    share = np.repeat(1.0 / whole, count)
    share[(stop - count)[starts]] = (before / whole)[starts]
    share[(stop - 1)[ends]] = (np.minimum(np.minimum(behind, 1.0), whole) / whole)[ends]
    pointers = np.concatenate([[0], stop]).astype(np.int32)
    return csr_array(
        (share.astype(np.float32), place.astype(np.int32), pointers), shape=(target, source)
    )
