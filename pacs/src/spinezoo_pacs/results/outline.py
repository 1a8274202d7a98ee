"""One polygon of a mask, for viewers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import RunLengthMask
from spinezoo_spine.annotations.mask_outlines import rings_of_mask

TOLERANCE_PX = 0.45
"""Greatest distance between a mask's border and its polygon, in pixels."""

LEAST_POINTS = 6
"""OHIF turns polygons of 4 or 5 points into rectangles."""


def polygon_of(mask: RunLengthMask) -> NDArray[np.float64]:
    """(N, 2) x and y of the outer border of a mask's largest part, N at least 6, not closed.

    Coordinates are pixels from the film's top-left corner, as PS3.3 C.18.6.1.2 counts them. No
    point of the border is farther than :data:`TOLERANCE_PX` from the polygon.

    Raises:
        AnnotationError: The border has too many corners.
    """
    rings = rings_of_mask(decode_mask(mask))
    ring = max(rings, key=_area)
    loose = cv2.approxPolyDP(ring.astype(np.float32)[:, None], TOLERANCE_PX, True)
    points: NDArray[np.float64] = loose[:, 0].astype(np.float64)
    if len(points) < 3:
        points = ring
    while len(points) < LEAST_POINTS:
        points = _longest_edge_halved(points)
    return points


def _area(ring: NDArray[np.float64]) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _longest_edge_halved(points: NDArray[np.float64]) -> NDArray[np.float64]:
    after = np.roll(points, -1, axis=0)
    place = int(np.argmax(np.linalg.norm(after - points, axis=1)))
    middle = (points[place] + after[place]) / 2.0
    return np.insert(points, place + 1, middle, axis=0)
