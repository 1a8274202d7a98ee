"""What the refiner is shown: a crop of the film around each body, upright, and its outline.

Places in a crop are in sizes of the body (square root of its outline's area), from the crop's
middle, x to the patient's front, y to the feet. Training and serving use the same functions.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LOOK_ID = "crop96-v1"
"""Changes whenever a crop changes: a network reads only what it was trained on."""

CROP_PX = 96
"""Side of a crop."""

CROP_HALF = 0.96
"""Half the side of a crop, in sizes of the body."""

FINER = 2
"""Crops are read this much finer than they are shown, and their cells averaged."""

MOST = 3.0
"""Normalised grey levels are cut here: metal must not drown bone."""


def crop_of(
    pixels: NDArray[Any],
    centre_px: NDArray[np.float64],
    axes_px: NDArray[np.float64],
    side_px: int = CROP_PX,
) -> NDArray[Any]:
    """(side, side) crop of a film, turned and scaled; beyond the film its border goes on.

    Args:
        pixels: (height, width) film.
        centre_px: (2,) middle of the crop on the film, x and y, pixel edges.
        axes_px: (2, 2) columns: half the crop's side to the front and to the feet, on the film.
        side_px: Side of the crop.
    """
    fine = side_px * FINER
    axes = axes_px * (2.0 / fine)
    (front_x, feet_x), (front_y, feet_y) = axes_px.tolist()
    x, y = centre_px.tolist()
    aside, along = abs(front_x) + abs(feet_x), abs(front_y) + abs(feet_y)
    height, width = pixels.shape
    left, right = max(0, math.floor(x - aside) - 3), min(width, math.ceil(x + aside) + 4)
    top, bottom = max(0, math.floor(y - along) - 3), min(height, math.ceil(y + along) + 4)
    if right - left < 2 or bottom - top < 2:
        return np.zeros((side_px, side_px), np.float32)
    window = pixels[top:bottom, left:right]
    if window.dtype not in (np.uint8, np.uint16, np.float32):
        window = window.astype(np.float32)
    origin = centre_px - (left, top)
    shrink = math.sqrt(abs(front_x * feet_y - front_y * feet_x)) * (2.0 / fine)
    if shrink > 1.5:  # many pixels a cell: their mean, not some of them
        rows, columns = window.shape
        size = (max(2, round(columns / shrink)), max(2, round(rows / shrink)))
        scale = np.array([size[0] / columns, size[1] / rows])
        window = cv2.resize(np.ascontiguousarray(window), size, interpolation=cv2.INTER_AREA)
        origin, axes = origin * scale, axes * scale[:, None]
    # OpenCV counts from pixel centres.
    matrix = np.column_stack([axes, origin - 0.5 - axes @ np.full(2, (fine - 1) / 2.0)])
    crop = cv2.warpAffine(
        window, matrix, (fine, fine),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return np.asarray(cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA))


def normalised(crop: NDArray[Any]) -> NDArray[np.float32]:
    """A crop by its own mean and spread, both without its darkest and brightest twentieth.

    Args:
        crop: (h, w) grey levels of any scale.
    """
    values = np.asarray(crop, dtype=np.float32)
    some = values[::2, ::2].reshape(-1)
    ends = len(some) // 20
    inner = np.partition(some, (ends, len(some) - ends - 1))[ends:-ends]
    mean, deviation = cv2.meanStdDev(inner)
    most = max(1.0, abs(float(inner[0])), abs(float(inner[-1])))
    spread = max(float(deviation[0, 0]), 1e-6 * most)
    return np.asarray(
        np.minimum(np.maximum((values - np.float32(mean[0, 0])) / np.float32(spread), -MOST), MOST)
    )
