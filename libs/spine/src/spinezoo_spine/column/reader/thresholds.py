"""From which confidence on something is said, so that what is said wrongly stays rare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def least_threshold(
    confidence: NDArray[np.float64], wrong: NDArray[np.float64], most_wrong: float, *, least: float
) -> float | None:
    """The lowest threshold, in whole per cent, that lets little through that is wrong.

    Args:
        confidence: (N,) of what would be said.
        wrong: (N,) how much each counts where it is said; 0 for what is right.
        most_wrong: Sum of that which is allowed.
        least: No threshold is lower.

    Returns:
        From `least` to 0.99, or None where even 0.99 lets too much through.
    """
    for percent in range(round(100 * least), 100):
        threshold = percent / 100
        if wrong[confidence >= threshold].sum() <= most_wrong:
            return threshold
    return None
