"""From outlines' endplates to refined ones: the film itself is looked at around each body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.measures.bodies import SAMPLES, Bodies
from spinezoo_spine.measures.evidence import CELLS, REACH
from spinezoo_spine.measures.posture import pooled
from spinezoo_spine.measures.refiner.answers import (
    LOWER_NUMBERS,
    UPPER_NUMBERS,
    landmarks_of,
    numbers_of,
)
from spinezoo_spine.measures.refiner.looking import CROP_HALF, CROP_PX, crop_of, normalised
from spinezoo_spine.measures.refiner.network import LandmarkRefiner, Refined
from spinezoo_spine.measures.weighing import Weighing, blended, shipped_weighing

Array = NDArray[np.float64]

MIRROR = [1, 0, 3, 2]
"""Corners as seen on the film to corners by name where the patient looks to the left, and back."""

DIRECTIONS = [2, 7]
"""Which of the refiner's numbers are directions, of the upper and of the lower endplate."""


@dataclass(frozen=True, slots=True, eq=False)
class Spurs:
    """What the refiner said of osteophytes at the corners by name.

    Attributes:
        odds: (J, 4) log-odds of a long one.
        lengths_mm: (J, 4) their lengths.
    """

    odds: Array
    lengths_mm: Array


@dataclass(frozen=True, slots=True, eq=False)
class RefinedBodies:
    """Bodies after the refiner looked.

    Attributes:
        bodies: With their endplates from now on.
        used: (J, 2) whether the upper and the lower endplate are refined.
        spurs: What was said of osteophytes.
        alone_mm: (J, 4, 2) corners of the estimate before neighbours helped: contradictions that
            they smooth away are still seen there.
    """

    bodies: Bodies
    used: NDArray[np.bool_]
    spurs: Spurs
    alone_mm: Array


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


def outline_numbers(bodies: Bodies, *, mirrored: bool) -> Array:
    """(S, J, NUMBERS) endplates by the outlines, in the refiner's terms."""
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    corners, middles = bodies.corners_mm, bodies.middles_mm
    if mirrored:
        corners = corners[:, :, MIRROR]
    centre = bodies.frames.centre_mm[:, None]
    turned = axes / sizes[:, None, None]
    return numbers_of((corners - centre) @ turned, (middles - centre) @ turned)


def with_numbers(bodies: Bodies, numbers: Array, own: Array, *, mirrored: bool) -> Bodies:
    """The bodies with other endplates; what was not in view stays so.

    Args:
        bodies: By the outlines.
        numbers: (S, J, NUMBERS) their endplates from now on.
        own: (J, NUMBERS) their endplates by the outlines.
        mirrored: Whether the patient looks to the film's left.
    """
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    # Landmarks are moved, not set: numbers do not hold where along its plate a middle lies.
    turned = np.swapaxes(axes * sizes[:, None, None], 1, 2)
    every = landmarks_of(np.concatenate([numbers, own[None]]))
    corners, middles = ((each[:-1] - each[-1]) @ turned for each in every)
    if mirrored:
        corners = corners[:, :, MIRROR]
    return replace(
        bodies,
        corners_mm=bodies.corners_mm[:1] + corners,
        middles_mm=bodies.middles_mm[:1] + middles,
    )


MOST_SPREAD = (0.2, 0.2, 0.2, 0.3, 0.2)
"""An endplate whose numbers have a larger spread than these is left to the outlines."""

FACING_ODDS = 30.0
"""Log-odds by the difference of the mean logarithms of spreads, seen either way: less than phantoms
tell. Of 399 films of other seeds than the tests' the difference was 0.15 on average, and pointed
the wrong way on five, by 0.03 at most."""

LEAST_TURN = 0.05
"""An endplate of S1 that lies less turned in its crop is looked at once, in radians."""

MOST_TURN = 0.4
"""A second look is turned by this at most, in radians."""

MOST_APART = (0.25, 0.2, 0.35, 0.45, 0.25)
"""So is one that lies further from the outlines' endplate than this."""


SURE_ALONE = 0.5
"""An endplate of S1 that the film's border hides from the outlines is the refiner's where its
spreads are below this share of :data:`MOST_SPREAD`."""


def _shown(bodies: Bodies, levels: Sequence[str]) -> NDArray[np.int64]:
    """(N,) which bodies the refiner is shown: those with an outline, S2 not."""
    wanted = np.array([level != "S2" for level in levels], np.bool_)
    return np.flatnonzero(wanted & np.isfinite(bodies.frames.half_mm))


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


def with_hidden_sacrum(
    bodies: Bodies,
    places: NDArray[np.int64],
    said: Refined,
    size_mm: tuple[float, float],
    *,
    mirrored: bool,
) -> Bodies:
    """The bodies with S1's endplate by the refiner where the film cuts S1 below it.

    Where an endplate and walls end at the film's border outlines tell no corners. The refiner knows
    such bodies and needs the endplate alone; it counts where it is sure and both ends lie on the
    film.

    Args:
        bodies: By the outlines.
        places: (N,) which of them the refiner was shown.
        said: What it said of them.
        size_mm: Width and height of the film.
        mirrored: Whether the patient looks to the film's left.
    """
    hidden = bodies.sacral[places] & ~np.isfinite(bodies.corners_mm[0, places, :2]).all(axis=(1, 2))
    hidden &= (said.spreads[:, UPPER_NUMBERS] < SURE_ALONE * np.array(MOST_SPREAD)).all(axis=1)
    if not hidden.any():
        return bodies
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    corners, middles = bodies.corners_mm.copy(), bodies.middles_mm.copy()
    told, told_middles = landmarks_of(said.numbers)
    for row in np.flatnonzero(hidden).tolist():
        place = places[row]
        centre, to_mm = bodies.frames.centre_mm[place], sizes[place] * axes[place].T
        ends = centre + told[row, :2] @ to_mm
        if (ends > 0.0).all() and (ends < size_mm).all():
            corners[:, place, :2] = ends[::-1] if mirrored else ends
            middles[:, place, 0] = centre + told_middles[row, 0] @ to_mm
    return replace(bodies, corners_mm=corners, middles_mm=middles)


def turned_numbers(numbers: Array, turns: Array) -> Array:
    """The refiner's numbers of turned crops, as they are in crops that are not turned."""
    cosine, sine = np.cos(turns), np.sin(turns)
    found = numbers.copy()
    for first in (0, 5):
        x, y = numbers[:, first], numbers[:, first + 1]
        found[:, first], found[:, first + 1] = cosine * x - sine * y, sine * x + cosine * y
    found[:, DIRECTIONS] += turns[:, None]
    return found


def facing_odds(
    bodies: Bodies,
    levels: Sequence[str],
    pixels: NDArray[Any],
    spacing_mm: tuple[float, float],
    refiner: LandmarkRefiner,
) -> float:
    """Log-odds that the patient looks to the film's right, by how sure the refiner is either way.

    It has learnt bodies that look to the right: a mirrored one makes it less sure.

    Args:
        bodies: By the outlines.
        levels: Names of the J bodies; S2 is not looked at.
        pixels: (height, width) film, bright means dense.
        spacing_mm: Distance of rows and of columns.
        refiner: The network.

    Raises:
        InvalidOutputError: The refiner answered nonsense.
    """
    places = _shown(bodies, levels)
    if not len(places):
        return 0.0
    unsure = []
    for mirrored in (False, True):
        said = refiner(crops_of(bodies, places, pixels, spacing_mm, mirrored=mirrored))
        spreads = np.log(np.maximum(said.spreads, 1e-6))
        spreads[bodies.sacral[places], LOWER_NUMBERS] = np.nan
        unsure.append(float(np.nanmean(spreads)))
    return FACING_ODDS * (unsure[1] - unsure[0])


def refined_bodies(
    bodies: Bodies,
    levels: Sequence[str],
    pixels: NDArray[Any],
    spacing_mm: tuple[float, float],
    refiner: LandmarkRefiner,
    *,
    mirrored: bool,
    weighing: Weighing | None = None,
    seed: int = 0,
) -> RefinedBodies:
    """Endplates as the refiner sees them, where it is sure and does not contradict the outlines.

    Args:
        bodies: By the outlines, model of shape included.
        levels: Names of the J bodies, from above; S2 is not looked at.
        pixels: (height, width) film, bright means dense.
        spacing_mm: Distance of rows and of columns.
        refiner: The network.
        mirrored: Whether the patient looks to the film's left.
        weighing: How outlines and refiner are weighed; None: as shipped.
        seed: Of the samples.

    Raises:
        InvalidOutputError: The refiner answered nonsense.
    """
    used = np.zeros((len(levels), 2), np.bool_)
    places = _shown(bodies, levels)
    spurs = Spurs(np.full((len(levels), 4), -np.inf), np.zeros((len(levels), 4)))
    if not len(places):
        return RefinedBodies(bodies, used, spurs, bodies.corners_mm[0])
    weighing = shipped_weighing() if weighing is None else weighing
    said = looked(bodies, places, pixels, spacing_mm, refiner, mirrored=mirrored)
    size_mm = (pixels.shape[1] * spacing_mm[1], pixels.shape[0] * spacing_mm[0])
    bodies = with_hidden_sacrum(bodies, places, said, size_mm, mirrored=mirrored)
    numbers = outline_numbers(bodies, mirrored=mirrored)
    for which, part in enumerate((UPPER_NUMBERS, LOWER_NUMBERS)):
        sure = (said.spreads[:, part] < MOST_SPREAD).all(axis=1)
        apart = np.abs(said.numbers[:, part] - numbers[0, places, part])
        near = (apart < MOST_APART).all(axis=1)  # NaN: not in view
        used[places, which] = sure & near
    used[bodies.sacral, 1] = False
    mean, spread = blended(numbers, said, places, used, bodies.sacral, weighing)
    drawn_numbers = mean + _chance(*mean.shape, seed) * spread
    drawn = with_numbers(bodies, drawn_numbers, numbers[0], mirrored=mirrored)
    alone_mm = drawn.corners_mm[0]
    if used.any():
        _pool(drawn_numbers, spread, bodies, levels, weighing, mirrored=mirrored, seed=seed)
        drawn = with_numbers(bodies, drawn_numbers, numbers[0], mirrored=mirrored)
    spurs.odds[places] = said.spur_odds
    spurs.lengths_mm[places] = said.spur_lengths * (bodies.frames.half_mm[places] / REACH)[:, None]
    return RefinedBodies(drawn, used, spurs, alone_mm)


def _pool(
    drawn: Array,
    spread: Array,
    bodies: Bodies,
    levels: Sequence[str],
    weighing: Weighing,
    *,
    mirrored: bool,
    seed: int,
) -> None:
    """Replaces the directions of all samples by those that neighbours have helped; in place.

    What neighbours move an endplate by beyond its own spread is a contradiction: its interval grows
    by that.
    """
    across, down = bodies.frames.right.T
    # As the patient looks to the right.
    frames = np.arctan2(-down if mirrored else down, across)
    seen = drawn[0][:, DIRECTIONS] + frames[:, None]
    spreads = spread[:, DIRECTIONS].copy()
    spreads[bodies.sacral, 1] = np.nan  # the sacrum's lower end is no endplate
    directions, root = pooled(seen, spreads, levels, weighing.posture)
    chance = _chance(len(levels), 4, seed + 1)
    errors = (chance[:, :, :2].reshape(len(chance), -1) @ root.T).reshape(-1, *seen.shape)
    beyond = np.maximum(np.abs(directions - seen) - spreads, 0.0)
    found = directions - frames[:, None] + errors + chance[:, :, 2:] * beyond
    drawn[:, :, DIRECTIONS] = np.where(np.isfinite(found), found, drawn[:, :, DIRECTIONS])


@lru_cache(maxsize=64)
def _chance(bodies: int, numbers: int, seed: int) -> Array:
    """(SAMPLES + 1, bodies, numbers) of a normal distribution; the first is the estimate."""
    chance = np.random.default_rng(seed).standard_normal((SAMPLES + 1, bodies, numbers))
    chance[0] = 0.0
    return chance
