"""Every measure as a formula of landmarks: angles in degrees, lengths in the landmarks' unit.

All take arrays whose last axis is x, y; leading axes are samples. x points to the patient's front
and y to the feet, in a plane with equal units along both. Phantoms use the same formulas on their
exact corners, so that truth and measure have one definition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BACK_UPPER, FRONT_UPPER, FRONT_LOWER, BACK_LOWER = range(4)
"""Order of a body's corners along axis -2."""

MEYERDING_PERCENT = (10.0, 25.0, 50.0, 75.0, 100.0)
"""From this slip on the grade is 1, 2, 3, 4, 5 (*Meyerding 1932*). Less than 10 % is no slip: back
walls are not hollow alike, at L5 and S1 least. Of 9 to 12 % all grade phantoms equally well."""

GENANT_LOSS = (0.20, 0.25, 0.40)
"""From this loss of height on a fracture's grade is 1, 2, 3 (*Genant 1993*)."""


USUAL_MIDDLE = 0.94
"""Height in the middle by that of both ends where the endplates' hollows are not unusual: three of
four healthy phantoms have less. A hollow alone is no fracture."""


MOST_OVERLAP = 0.12
"""Facing endplates that dig into each other by more than this share of the depth are wrong: true
ones of phantoms do so by 0.10 at most."""

DISC_DEG = (-10.0, 40.0)
"""So are those of a disc that opens by less or more: true ones of phantoms reach from -5 to 29."""


def upper_plate(corners: Array) -> Array:
    """(..., 2) vector along the upper endplate, to the front."""
    return np.asarray(corners[..., FRONT_UPPER, :] - corners[..., BACK_UPPER, :])


def lower_plate(corners: Array) -> Array:
    """(..., 2) vector along the lower endplate, to the front."""
    return np.asarray(corners[..., FRONT_LOWER, :] - corners[..., BACK_LOWER, :])


def double_contour(ends: Array, along: Array) -> Array:
    """(...) how far the two contours of an endplate lie apart, square to it; never negative.

    Args:
        ends: (..., 2, 2) a place on the left and one on the right contour.
        along: (..., 2) direction of the endplate.
    """
    return np.asarray(np.abs(((ends[..., 1, :] - ends[..., 0, :]) * _square_to(along)).sum(-1)))


def slope_deg(vector: Array) -> Array:
    """(...) how far the front of (..., 2) vectors points down from level, in degrees."""
    return np.asarray(np.degrees(np.arctan2(vector[..., 1], vector[..., 0])))


def length(vector: Array) -> Array:
    """(...) length of (..., 2) vectors."""
    return np.asarray(np.hypot(vector[..., 0], vector[..., 1]))


def between_deg(upper: Array, lower: Array) -> Array:
    """(...) angle from an upper endplate to a lower one, (..., 2) vectors to the front, in degrees.

    Lordosis is positive, -180 to 180 (*Cobb*; *Vialle 2005*).
    """
    turn = slope_deg(lower) - slope_deg(upper)
    return np.asarray((turn + 180.0) % 360.0 - 180.0)


def disc_heights(above: Array, below: Array, middles: Array) -> Array:
    """(..., 3) height of a disc in front, in the middle and behind.

    0 where its endplates are drawn over each other. See :func:`disc_gaps`.
    """
    return np.maximum(disc_gaps(above, below, middles), 0.0)


def disc_gaps(above: Array, below: Array, middles: Array) -> Array:
    """(..., 3) distance of a disc's endplates in front, in the middle and behind.

    Measured square to the line that halves the angle between its endplates (*Farfan*), between
    facing corners, and between the middles of the endplates, hollows included. Negative where
    endplates are drawn over each other.

    Args:
        above: (..., 4, 2) corners of the vertebra above.
        below: (..., 4, 2) corners of the vertebra below, its upper two are used.
        middles: (..., 2, 2) middle of the lower endplate above, and of the upper endplate below.
    """
    normal = _square_to(_unit(lower_plate(above)) + _unit(upper_plate(below)))
    front = below[..., FRONT_UPPER, :] - above[..., FRONT_LOWER, :]
    back = below[..., BACK_UPPER, :] - above[..., BACK_LOWER, :]
    middle = middles[..., 1, :] - middles[..., 0, :]
    return np.stack([(part * normal).sum(-1) for part in (front, middle, back)], axis=-1)


def disc_depth(above: Array, below: Array) -> Array:
    """(...) mean length of the two endplates of a disc, between bodies' (..., 4, 2) corners."""
    return np.asarray((length(lower_plate(above)) + length(upper_plate(below))) / 2.0)


def body_heights(corners: Array, middles: Array) -> Array:
    """(..., 3) height of a body in front, in the middle and behind.

    Args:
        corners: (..., 4, 2) its corners.
        middles: (..., 2, 2) middle of its upper and lower endplate, hollows included.
    """
    front = corners[..., FRONT_LOWER, :] - corners[..., FRONT_UPPER, :]
    back = corners[..., BACK_LOWER, :] - corners[..., BACK_UPPER, :]
    middle = middles[..., 1, :] - middles[..., 0, :]
    return np.stack([length(front), length(middle), length(back)], axis=-1)


def slip(above: Array, below: Array) -> Array:
    """(...) how far the vertebra above stands in front of the one below, along its endplate.

    Between the back corners (*Meyerding 1932*, *Taillard 1954*); negative: backward. Both are
    (..., 4, 2) corners.
    """
    along = _unit(upper_plate(below))
    step = above[..., BACK_LOWER, :] - below[..., BACK_UPPER, :]
    return np.asarray((step * along).sum(-1))


def meyerding_grade(percent: float) -> int:
    """0 to 5, negative for a backward slip, by the slip in per cent of the depth."""
    grade = sum(1 for least in MEYERDING_PERCENT if abs(percent) >= least)
    return grade if percent >= 0 else -grade


def genant_grade(loss: float) -> int:
    """0 to 3, by the loss of height, 0 to 1."""
    return sum(1 for least in GENANT_LOSS if loss >= least)


def height_loss(
    heights: Array, usual_back: Array | float, usual_wedge: Array | float = 1.0
) -> Array:
    """(...) greatest loss of height of a body, 0 to 1: in front, in the middle, or all of it.

    Args:
        heights: (..., 3) of :func:`body_heights`.
        usual_back: Height behind that the column's other bodies let expect; NaN: not known.
        usual_wedge: Front by back height that is usual at its level.
    """
    front, middle, back = heights[..., 0], heights[..., 1], heights[..., 2]
    tallest = np.maximum(front / usual_wedge, back)
    both = (front + back) / 2.0
    losses = [1.0 - front / (back * usual_wedge), 1.0 - middle / (both * USUAL_MIDDLE)]
    whole = 1.0 - tallest / usual_back
    losses.append(np.where(np.isfinite(whole), whole, 0.0))
    return np.asarray(np.maximum(np.max(losses, axis=0), 0.0))


def contradictory(upper: Array, lower: Array) -> NDArray[np.bool_]:
    """(N,) whether the facing endplates of neighbours cannot both be right.

    Of endplates out of view neither is known, and nothing is said.

    Args:
        upper: (N, 4, 2) corners of the bodies above, the patient looking to the right.
        lower: (N, 4, 2) of those below.
    """
    heights = disc_gaps(upper, lower, np.zeros((len(upper), 2, 2)))
    overlap = -np.minimum(heights[:, 0], heights[:, 2]) / disc_depth(upper, lower)
    opens = between_deg(lower_plate(upper), upper_plate(lower))
    return np.asarray((overlap > MOST_OVERLAP) | (opens < DISC_DEG[0]) | (opens > DISC_DEG[1]))


def pelvic_angles_deg(sacrum: Array, heads: Array) -> tuple[Array, Array]:
    """(...) pelvic incidence and (...) pelvic tilt, in degrees (*Legaye 1998*).

    Args:
        sacrum: (..., 4, 2) corners of S1; its upper two are used.
        heads: (..., 2) middle between both femoral heads.
    """
    middle = (sacrum[..., BACK_UPPER, :] + sacrum[..., FRONT_UPPER, :]) / 2.0
    to_heads = heads - middle
    # Tilt: of the line from the heads to the endplate against the vertical, backward positive.
    tilt = np.degrees(np.arctan2(to_heads[..., 0], to_heads[..., 1]))
    return np.asarray(tilt + slope_deg(upper_plate(sacrum))), np.asarray(tilt)


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.maximum(length(vector), 1e-9)[..., None])


def _square_to(vector: Array) -> Array:
    """Unit vector square to one that points to the front: it points to the feet."""
    unit = _unit(vector)
    return np.stack([-unit[..., 1], unit[..., 0]], axis=-1)


def levels_beside(place: Array, centres: Array, levels: Sequence[str]) -> tuple[str, ...]:
    """The neighbours between whose middles a place lies; above and below all of them one alone.

    Args:
        place: (2,) the place.
        centres: (N, 2) middles of vertebrae from above.
        levels: N of them; none: nothing is told.
    """
    if len(levels) < 2:
        return tuple(levels)
    step = centres[1:] - centres[:-1]
    share = ((place - centres[:-1]) * step).sum(axis=1) / np.maximum((step**2).sum(axis=1), 1e-9)
    nearest = centres[:-1] + np.clip(share, 0.0, 1.0)[:, None] * step
    number = int(length(place - nearest).argmin())
    if number == 0 and share[0] < 0.0:
        return (levels[0],)
    if number == len(step) - 1 and share[-1] > 1.0:
        return (levels[-1],)
    return levels[number], levels[number + 1]


def break_size(points: Array) -> tuple[float, float]:
    """How far the ends at a rod's break are apart: along the rod, and across it.

    Args:
        points: (4, 2) a place on the part above, its end, the end of the part below, a place on
            that. The mean of both parts' directions is the rod's.
    """
    before, after = points[1] - points[0], points[3] - points[2]
    along = before / length(before) + after / length(after)
    along = along / length(along)
    between = points[2] - points[1]
    return float(between @ along), float(abs(between[0] * along[1] - between[1] * along[0]))
