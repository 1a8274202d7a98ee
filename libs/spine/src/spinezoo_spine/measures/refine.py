"""From outlines' endplates to refined ones: the film itself is looked at around each body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.measures.bodies import SAMPLES, Bodies
from spinezoo_spine.measures.evidence import MIRROR, REACH
from spinezoo_spine.measures.formulas import contradictory
from spinezoo_spine.measures.looks import DIRECTIONS, MOST_SPREAD, axes_of, crops_of, looked
from spinezoo_spine.measures.posture import pooled
from spinezoo_spine.measures.refiner.answers import (
    LOWER_NUMBERS,
    UPPER_NUMBERS,
    landmarks_of,
    numbers_of,
)
from spinezoo_spine.measures.refiner.network import LandmarkRefiner, Refined
from spinezoo_spine.measures.sacrum import UNSURE, sought_sacrum, with_hidden_sacrum, with_sacrum
from spinezoo_spine.measures.weighing import Weighing, blended, shipped_weighing

Array = NDArray[np.float64]

SEED = 0
"""Of the samples: the same film is measured the same every time."""


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
        sacrum_sought: Whether S1's endplate was sought below the vertebra above, and found.
    """

    bodies: Bodies
    used: NDArray[np.bool_]
    spurs: Spurs
    alone_mm: Array
    sacrum_sought: bool = False


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


FACING_ODDS = 30.0
"""Log-odds by the difference of the mean logarithms of spreads, seen either way: less than phantoms
tell. Of 399 films of other seeds than the tests' the difference was 0.15 on average, and pointed
the wrong way on five, by 0.03 at most."""

MOST_APART = (0.25, 0.2, 0.35, 0.45, 0.25)
"""An endplate whose numbers lie further than these from the outlines' is left to the outlines."""


def _shown(bodies: Bodies, levels: Sequence[str]) -> NDArray[np.int64]:
    """(N,) which bodies the refiner is shown: those with an outline, S2 not."""
    wanted = np.array([level != "S2" for level in levels], np.bool_)
    return np.flatnonzero(wanted & np.isfinite(bodies.frames.half_mm))


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
    sacrum_doubted: bool = False,
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
        sacrum_doubted: Whether S1's outline is not to be trusted: its endplate is sought then, as
            it is where the refiner is unsure of it or contradicts the body above
            (:mod:`spinezoo_spine.measures.sacrum`).

    Raises:
        InvalidOutputError: The refiner answered nonsense.
    """
    places = _shown(bodies, levels)
    spurs = Spurs(np.full((len(levels), 4), -np.inf), np.zeros((len(levels), 4)))
    if not len(places):
        unused = np.zeros((len(levels), 2), np.bool_)
        return RefinedBodies(bodies, unused, spurs, bodies.corners_mm[0])
    weighing = shipped_weighing() if weighing is None else weighing
    said = looked(bodies, places, pixels, spacing_mm, refiner, mirrored=mirrored)
    size_mm = (pixels.shape[1] * spacing_mm[1], pixels.shape[0] * spacing_mm[0])
    bodies = with_hidden_sacrum(bodies, places, said, size_mm, mirrored=mirrored)
    weighed = _weighed(bodies, places, said, weighing, mirrored=mirrored)
    row, moved = _sacrum(levels, places), None
    if row is not None and (
        sacrum_doubted
        or np.log(said.spreads[row, UPPER_NUMBERS]).mean() > UNSURE
        or _contradicts(weighed.alone_mm[places[row - 1 : row + 1]], mirrored=mirrored)
    ):
        place, lower = places[row], said.numbers[row - 1, LOWER_NUMBERS][1]
        sought = sought_sacrum(
            bodies, place - 1, place, lower, pixels, spacing_mm, refiner, mirrored=mirrored
        )
        if sought is not None:
            said.numbers[row, UPPER_NUMBERS] = sought.numbers
            moved = with_sacrum(bodies, place, said.numbers[row], size_mm, mirrored=mirrored)
        if sought is not None and moved is not None:
            bodies = moved
            weighed = _weighed(bodies, places, said, weighing, mirrored=mirrored)
            weighed.used[place, 0] = True
            weighed.spread[place, UPPER_NUMBERS] = sought.spreads
    mean, spread, own = weighed.mean, weighed.spread, weighed.own
    drawn_numbers = mean + _chance(*mean.shape, SEED) * spread
    if weighed.used.any():
        _pool(drawn_numbers, spread, bodies, levels, weighing, mirrored=mirrored)
    drawn = with_numbers(bodies, drawn_numbers, own, mirrored=mirrored)
    spurs.odds[places] = said.spur_odds
    spurs.lengths_mm[places] = said.spur_lengths * (bodies.frames.half_mm[places] / REACH)[:, None]
    return RefinedBodies(
        drawn, weighed.used, spurs, weighed.alone_mm, sacrum_sought=moved is not None
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Weighed:
    """Outlines and refiner together, before neighbours help.

    Attributes:
        own: (J, NUMBERS) by the outlines.
        mean: (J, NUMBERS) by both.
        spread: (J, NUMBERS) its standard deviation.
        used: (J, 2) whether the refiner is heard of the upper and of the lower endplate.
        alone_mm: (J, 4, 2) corners.
    """

    own: Array
    mean: Array
    spread: Array
    used: NDArray[np.bool_]
    alone_mm: Array


def _weighed(
    bodies: Bodies,
    places: NDArray[np.int64],
    said: Refined,
    weighing: Weighing,
    *,
    mirrored: bool,
) -> _Weighed:
    numbers = outline_numbers(bodies, mirrored=mirrored)
    used = np.zeros((len(bodies.sacral), 2), np.bool_)
    for which, part in enumerate((UPPER_NUMBERS, LOWER_NUMBERS)):
        sure = (said.spreads[:, part] < MOST_SPREAD).all(axis=1)
        apart = np.abs(said.numbers[:, part] - numbers[0, places, part])
        near = (apart < MOST_APART).all(axis=1)  # NaN: not in view
        used[places, which] = sure & near
    used[bodies.sacral, 1] = False
    mean, spread = blended(numbers, said, places, used, bodies.sacral, weighing)
    alone = with_numbers(bodies, mean[None], numbers[0], mirrored=mirrored)
    return _Weighed(numbers[0], mean, spread, used, alone.corners_mm[0])


def _sacrum(levels: Sequence[str], places: NDArray[np.int64]) -> int | None:
    """Which of the bodies that the refiner was shown is S1; None: none below a lumbar vertebra."""
    for row in range(1, len(places)):
        above, place = int(places[row - 1]), int(places[row])
        if levels[place] == "S1" and above == place - 1 and levels[above][0] == "L":
            return row
    return None


def _contradicts(corners_mm: Array, *, mirrored: bool) -> bool:
    """Whether the facing endplates of two bodies (2, 4, 2) cannot both be right."""
    if mirrored:
        corners_mm = corners_mm[:, MIRROR] * (-1.0, 1.0)
    return bool(contradictory(corners_mm[:1], corners_mm[1:])[0])


def _pool(
    drawn: Array,
    spread: Array,
    bodies: Bodies,
    levels: Sequence[str],
    weighing: Weighing,
    *,
    mirrored: bool,
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
    chance = _chance(len(levels), 4, SEED + 1)
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
