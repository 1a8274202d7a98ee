"""What bodies usually look like by level, to tell a fracture from a normal shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

USUAL_HEIGHT = {
    "T9": 0.76, "T10": 0.79, "T11": 0.83, "T12": 0.90, "L1": 0.96, "L2": 0.98,
    "L3": 0.98, "L4": 0.96, "L5": 0.91, "L6": 0.90,
}  # fmt: skip
"""Height behind, by that of the usual lumbar body (after *Gilad & Nissan 1985*, *Panjabi 1992*)."""

USUAL_WEDGE_DEG = {
    "T9": 3.5, "T10": 3.5, "T11": 3.0, "T12": 3.0, "L1": 2.0, "L2": 1.0,
    "L3": -0.5, "L4": -3.0, "L5": -7.0, "L6": -7.0,
}  # fmt: skip
"""Wedge of a healthy body in degrees, positive where it is lower in front (*Vialle 2005*)."""

USUAL_DISC_DEG = {"T9": 1.5, "T10": 1.5, "T11": 1.5, "T12": 1.5}
"""Opening of the disc below a thoracic level, to the front positive: the lowest discs of the chest
are lordotic, by 13 % of its kyphosis together, and its bodies alone make it (*Finoco 2025*, 645
volunteers); the junction to the lumbar column is straight (*Bernhardt & Bridwell 1989*)."""


def usual_wedge(level: str, depth_by_height: NDArray[np.float64]) -> NDArray[np.float64]:
    """Front by back height that is usual at a level.

    Args:
        level: Such as "L1".
        depth_by_height: (S,) depth of the body by its height behind.
    """
    wedge = np.tan(np.deg2rad(USUAL_WEDGE_DEG.get(level, 0.0)))
    return np.asarray(np.maximum(1.0 - wedge * depth_by_height, 0.5))
