"""A film along a rod: the axis of a stretched set of points, and the places of a strip along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MORE_BENT = (6.0, 14.0)
"""From so many breadths on a course may bend once more."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """The straight axis of N points.

    Attributes:
        middle: (2,) their mean.
        along: (2,) unit vector, downwards.
        across: (2,) unit vector to the right of it.
        far: (N,) place of each point along the axis.
        aside: (N,) its place across.
        low: Least ``far``.
        high: Greatest.
        spread: (2,) variances across and along.
    """

    middle: Array
    along: Array
    across: Array
    far: Array
    aside: Array
    low: float
    high: float
    spread: Array

    @classmethod
    def of(cls, points: Array) -> Axis:
        """The axis of (N, 2) points."""
        middle = points.mean(axis=0)
        away = points - middle
        spread, axes = np.linalg.eigh(away.T @ away)
        along = axes[:, 1] if axes[1, 1] >= 0.0 else -axes[:, 1]
        across = np.array([along[1], -along[0]])
        far, aside = away @ along, away @ across
        low, high = float(far.min()), float(far.max())
        return cls(middle, along, across, far, aside, low, high, spread / len(points))

    def degree(self, breadth: float) -> int:
        """How often a course of a breadth may bend, as the degree of a polynomial."""
        return 1 + sum(self.high - self.low >= each * breadth for each in MORE_BENT)


@dataclass(frozen=True, slots=True, eq=False)
class StripPlaces:
    """Where the cells of a strip lie on a film, in pixels from the middle of its first one.

    Attributes:
        x: (rows, columns) ``float32``.
        y: (rows, columns) ``float32``.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]

    @classmethod
    def of(cls, start: Array, across: Array, aside: NDArray[np.floating[Any]]) -> StripPlaces:
        """Rows that start at (rows, 2) places and run (2,) ``across`` by (columns,) ``aside``."""
        return cls(
            *(
                start[:, side, None].astype(np.float32) + (aside * across[side]).astype(np.float32)
                for side in (0, 1)
            )
        )

    def sampled(self, image: NDArray[np.float32], border: int, scale: float = 1.0) -> Any:
        """An image there, (rows, columns) or with its channels; ``scale``: its pixels by these."""
        x, y = self.x, self.y
        if scale != 1.0:
            x, y = x * np.float32(scale), y * np.float32(scale)
        return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border)

    def inside(self, image: NDArray[Any]) -> NDArray[np.bool_]:
        """(rows, columns) which cells lie on an image."""
        rows, columns = image.shape[:2]
        x, y = self.x, self.y
        return np.asarray((x >= 0) & (y >= 0) & (x <= columns - 1) & (y <= rows - 1))
