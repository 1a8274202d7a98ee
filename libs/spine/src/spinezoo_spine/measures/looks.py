"""What the refiner is shown of a film's bodies, and what it says of them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.measures.bodies import Bodies
from spinezoo_spine.measures.evidence import CELLS, REACH
from spinezoo_spine.measures.refiner.looking import CROP_HALF, CROP_PX, crop_of, normalised
from spinezoo_spine.measures.refiner.network import LandmarkRefiner, Refined

Array = NDArray[np.float64]

DIRECTIONS = [2, 7]
"""Which of the refiner's numbers are directions, of the upper and of the lower endplate."""


MOST_SPREAD = (0.2, 0.2, 0.2, 0.3, 0.2)
"""An endplate whose numbers have a larger spread than these is left to the outlines."""

LEAST_TURN = 0.05
"""An endplate of S1 that lies less turned in its crop is looked at once, in radians."""

MOST_TURN = 0.4
"""A second look is turned by this at most, in radians."""


def axes_of(bodies: Bodies, *, mirrored: bool) -> tuple[Array, Array]:
    """(J, 2, 2) unit vectors to the front and to the feet, as columns, and (J,) sizes in mm."""
    front = -bodies.frames.right if mirrored else bodies.frames.right
    return np.stack([front, bodies.frames.down], axis=2), bodies.frames.half_mm / REACH


def crops_of(
    bodies: Bodies,
    places: NDArray[np.int64],
    pixels: NDArray[Any],
    spacing_mm: tuple[float, float],
    *,
    mirrored: bool,
    turns: Array | None = None,
) -> NDArray[np.float32]:
    """(N, 2, CROP_PX, CROP_PX) what the refiner is shown of these bodies.

    Args:
        bodies: By the outlines.
        places: (N,) which of them are looked at.
        pixels: (height, width) film, bright means dense.
        spacing_mm: Distance of rows and of columns.
        mirrored: Whether the patient looks to the film's left.
        turns: (N,) how far each crop is turned from its outline, radians; None: not at all.
    """
    row_mm, column_mm = spacing_mm
    per_px = np.array([1.0 / column_mm, 1.0 / row_mm])
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    crops = np.empty((len(places), 2, CROP_PX, CROP_PX), np.float32)
    # A patch of the outline reaches REACH sizes, a crop CROP_HALF.
    step = CROP_HALF / REACH * CELLS / CROP_PX
    angles = np.zeros(len(places)) if turns is None else turns
    cosine, sine = np.cos(angles), np.sin(angles)
    turn = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], axis=-2)
    on_patch = np.diag([-step if mirrored else step, step]) @ turn
    middle, half = (CELLS - 1) / 2.0, np.full((2, 1), (CROP_PX - 1) / 2.0)
    matrices = np.concatenate([on_patch, middle - on_patch @ half], axis=2)
    centres = bodies.frames.centre_mm[places] * per_px
    turned = axes[places] @ turn * per_px[:, None] * (sizes[places] * CROP_HALF)[:, None, None]
    outlines = bodies.fused.astype(np.float32)
    for row, place in enumerate(places.tolist()):
        crops[row, 0] = normalised(crop_of(pixels, centres[row], turned[row]))
        cv2.warpAffine(
            outlines[place],
            matrices[row],
            (CROP_PX, CROP_PX),
            dst=crops[row, 1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
    crops[:, 1] -= 0.5
    return crops


def looked(
    bodies: Bodies,
    places: NDArray[np.int64],
    pixels: NDArray[Any],
    spacing_mm: tuple[float, float],
    refiner: LandmarkRefiner,
    *,
    mirrored: bool,
) -> Refined:
    """What the refiner says of bodies; of S1 it may be what it says at a second look.

    The outline of S1 tells its endplate's direction least well. Where the first look says that it
    is turned, the second one is turned by that: so lie the crops that the refiner has learnt from.

    Args:
        bodies: By the outlines.
        places: (N,) which of them.
        pixels: (height, width) film, bright means dense.
        spacing_mm: Distance of rows and of columns.
        refiner: The network.
        mirrored: Whether the patient looks to the film's left.

    Raises:
        InvalidOutputError: The refiner answered nonsense.
    """
    said = refiner(crops_of(bodies, places, pixels, spacing_mm, mirrored=mirrored))
    rows = np.flatnonzero(bodies.sacral[places] & (np.abs(said.numbers[:, 2]) > LEAST_TURN))
    if not len(rows):
        return said
    turns = np.clip(said.numbers[rows, 2], -MOST_TURN, MOST_TURN)
    crops = crops_of(bodies, places[rows], pixels, spacing_mm, mirrored=mirrored, turns=turns)
    again = refiner(crops)
    for mine, its in ((said.numbers, turned_numbers(again.numbers, turns)),
                      (said.spreads, again.spreads)):  # fmt: skip
        mine[rows] = its
    return said


def turned_numbers(numbers: Array, turns: Array) -> Array:
    """The refiner's numbers of turned crops, as they are in crops that are not turned.

    Args:
        numbers: (N, NUMBERS) answers; see :mod:`spinezoo_spine.measures.refiner.answers`.
        turns: (N,) by which the crops are turned, in radians.
    """
    cosine, sine = np.cos(turns), np.sin(turns)
    found = numbers.copy()
    for first in (0, 5):
        x, y = numbers[:, first], numbers[:, first + 1]
        found[:, first], found[:, first + 1] = cosine * x - sine * y, sine * x + cosine * y
    found[:, DIRECTIONS] += turns[:, None]
    return found
