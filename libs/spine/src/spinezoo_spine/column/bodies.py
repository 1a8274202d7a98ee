"""Where a mask lies, how large it is and how it is turned, from its run lengths alone.

Naming and separating vertebrae need no pixels: a mask of a vertebra is some hundred runs, and
sums over runs give area, centre and spread of the whole outline at any size of film.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import RunLengthMask


@dataclass(frozen=True, slots=True)
class ColumnRuns:
    """A mask as vertical strokes, one a run and film column.

    Attributes:
        column: (N,) film column of each stroke.
        top: (N,) its first row.
        bottom: (N,) the row after its last.
    """

    column: NDArray[np.int64]
    top: NDArray[np.int64]
    bottom: NDArray[np.int64]


def column_runs(mask: RunLengthMask) -> ColumnRuns:
    """The strokes of a mask.

    Raises:
        MaskError: The counts break the contract.
    """
    borders = np.cumsum(mask.runs)
    starts, ends = borders[:-1:2], borders[1::2]
    filled = ends > starts
    return strokes_of_runs(starts[filled], ends[filled], mask.height)


def strokes_of_runs(starts: NDArray[np.int64], ends: NDArray[np.int64], height: int) -> ColumnRuns:
    """The strokes of runs; a run that goes on into the next column is cut there.

    Args:
        starts: (N,) first pixel of each run, counted down the columns of the film.
        ends: (N,) the pixel after its last; greater than ``starts``.
        height: Rows of the film.
    """
    first, last = starts // height, (ends - 1) // height
    further = last - first
    if not further.any():
        return ColumnRuns(first, starts - first * height, ends - first * height)
    owner = np.repeat(np.arange(len(starts)), further + 1)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(further + 1) - further - 1, further + 1)
    column = first[owner] + place
    top = np.maximum(starts[owner] - column * height, 0)
    bottom = np.minimum(ends[owner] - column * height, height)
    return ColumnRuns(column, top, bottom)


@dataclass(frozen=True, slots=True)
class Shape:
    """Size, place and spread of an outline.

    Attributes:
        area_px: Pixels.
        centre_xy: Centre of mass, in pixels of the film.
        length_px: Length of the rectangle of the same spread, along ``direction_xy``.
        breadth_px: Its other side.
        direction_xy: Unit vector of the longer side; it points up, or right where it is level.
    """

    area_px: float
    centre_xy: tuple[float, float]
    length_px: float
    breadth_px: float
    direction_xy: tuple[float, float]

    @property
    def size_px(self) -> float:
        """Side of the square of the same area."""
        return math.sqrt(self.area_px)

    def extent_px(self, along_xy: tuple[float, float]) -> float:
        """Length of the rectangle of the same spread along a unit vector."""
        cosine = along_xy[0] * self.direction_xy[0] + along_xy[1] * self.direction_xy[1]
        sine_2 = max(0.0, 1.0 - cosine * cosine)
        return math.sqrt(self.length_px**2 * cosine * cosine + self.breadth_px**2 * sine_2)


def shape_of_runs(runs: ColumnRuns) -> Shape | None:
    """The shape of a mask's strokes, or None where there are none."""
    length = (runs.bottom - runs.top).astype(np.float64)
    area = float(length.sum())
    if area <= 0.0:
        return None
    x = runs.column + 0.5
    y = (runs.top + runs.bottom) / 2.0
    centre_x, centre_y = float(length @ x) / area, float(length @ y) / area
    x, y = x - centre_x, y - centre_y
    # A stroke is spread along itself: length^3 / 12; a pixel is a square: 1/12.
    xx = float(length @ (x * x)) / area + 1.0 / 12.0
    yy = float(length @ (y * y + length * length / 12.0)) / area
    xy = float(length @ (x * y)) / area
    return shape_of_moments(area, centre_x, centre_y, xx, yy, xy)


def shape_of(mask: RunLengthMask) -> Shape | None:
    """The shape of a mask, or None for an empty one.

    Raises:
        MaskError: The counts break the contract.
    """
    return shape_of_runs(column_runs(mask))


def shape_of_moments(
    area: float, centre_x: float, centre_y: float, xx: float, yy: float, xy: float
) -> Shape:
    """From area, centre and central second moments to a shape.

    A rectangle's variance along a side is its square over 12.
    """
    middle, half = (xx + yy) / 2.0, math.hypot((xx - yy) / 2.0, xy)
    angle = 0.5 * math.atan2(2.0 * xy, xx - yy)
    dx, dy = math.cos(angle), math.sin(angle)
    if dy > 1e-12 or (abs(dy) <= 1e-12 and dx < 0.0):
        dx, dy = -dx, -dy
    return Shape(
        area,
        (centre_x, centre_y),
        math.sqrt(12.0 * (middle + half)),
        math.sqrt(12.0 * max(middle - half, 0.0)),
        (dx, dy),
    )
