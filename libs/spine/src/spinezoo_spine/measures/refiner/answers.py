"""What the refiner's numbers mean: two endplates of a body.

Five numbers an endplate, upper then lower: middle of its line of corners (x, y), direction in
radians (front down is positive), length from corner to corner, and how far the endplate's middle
lies below that line (a hollow of an upper endplate is positive). Lengths are sizes of the body, in
the crop (see :mod:`spinezoo_spine.measures.refiner.looking`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NUMBERS = 10
"""Five of the upper endplate, five of the lower one."""

UPPER_NUMBERS, LOWER_NUMBERS = slice(0, 5), slice(5, 10)

REFERENCE = (0.0, -0.48, 0.0, 1.12, 0.04, 0.0, 0.48, 0.0, 1.12, -0.04)
"""What the network's numbers are counted from: a usual body."""

SCALE = (0.1, 0.1, 0.15, 0.1, 0.05, 0.1, 0.1, 0.15, 0.1, 0.05)
"""What the network's numbers are multiples of."""


def numbers_of(corners: Array, middles: Array) -> Array:
    """(..., NUMBERS) of corners (..., 4, 2) and middles of the endplates (..., 2, 2)."""
    found = []
    for back, front, which in ((0, 1, 0), (3, 2, 1)):
        along = corners[..., front, :] - corners[..., back, :]
        middle = (corners[..., front, :] + corners[..., back, :]) / 2.0
        length = np.hypot(along[..., 0], along[..., 1])
        angle = np.arctan2(along[..., 1], along[..., 0])
        below = middles[..., which, :] - middle
        hollow = -np.sin(angle) * below[..., 0] + np.cos(angle) * below[..., 1]
        found += [middle[..., 0], middle[..., 1], angle, length, hollow]
    return np.stack(found, axis=-1)


def landmarks_of(numbers: Array) -> tuple[Array, Array]:
    """(..., 4, 2) corners and (..., 2, 2) middles of the endplates: the opposite."""
    plates, middles = [], []
    for part in (UPPER_NUMBERS, LOWER_NUMBERS):
        x, y, angle, length, hollow = np.moveaxis(numbers[..., part], -1, 0)
        along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        below = np.stack([-np.sin(angle), np.cos(angle)], axis=-1)
        middle = np.stack([x, y], axis=-1)
        half = (length / 2.0)[..., None] * along
        plates.append((middle - half, middle + half))
        middles.append(middle + hollow[..., None] * below)
    (back_upper, front_upper), (back_lower, front_lower) = plates
    corners = np.stack([back_upper, front_upper, front_lower, back_lower], axis=-2)
    return corners, np.stack(middles, axis=-2)
