"""From outlines' endplates to refined ones: the film itself is looked at around each body."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.measures.bodies import Bodies
from spinezoo_spine.measures.evidence import CELLS, REACH
from spinezoo_spine.measures.refiner.answers import (
    LOWER_NUMBERS,
    UPPER_NUMBERS,
    landmarks_of,
    numbers_of,
)
from spinezoo_spine.measures.refiner.looking import CROP_HALF, CROP_PX, crop_of, normalised
from spinezoo_spine.measures.refiner.network import LandmarkRefiner, Refined

Array = NDArray[np.float64]

MIRROR = [1, 0, 3, 2]
"""Corners as seen on the film to corners by name where the patient looks to the left, and back."""

LAPLACE = 2.0**0.5
"""Standard deviation of a Laplace distribution by its scale."""


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
) -> NDArray[np.float32]:
    """(N, 2, CROP_PX, CROP_PX) what the refiner is shown of these bodies."""
    row_mm, column_mm = spacing_mm
    per_px = np.array([1.0 / column_mm, 1.0 / row_mm])
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    crops = np.empty((len(places), 2, CROP_PX, CROP_PX), np.float32)
    # A patch of the outline reaches REACH sizes, a crop CROP_HALF.
    step = CROP_HALF / REACH * CELLS / CROP_PX
    across = -step if mirrored else step
    middle = (CELLS - 1) / 2.0
    half = (CROP_PX - 1) / 2.0
    matrix = np.array([[across, 0.0, middle - across * half], [0.0, step, middle - step * half]])
    for row, place in enumerate(places):
        turned = axes[place] * per_px[:, None] * (sizes[place] * CROP_HALF)
        crop = crop_of(pixels, bodies.frames.centre_mm[place] * per_px, turned)
        crops[row, 0] = normalised(crop)
        crops[row, 1] = cv2.warpAffine(
            bodies.fused[place].astype(np.float32),
            matrix,
            (CROP_PX, CROP_PX),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
    crops[:, 1] -= 0.5
    return crops


def outline_numbers(bodies: Bodies, *, mirrored: bool) -> Array:
    """(S, J, NUMBERS) endplates by the outlines, in the refiner's terms."""
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    corners, middles = bodies.corners_mm, bodies.middles_mm
    if mirrored:
        corners = corners[:, :, MIRROR]
    centre = bodies.frames.centre_mm[:, None]
    local = [
        np.einsum("sjkc,jcd->sjkd", each - centre, axes) / sizes[:, None, None]
        for each in (corners, middles)
    ]
    return numbers_of(*local)


def with_numbers(bodies: Bodies, numbers: Array, *, mirrored: bool) -> Bodies:
    """The bodies with endplates (S, J, NUMBERS); what was not in view stays so."""
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    centre = bodies.frames.centre_mm[:, None]
    corners, middles = (
        centre + np.einsum("sjkd,jcd->sjkc", each * sizes[:, None, None], axes)
        for each in landmarks_of(numbers)
    )
    if mirrored:
        corners = corners[:, :, MIRROR]
    return replace(
        bodies,
        corners_mm=np.where(np.isfinite(bodies.corners_mm), corners, np.nan),
        middles_mm=np.where(np.isfinite(bodies.middles_mm), middles, np.nan),
    )


MOST_SPREAD = (0.2, 0.2, 0.2, 0.3, 0.2)
"""An endplate whose numbers have a larger spread than these is left to the outlines."""

MOST_APART = (0.25, 0.2, 0.35, 0.45, 0.25)
"""So is one that lies further from the outlines' endplate than this."""

OUTLINE_SPREAD = (0.02, 0.02, 0.03, 0.04, 0.02) * 2
"""How far the outlines' endplates are off beside what the bootstrap tells, on phantoms: standard
deviations."""


def refined_bodies(
    bodies: Bodies,
    wanted: NDArray[np.bool_],
    pixels: NDArray[Any],
    spacing_mm: tuple[float, float],
    refiner: LandmarkRefiner,
    *,
    mirrored: bool,
    seed: int = 0,
) -> tuple[Bodies, NDArray[np.bool_], Refined | None]:
    """Endplates as the refiner sees them, where it is sure and does not contradict the outlines.

    Args:
        bodies: By the outlines, model of shape included.
        wanted: (J,) which are looked at.
        pixels: (height, width) film, bright means dense.
        spacing_mm: Distance of rows and of columns.
        refiner: The network.
        mirrored: Whether the patient looks to the film's left.
        seed: Of the samples.

    Returns:
        The bodies, (J, 2) whether the upper and the lower endplate are refined, and what the
        refiner said of the wanted ones.

    Raises:
        InvalidOutputError: The refiner answered nonsense.
    """
    used = np.zeros((len(wanted), 2), np.bool_)
    places = np.flatnonzero(wanted & np.isfinite(bodies.frames.half_mm))
    if not len(places):
        return bodies, used, None
    said = refiner(crops_of(bodies, places, pixels, spacing_mm, mirrored=mirrored))
    numbers = outline_numbers(bodies, mirrored=mirrored)
    rng = np.random.default_rng(seed)
    chance = rng.standard_normal(numbers.shape)
    chance[0] = 0.0  # the first is the estimate
    outlines = numbers + chance * OUTLINE_SPREAD
    own = np.zeros(numbers.shape)
    own[:, places] = said.numbers + chance[:, places] * (LAPLACE * said.spreads)
    for which, part in enumerate((UPPER_NUMBERS, LOWER_NUMBERS)):
        sure = (said.spreads[:, part] < MOST_SPREAD).all(axis=1)
        apart = np.abs(said.numbers[:, part] - numbers[0, places, part])
        near = ~(apart > MOST_APART).any(axis=1)  # NaN: not in view, and stays so
        used[places, which] = sure & near
    used[bodies.sacral, 1] = False
    chosen = np.repeat(used, 5, axis=1)
    return with_numbers(bodies, np.where(chosen, own, outlines), mirrored=mirrored), used, said
