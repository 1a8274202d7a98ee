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
    columns, rows = right - left, bottom - top
    # One more row of each column takes the ends of its last runs.
    steps = np.zeros(columns * (rows + 1), dtype=np.int8)
    begin, end = _ends(borders, window, height)
    steps[begin] = 1
    steps[end] -= 1  # where a run starts again, the two cancel
    painted = np.cumsum(steps, dtype=np.int8).reshape(columns, rows + 1)
    return np.asarray(painted[:, :-1].T > 0)


def counted(
    borders: Sequence[NDArray[np.int64]], weights: Sequence[float], window: Window, height: int
) -> NDArray[np.float32]:
    """(bottom - top, right - left) sum of the weights of the masks that have each pixel.

    Args:
        borders: Of each mask, as for :func:`crop`.
        weights: Of each mask.
        window: Which part.
        height: Rows of the film.
    """
    left, top, right, bottom = window
    columns, rows = right - left, bottom - top
    steps = np.zeros(columns * (rows + 1), dtype=np.float32)
    for each, weight in zip(borders, weights, strict=True):
        begin, end = _ends(each, window, height)
        steps[begin] += weight
        steps[end] -= weight
    # Down each column on its own: what is rounded does not add up over the film.
    sums = np.cumsum(steps.reshape(columns, rows + 1), axis=1)
    return np.asarray(sums[:, :-1].T)


def _ends(
    borders: NDArray[np.int64], window: Window, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where runs begin and end, in a window of one row more: places down its columns."""
    left, top, right, bottom = window
    rows = bottom - top
    first, last = left * height, right * height
    low = int(np.searchsorted(borders[1::2], first, side="right"))
    high = int(np.searchsorted(borders[0::2], last, side="left"))
    near = np.clip(borders[2 * low : 2 * high], first, last) - first
    starts, stops = near[0::2], near[1::2]
    start_column, stop_column = starts // height, (stops - 1) // height
    if bool((stop_column > start_column).any()):
        # A run that goes on into the next column covers that one's first row and its own last.
        starts, stops = _cut(starts, stops, height)
        start_column = starts // height
    of_column = start_column * height + top
    begin = np.clip(starts - of_column, 0, rows)
    end = np.clip(stops - of_column, 0, rows)
    place = start_column * (rows + 1)
    seen = end > begin
    return (place + begin)[seen], (place + end)[seen]


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
