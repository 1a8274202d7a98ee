"""Parts of masks as pixels: what lies in a window, without an array of the film's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Segment

Window = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels of the film; the last two are not in it."""


def window_of(segments: Sequence[Segment], margin: int, height: int, width: int) -> Window:
    """The pixels that any of the segments covers, with a margin, on the film.

    Args:
        segments: At least one.
        margin: Pixels around them.
        height: Rows of the film.
        width: Columns of the film.
    """
    boxes = [segment.mask.box for segment in segments]
    return (
        max(0, int(min(box.x for box in boxes)) - margin),
        max(0, int(min(box.y for box in boxes)) - margin),
        min(width, int(max(box.x + box.width for box in boxes)) + margin),
        min(height, int(max(box.y + box.height for box in boxes)) + margin),
    )


def crop(borders: NDArray[np.int64], window: Window, height: int) -> NDArray[np.bool_]:
    """(bottom - top, right - left) pixels of a mask within a window.

    Args:
        borders: Of the mask, see :func:`spinezoo_spine.fusion.votes.borders_of`.
        window: Which part.
        height: Rows of the film.
    """
    left, top, right, bottom = window
    first, last = left * height, right * height
    low = int(np.searchsorted(borders[1::2], first, side="right"))
    high = int(np.searchsorted(borders[0::2], last, side="left"))
    near = np.clip(borders[2 * low : 2 * high], first, last) - first
    steps = np.zeros(last - first + 1, dtype=np.int8)
    # No two runs start or end at one place, but one may start where another ends: they cancel.
    steps[near[0::2]] += 1
    steps[near[1::2]] -= 1
    columns = np.cumsum(steps[:-1], dtype=np.int8).reshape(right - left, height)
    return np.asarray(columns[:, top:bottom].T > 0)
