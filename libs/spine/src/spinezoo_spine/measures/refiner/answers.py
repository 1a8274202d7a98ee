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
    back, front = corners[..., [0, 3], :], corners[..., [1, 2], :]  # (..., upper and lower, 2)
    along, middle = front - back, (front + back) / 2.0
    length = np.hypot(along[..., 0], along[..., 1])
    below = middles - middle
    # How far below the line, square to it: front down is positive.
    hollow = (along[..., 0] * below[..., 1] - along[..., 1] * below[..., 0]) / np.maximum(
        length, 1e-12
    )
    found = np.empty((*corners.shape[:-2], 2, NUMBERS // 2))
    found[..., :2] = middle
    found[..., 2] = np.arctan2(along[..., 1], along[..., 0])
    found[..., 3], found[..., 4] = length, hollow
    return found.reshape(*corners.shape[:-2], NUMBERS)


def landmarks_of(numbers: Array) -> tuple[Array, Array]:
    """(..., 4, 2) corners and (..., 2, 2) middles of the endplates: the opposite."""
    each = numbers.reshape(*numbers.shape[:-1], 2, NUMBERS // 2)  # upper and lower
    cosine, sine = np.cos(each[..., 2]), np.sin(each[..., 2])
    along = np.stack([cosine, sine], axis=-1)
    middle, half = each[..., :2], (each[..., 3] / 2.0)[..., None] * along
    corners = np.empty((*numbers.shape[:-1], 4, 2))
    corners[..., [0, 3], :], corners[..., [1, 2], :] = middle - half, middle + half
    return corners, middle + each[..., 4:] * np.stack([-sine, cosine], axis=-1)
