"""Which way the patient looks on the film, from the column's own shape.

Four signs speak, each with a weight fitted on phantoms of other seeds than the tests':

- *lordosis*: towards the feet endplates turn down to the front;
- *sacrum*: below S1 the sacrum goes back;
- *lumbosacral step*: the column above S1 stands in front of it, square to S1's endplate it leans;
- *screws and rods*: they lie behind the bodies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Segment, Structure

WEIGHTS = (0.16, 6.0, 2.5, 5.0)
"""Log-odds by degree of lordosis, by size of a body that S2 lies aside of S1, by size that the column's
lower half leans, and by size that metal lies aside of the column."""

LEAST_PROBABILITY = 0.95
"""Less is unsure: what lies in front and what behind is not told then."""


def facing_signs(
    slopes_deg: Sequence[float],
    centres: NDArray[np.float64],
    sacral: Mapping[str, NDArray[np.float64]],
    metal: Sequence[Segment],
    size: float,
    spacing_mm: tuple[float, float],
) -> NDArray[np.float64]:
    """(4,) signs, positive where the patient looks to the film's right, 0 where nothing is seen.

    Args:
        slopes_deg: Slopes of the endplates from above to below, front taken to be the right.
        centres: (J, 2) middles of the bodies from above to below.
        sacral: Middles of "S1" and "S2", those that are known.
        metal: Implants of the film.
        size: Of a body, in the unit of the centres.
        spacing_mm: Distance of rows and columns.
    """
    signs = np.zeros(4)
    finite = [slope for slope in slopes_deg if math.isfinite(slope)]
    if len(finite) >= 4:
        quarter = max(1, len(finite) // 3)
        signs[0] = float(np.mean(finite[-quarter:]) - np.mean(finite[:quarter]))
    if "S1" in sacral and "S2" in sacral:
        signs[1] = float(sacral["S1"][0] - sacral["S2"][0]) / size
    if len(centres) >= 3:
        signs[2] = float(_lean(centres[-3], centres[-2]) - _lean(centres[-2], centres[-1])) * -1.0
    behind = [each for each in metal if each.structure in (Structure.SCREW, Structure.ROD)]
    if behind and len(centres) >= 2:
        row_mm, column_mm = spacing_mm
        asides = []
        for each in behind:
            x = (each.box.x + each.box.width / 2.0) * column_mm
            y = (each.box.y + each.box.height / 2.0) * row_mm
            asides.append(float(np.interp(y, centres[:, 1], centres[:, 0])) - x)
        signs[3] = float(np.clip(np.mean(asides) / size, -1.5, 1.5))
    return signs


def _lean(upper: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """How far the step from one middle to the next goes to the right, by its length."""
    step = lower - upper
    return float(step[0] / max(float(np.hypot(*step)), 1e-9))


def probability_right(signs: NDArray[np.float64]) -> float:
    """How probable it is that the patient looks to the film's right."""
    return float(1.0 / (1.0 + math.exp(-float(np.clip(signs @ np.array(WEIGHTS), -30.0, 30.0)))))
