"""Parts of masks as pixels: what lies in a window, without an array of the film's size."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Segment

Window = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels of the film; the last two are not in it."""

_MASKS_A_CODE = 8
"""Masks that are counted in one go: bits of a byte."""


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
    places = _ends(borders, window, height)
    runs = np.empty(len(places) + 1, dtype=np.int64)
    runs[:-1] = places
    runs[-1] = (right - left) * (bottom - top)
    runs[1:] -= places
    inside = np.zeros(len(runs), dtype=np.bool_)
    inside[1::2] = True
    # NumPy fills run by run, some fifty times as fast as a running sum.
    return np.repeat(inside, runs).reshape(right - left, bottom - top).T


def counted(
    borders: Sequence[NDArray[np.int64]],
    weights: Sequence[float],
    window: Window,
    height: int,
    step: int = 1,
) -> NDArray[np.float32]:
    """Sum of the weights of the masks that have a pixel, for each pixel of a window.

    Args:
        borders: Of each mask, as for :func:`crop`.
        weights: Of each mask.
        window: Which part.
        height: Rows of the film.
        step: Every so many rows and columns are looked at.

    Returns:
        (rows, columns) of the window's pixels that are looked at, its first one among them.
    """
    left, top, right, bottom = window
    shape = len(range(top, bottom, step)), len(range(left, right, step))
    sums = np.zeros(shape, dtype=np.float32)
    for first in range(0, len(borders), _MASKS_A_CODE):
        # One bit a mask; what each code weighs is worked out once and looked up.
        codes = np.zeros(shape[::-1], dtype=np.uint8)
        weighs = np.zeros(1)
        for bit, number in enumerate(range(first, min(len(borders), first + _MASKS_A_CODE))):
            pixels = crop(borders[number], window, height).T[::step, ::step].view(np.uint8)
            codes |= pixels << np.uint8(bit)
            weighs = np.concatenate([weighs, weighs + weights[number]])
        table = np.zeros(256, dtype=np.float32)
        table[: len(weighs)] = weighs
        sums += np.asarray(cv2.LUT(codes, table)).T
    return sums


def _ends(borders: NDArray[np.int64], window: Window, height: int) -> NDArray[np.int64]:
    """Where runs start and end by turns, in places down the columns of a window."""
    left, top, right, bottom = window
    rows = bottom - top
    first, last = left * height, right * height
    low = int(borders[1::2].searchsorted(first, side="right"))
    high = int(borders[0::2].searchsorted(last, side="left"))
    near = borders[2 * low : 2 * high]
    starts, stops = np.maximum(near[0::2], first), np.minimum(near[1::2], last)
    column = starts // height
    if bool(((stops - 1) // height > column).any()):
        # A run that goes on into the next column covers that one's first row and its own last.
        starts, stops = _cut(starts, stops, height)
        column = starts // height
    # Places of the film to those of the window; a run above or below it comes to nothing.
    of_column = column * height + top
    ends = np.empty((len(starts), 2), dtype=np.int64)
    np.subtract(starts, of_column, out=ends[:, 0])
    np.subtract(stops, of_column, out=ends[:, 1])
    np.maximum(ends, 0, out=ends)
    np.minimum(ends, rows, out=ends)
    column -= left
    column *= rows
    ends += column[:, np.newaxis]
    return ends.reshape(-1)


def _cut(
    starts: NDArray[np.int64], stops: NDArray[np.int64], height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs cut at the ends of columns.

    Args:
        starts: Where each run starts, ascending.
        stops: Where it stops.
        height: Places a column.
    """
    pieces = (stops - 1) // height - starts // height + 1
    piece = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    column = np.repeat(starts // height, pieces) + piece
    return (
        np.maximum(np.repeat(starts, pieces), column * height),
        np.minimum(np.repeat(stops, pieces), (column + 1) * height),
    )
