"""The border of a body as one closed curve at sub-pixel precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Point

from spinezoo_spine.measures.evidence import LEFT, LOWER, RIGHT, UPPER

SMOOTH = (0.25, 0.5, 0.25)
"""Weights of a point and its neighbours: pixels leave steps finer than bone has."""

EVERY = 2
"""Every second cell of a border gives a point."""


def contour_of(
    curves_mm: NDArray[np.float64], spacing_mm: tuple[float, float], *, mirrored: bool
) -> tuple[Point, ...]:
    """The closed border, from the superior posterior corner forward.

    Where two sides meet, only the part of each that lies inside both others is kept.

    Args:
        curves_mm: (4, CELLS, 2) upper, lower, left and right border; NaN: none.
        spacing_mm: Distance of rows and of columns.
        mirrored: Whether the patient looks to the film's left.
    """
    sides = [
        _part(curves_mm[UPPER], curves_mm[LEFT], curves_mm[RIGHT]),
        _part(curves_mm[RIGHT], curves_mm[UPPER], curves_mm[LOWER]),
        _part(curves_mm[LOWER], curves_mm[LEFT], curves_mm[RIGHT])[::-1],
        _part(curves_mm[LEFT], curves_mm[UPPER], curves_mm[LOWER])[::-1],
    ]
    if mirrored:  # from upper right leftward
        upper, right, lower, left = sides
        sides = [upper[::-1], left[::-1], lower[::-1], right[::-1]]
    border = np.concatenate(sides)
    if len(border) < 8:
        return ()
    before, after = np.roll(border, 1, axis=0), np.roll(border, -1, axis=0)
    border = SMOOTH[0] * before + SMOOTH[1] * border + SMOOTH[2] * after
    row_mm, column_mm = spacing_mm
    return tuple(Point(x / column_mm, y / row_mm) for x, y in np.round(border[::EVERY], 4).tolist())


def _part(
    curve: NDArray[np.float64], first: NDArray[np.float64], last: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The points of a side between the two sides that it meets."""
    curve = curve[np.isfinite(curve).all(axis=1)]
    first = first[np.isfinite(first).all(axis=1)]
    last = last[np.isfinite(last).all(axis=1)]
    if len(curve) < 2 or len(first) < 2 or len(last) < 2:
        return curve
    along = curve[-1] - curve[0]
    along = along / max(float(np.hypot(*along)), 1e-9)
    place = curve @ along
    low = float(np.median(first @ along))
    high = float(np.median(last @ along))
    margin = 0.02 * (high - low)
    return curve[(place > low + margin) & (place < high - margin)]
