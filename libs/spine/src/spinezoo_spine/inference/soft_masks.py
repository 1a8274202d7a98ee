"""Soft masks of objects, each as the window that it lies in: an object covers little of a film."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import InvalidOutputError


class Window(NamedTuple):
    """A part of a grid; outside of it all is 0.

    Attributes:
        top: Row of the grid of the first row.
        left: Column of the grid of the first column.
        values: (h, w) from 0 to 1, within the grid.
    """

    top: int
    left: int
    values: NDArray[np.float32]

    def within(self, top: int, left: int, height: int, width: int) -> Window | None:
        """What of it lies in a rectangle of the grid, None where nothing does.

        Its place is counted from the rectangle's corner. It has a pixel of 0 on each side that is
        not a side of the rectangle, so that what is worked out from neighbours is right at its
        border.
        """
        first, last = max(self.top, top), min(self.top + self.values.shape[0], top + height)
        begin, end = max(self.left, left), min(self.left + self.values.shape[1], left + width)
        if last <= first or end <= begin:
            return None
        row, column = max(first - 1, top), max(begin - 1, left)
        size = (min(last + 1, top + height) - row, min(end + 1, left + width) - column)
        part = np.zeros(size, dtype=np.float32)
        part[first - row : last - row, begin - column : end - column] = self.values[
            first - self.top : last - self.top, begin - self.left : end - self.left
        ]
        return Window(row - top, column - left, part)


@dataclass(frozen=True, slots=True)
class SoftMasks:
    """Soft masks of one film on a grid that covers the whole canvas.

    Attributes:
        size: Rows and columns of the grid.
        windows: One a mask.
    """

    size: tuple[int, int]
    windows: tuple[Window, ...]

    @classmethod
    def of(cls, planes: NDArray[np.float32]) -> SoftMasks:
        """The masks of (N, h, w) planes.

        Raises:
            InvalidOutputError: They are of another shape.
        """
        if planes.ndim != 3:
            raise InvalidOutputError(
                f"masks of shape {planes.shape} are not (objects, rows, columns); check the network"
            )
        return cls((planes.shape[1], planes.shape[2]), tuple(_held(plane) for plane in planes))

    def __len__(self) -> int:
        """How many masks."""
        return len(self.windows)

    def chosen(self, which: Iterable[int]) -> SoftMasks:
        """Some of them, by number."""
        return SoftMasks(self.size, tuple(self.windows[number] for number in which))

    def planes(self) -> NDArray[np.float32]:
        """(N, h, w): each on the whole grid."""
        planes = np.zeros((len(self.windows), *self.size), dtype=np.float32)
        for plane, (top, left, values) in zip(planes, self.windows, strict=True):
            plane[top : top + values.shape[0], left : left + values.shape[1]] = values
        return planes


def _held(plane: NDArray[np.float32]) -> Window:
    """The smallest window of a plane beyond which all is 0; not a number is not 0."""
    there = plane != 0.0
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(rows):
        return Window(0, 0, plane[:1, :1])
    top, left = int(rows[0]), int(columns[0])
    return Window(top, left, plane[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1])
