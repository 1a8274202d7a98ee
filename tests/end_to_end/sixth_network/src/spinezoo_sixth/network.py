"""Bright is bone, brighter is metal (thresholds on grey levels; Otsu 1979 chooses them better)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Thresholds:
    """Two soft steps.

    Args:
        bone: Grey level at which bone begins, 0 to 1.
        metal: Grey level at which metal begins, above ``bone``.
        softness: Width of a step in grey levels.
    """

    def __init__(self, bone: float, metal: float, softness: float = 0.05) -> None:
        self.bone, self.metal, self.softness = bone, metal, softness

    def __call__(self, grey: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, w) grey from 0 to 1 -> (3, h, w) probabilities of background, bone and metal."""
        above_bone = 1.0 / (1.0 + np.exp((self.bone - grey) / self.softness))
        above_metal = 1.0 / (1.0 + np.exp((self.metal - grey) / self.softness))
        metal = above_bone * above_metal
        return np.stack([1.0 - above_bone, above_bone - metal, metal]).astype(np.float32)
