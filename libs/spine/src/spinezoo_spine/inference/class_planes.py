"""Class probabilities of a film, worked out only where a structure may be.

A semantic network's grid is often coarser than the canvas. A canvas pixel is a mean of the four
grid pixels around it, so where the background is highest in all four, it is highest between them.
Most of a film is such: it is left out, as :class:`~spinezoo_spine.inference.soft_masks.Window`
leaves out what an object does not reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MARGIN = 2
"""Grid pixels around what there is: one that pixels between are made from, and one that is cut off
again since it was made without its neighbour."""


@dataclass(frozen=True, slots=True)
class ClassPlanes:
    """Class probabilities of a part of a canvas-aligned grid; beyond it all is background.

    Attributes:
        values: (1 + classes, h, w) probabilities, background first.
        size: Rows and columns of the whole grid.
        top: Row of the grid of the first row.
        left: Column of the grid of the first column.
    """

    values: NDArray[np.float32]
    size: tuple[int, int]
    top: int = 0
    left: int = 0

    @classmethod
    def whole(cls, values: NDArray[np.float32]) -> ClassPlanes:
        """Planes that cover the whole grid.

        Args:
            values: (1 + classes, height, width) probabilities, background first.
        """
        return cls(values, (values.shape[1], values.shape[2]))

    @classmethod
    def of_logits(
        cls, logits: NDArray[np.float32], canvas: tuple[int, int], *, everywhere: bool = False
    ) -> ClassPlanes:
        """Probabilities on the canvas of a network's logits.

        Args:
            logits: (1 + classes, h, w) on any grid that covers the canvas, background first.
                Finite.
            canvas: Rows and columns of the canvas.
            everywhere: Whether to leave nothing out.
        """
        height, width = logits.shape[1:]
        times_y, rest_y = divmod(canvas[0], height)
        times_x, rest_x = divmod(canvas[1], width)
        if everywhere or rest_y or rest_x:
            return cls(_softmax(enlarged(logits, canvas)), canvas)
        there = logits[1:].max(axis=0) >= logits[0]
        rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
        if not len(rows):
            return cls(np.zeros((len(logits), 0, 0), dtype=np.float32), canvas)
        top, left = max(int(rows[0]) - MARGIN, 0), max(int(columns[0]) - MARGIN, 0)
        bottom = min(int(rows[-1]) + 1 + MARGIN, height)
        right = min(int(columns[-1]) + 1 + MARGIN, width)
        size = ((bottom - top) * times_y, (right - left) * times_x)
        drawn = enlarged(logits[:, top:bottom, left:right], size)
        # The outermost grid pixel had no neighbour, unless the canvas ends there too.
        first_y, first_x = times_y * (top > 0), times_x * (left > 0)
        last_y = size[0] - times_y * (bottom < height)
        last_x = size[1] - times_x * (right < width)
        part = drawn[:, first_y:last_y, first_x:last_x]
        return cls(_softmax(part), canvas, top * times_y + first_y, left * times_x + first_x)

    def within(self, top: int, left: int, height: int, width: int) -> ClassPlanes:
        """What of it lies in a rectangle of the grid; its place is counted from there."""
        first, begin = max(self.top, top), max(self.left, left)
        last = max(first, min(self.top + self.values.shape[1], top + height))
        end = max(begin, min(self.left + self.values.shape[2], left + width))
        part = self.values[
            :, first - self.top : last - self.top, begin - self.left : end - self.left
        ]
        return ClassPlanes(part, (height, width), first - top, begin - left)


def enlarged(planes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(planes, h, w) at another size, bilinear, as networks enlarge their logits."""
    if planes.shape[1:] == size:
        return planes
    drawn = np.empty((len(planes), *size), dtype=np.float32)
    for plane, target in zip(planes, drawn, strict=True):
        source: Any = plane  # OpenCV's types are wider than its values
        cv2.resize(source, (size[1], size[0]), dst=target, interpolation=cv2.INTER_LINEAR)
    return drawn


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of (classes, h, w) logits."""
    powers = logits - logits.max(axis=0)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=0)
    return powers
