"""How many lumbar vertebrae a column has, where that can be said."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spinezoo_spine.column.anatomy import USUAL_LUMBAR, USUAL_STEP
from spinezoo_spine.column.places import Place
from spinezoo_spine.column.reading import LEAST_CONFIDENCE, CountReason


def count_lumbar(
    chain: Sequence[Place],
    split: int,
    positions: Sequence[int],
    confidences: Sequence[float],
    height: int,
    width: int,
    top_is_t12: bool,
) -> tuple[int | None, int | None, CountReason]:
    """Number of lumbar vertebrae, the suspected number, and what it rests on.

    Ribs are no class, so T12 is known only by the rule of the study's outlines: nothing above T12
    is outlined. That says something only where the film goes on above the uppermost outline.
    """
    top = chain[-1]
    if confidences[-1] < LEAST_CONFIDENCE:
        return None, None, CountReason.NO_NAMES
    above = positions[-1] + top.count - 1
    if not _room_above(chain, height, width):
        return None, None, CountReason.TOP_CUT
    if above not in (5, 6, 7):
        return None, None, CountReason.OTHER
    if top_is_t12:
        return above - 1, None, CountReason.TOLD
    single = all(node.count == 1 for node in chain[split:])
    if not single or above != len(chain) - split:
        return None, None, CountReason.GAP
    if above == 6:
        return USUAL_LUMBAR, None, CountReason.FIVE
    return None, above - 1, CountReason.SIX if above == 7 else CountReason.FOUR


def _room_above(chain: Sequence[Place], height: int, width: int) -> bool:
    """Whether one more vertebra would be on the film whole, above the uppermost place."""
    top = chain[-1]
    x, y = top.upper_xy
    below_x, below_y = chain[-2].upper_xy if len(chain) > 1 else (x, y + 1.0)
    length = math.hypot(x - below_x, y - below_y) or 1.0
    reach = USUAL_STEP * top.size
    x, y = x + (x - below_x) / length * reach, y + (y - below_y) / length * reach
    half = 0.5 * top.size
    return half <= x <= width - half and half <= y <= height - half
