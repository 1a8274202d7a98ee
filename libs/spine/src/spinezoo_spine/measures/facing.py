"""Which way the patient looks on the film, from the column's own shape.

Three signs speak, each with a weight fitted on phantoms of other seeds than the tests':

- *lordosis*: towards the feet endplates turn down to the front;
- *lean*: of the lowest three bodies the lower step leads further back than the upper one;
- *screws and rods*: most lie behind the bodies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Segment, Structure

WEIGHTS = (0.41, 1.3, 0.3)
"""Log-odds by degree of lordosis, by difference of the two steps' leans (0 to 2), and by size of a
body that metal lies aside of the column."""

LEAST_PROBABILITY = 0.95
"""Less is unsure: what lies in front and what behind is not told then."""


def facing_signs(
    slopes_deg: Sequence[float],
    centres: NDArray[np.float64],
    metal: Sequence[Segment],
    size: float,
    spacing_mm: tuple[float, float],
) -> NDArray[np.float64]:
    """(3,) signs, positive where the patient looks to the film's right, 0 where nothing is seen.

    Args:
        slopes_deg: Slopes of the endplates from above to below, front taken to be the right. A
            line has no sense: slopes of 170 and -10 degrees are one.
        centres: (J, 2) middles of the bodies above the sacrum, from above to below.
        metal: Implants of the film.
        size: Of a body, in the unit of the centres.
        spacing_mm: Distance of rows and columns.
    """
    signs = np.zeros(3)
    # Corners of a ragged outline may be found the wrong way round.
    finite = [math.remainder(slope, 180.0) for slope in slopes_deg if math.isfinite(slope)]
    if len(finite) >= 4:
        third = max(1, len(finite) // 3)
        signs[0] = fmean(finite[-third:]) - fmean(finite[:third])
    if len(centres) >= 3:
        signs[1] = _lean(centres[-3], centres[-2]) - _lean(centres[-2], centres[-1])
    behind = [each for each in metal if each.structure in (Structure.SCREW, Structure.ROD)]
    if behind and len(centres) >= 2:
        row_mm, column_mm = spacing_mm
        asides = []
        for each in behind:
            x = (each.box.x + each.box.width / 2.0) * column_mm
            y = (each.box.y + each.box.height / 2.0) * row_mm
            asides.append(float(np.interp(y, centres[:, 1], centres[:, 0])) - x)
        signs[2] = min(max(fmean(asides) / size, -1.5), 1.5)
    return signs


def _lean(upper: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """How far the step from one middle to the next goes to the right, by its length."""
    x, y = (lower - upper).tolist()
    return float(x / max(math.hypot(x, y), 1e-9))


def facing_log_odds(signs: NDArray[np.float64]) -> float:
    """Log-odds that the patient looks to the film's right.

    Args:
        signs: (3,) of :func:`facing_signs`.
    """
    return float(signs @ np.array(WEIGHTS))


def probability_of(log_odds: float) -> float:
    """The probability of log-odds."""
    return float(1.0 / (1.0 + math.exp(-min(max(log_odds, -30.0), 30.0))))
