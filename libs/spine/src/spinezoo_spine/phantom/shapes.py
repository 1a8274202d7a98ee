"""Outlines that implants are made of."""

from __future__ import annotations

import numpy as np


def circle_outline(centre: np.ndarray, radius: float, points: int) -> np.ndarray:
    """(points, 2) a polygon around `centre`, in its unit."""
    around = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return centre + np.stack([np.cos(around), np.sin(around)], axis=1) * radius


def box_outline(
    centre: np.ndarray, axis: np.ndarray, half_length: float, half_height: float, cut: float = 0.0
) -> np.ndarray:
    """(4, 2) a rectangle along `axis` whose front end is lowered by `cut` (0 to 1)."""
    across = np.array([axis[1], -axis[0]])
    front = half_height * (1 - cut)
    return np.array(
        [
            centre - axis * half_length - across * half_height,
            centre + axis * half_length - across * front,
            centre + axis * half_length + across * front,
            centre - axis * half_length + across * half_height,
        ]
    )
