"""Which part of a film the network's last two steps are computed for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SCALE = 4
"""Pixels of the full resolution a cell's side: two steps double it twice."""

HALO = 3
"""Cells beside the one that a pixel lies in that it is made from, through six convolutions."""

MARGIN = 2
"""Cells around those that may show a structure."""

STEPS = (16, 8)
"""Windows have multiples of so many rows and columns of cells: an engine prepares itself for every
size, which takes 4 ms once and 0.8 MB."""

Span = tuple[int, int]
"""The first, and the one after the last."""


def box_of(there: NDArray[np.bool_]) -> tuple[Span, Span] | None:
    """Rows and columns of all that is there; None where nothing is."""
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(rows):
        return None
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def window_of(box: tuple[Span, Span], size: tuple[int, int]) -> tuple[Span, Span]:
    """The cells to compute so that a box and what is around it is right.

    Args:
        box: Of cells.
        size: Rows and columns of all cells.
    """
    (top, bottom), (left, right) = (
        _span(span, whole, step) for span, whole, step in zip(box, size, STEPS, strict=True)
    )
    return (top, bottom), (left, right)


def _span(span: Span, size: int, step: int) -> Span:
    first, last = max(0, span[0] - MARGIN - HALO), min(size, span[1] + MARGIN + HALO)
    length = min(size, -(-(last - first) // step) * step)
    first = min(first, size - length)
    return first, first + length


def right_part(window: tuple[Span, Span], size: tuple[int, int]) -> tuple[Span, Span]:
    """The pixels of a window, counted from its corner, that no missing neighbour has changed.

    Args:
        window: Of cells.
        size: Rows and columns of all cells.
    """
    (top, bottom), (left, right) = (
        (
            SCALE * HALO * (first > 0),
            SCALE * (last - first - HALO * (last < whole)),
        )
        for (first, last), whole in zip(window, size, strict=True)
    )
    return (top, bottom), (left, right)
