"""How many vertebrae up from S1 each place is, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from spinezoo_spine.column.anatomy import USUAL_STEP
from spinezoo_spine.column.chain import steps_between
from spinezoo_spine.column.places import Place


def ramp(value: float, low: float, high: float, least: float) -> float:
    """``least`` up to ``low``, 1 from ``high`` on, a line between."""
    return least + (1.0 - least) * min(1.0, max(0.0, (value - low) / (high - low)))


def _own_step(chain: Sequence[Place], split: int) -> float:
    """The column's own step, in body sizes: the median of its single steps with the usual one.

    A flat column of narrow discs is told from a column with gaps by its other steps; the usual
    step counts as two further ones, so that a few outlines cannot carry it far.
    """
    steps = [
        steps_between(low, high, 1.0)
        for low, high in zip(chain[split:], chain[split + 1 :], strict=False)
    ]
    single = [step for step in steps if 0.8 <= step <= 1.6]
    return statistics.median([*single, USUAL_STEP, USUAL_STEP])


def positions_of(
    chain: Sequence[Place], split: int, sacrum: float
) -> tuple[list[int], list[float]]:
    """Position of each place up from S1 (of its lowest vertebra), and the confidence in it."""
    step = _own_step(chain, split)
    positions = [0] * len(chain)
    confidences = [sacrum] * len(chain)
    first = split - 1
    above, confidence = chain[first].count - 1, sacrum
    # S1 may be one with S2: then its upper vertebra is S1.
    positions[first] = -above
    above = 0
    before = math.inf
    for place in range(split, len(chain)):
        low, high = chain[place - 1], chain[place]
        exact = steps_between(low, high, step)
        steps, clear = count_steps(exact, steps_between(low, high))
        # Bodies lie near each other where one disc has collapsed; two such steps in a row are
        # rather a body cut in two, or a filled disc between two bodies, taken for one.
        confidence *= clear * _apart(low, high) * ramp(before + exact, 1.4, 1.6, 0.6)
        before = exact
        positions[place] = above + steps
        above = positions[place] + high.count - 1
        confidences[place] = confidence
    below, confidence = positions[first], sacrum
    for place in range(first - 1, -1, -1):
        steps, clear = count_steps(steps_between(chain[place], chain[place + 1]))
        confidence *= clear
        positions[place] = below - steps - (chain[place].count - 1)
        below = positions[place]
        confidences[place] = confidence
    return positions, confidences


def _apart(low: Place, high: Place) -> float:
    """How sure it is that two neighbours are two vertebrae and not pieces of others.

    Between bodies lies a disc. Outlines without any room between them come from a region whose
    discs are filled; there the cuts, and so their number, are a guess. One such pair may be a disc
    that has collapsed, several in a row are a column that nobody can count.
    """
    if low.count > 1 or high.count > 1:
        return 1.0
    dx = high.shape.centre_xy[0] - low.shape.centre_xy[0]
    dy = high.shape.centre_xy[1] - low.shape.centre_xy[1]
    distance = math.hypot(dx, dy)
    along = (dx / distance, dy / distance)
    filled = (low.shape.extent_px(along) + high.shape.extent_px(along)) / 2.0
    return ramp((distance - filled) / ((low.size + high.size) / 2.0), 0.0, 0.1, 0.8)


def count_steps(steps: float, usual_steps: float | None = None) -> tuple[int, float]:
    """From a distance to a number of vertebrae, and how clear it is.

    Half-way between two whole numbers lies the question of a missed vertebra; there the answer is
    not clear. Nor is it where the column's own step and the usual one answer differently: a
    vertebra missed between two narrow discs of a column that is wide elsewhere.

    Args:
        steps: Distance of two centres in steps of their own column, above 0.
        usual_steps: The same in usual steps; None: the same number.

    Returns:
        Vertebrae from one to the next, 1 or more, and the clearness, 0 to 1.
    """
    whole = max(1, round(steps))
    if whole == 1:
        # Overlapping or partial outlines lie nearer than bodies can.
        clear = ramp(steps, 0.55, 0.75, 0.5) * ramp(-steps, -1.5, -1.34, 0.3)
    else:
        clear = ramp(-abs(steps - whole), -0.45, -0.25, 0.2)
        # Each missed one may have been a fractured one, or none and a wide disc beside it.
        clear *= 0.93 ** (whole - 1)
    if usual_steps is not None and max(1, round(usual_steps)) != whole:
        clear *= 0.6
    return whole, clear
