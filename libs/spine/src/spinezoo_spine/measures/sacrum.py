"""S1's endplate where S1's outline does not tell it.

The film cuts S1 below its endplate, or networks outline different parts of the sacrum, as they
often do on patients' films. Then the endplate is sought below the last lumbar vertebra. The refiner
is shown crops as if S1 lay at each of several usual places and turns, and looks again where it saw
an endplate. The mean of what it says last counts, surer looks more. Its spread holds how far the
looks differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.measures.bodies import Bodies
from spinezoo_spine.measures.evidence import CELLS, REACH, Frames
from spinezoo_spine.measures.looks import MOST_SPREAD, axes_of, looked
from spinezoo_spine.measures.refiner.answers import REFERENCE, UPPER_NUMBERS, landmarks_of
from spinezoo_spine.measures.refiner.network import LandmarkRefiner, Refined

Array = NDArray[np.float64]

SURE_ALONE = 0.5
"""An endplate of S1 that the film's border hides from the outlines is the refiner's where its
spreads are below this share of :data:`MOST_SPREAD`."""

UNSURE = -3.1
"""S1 is sought where the mean logarithm of its spreads is more. 19 of 375 development phantoms
are such: by its outline the refiner is off by 15 degrees there in the mean."""

MOST_SOUGHT = 0.1
"""An endplate that was sought counts where its direction's spread is less, in radians. Of 115
development phantoms it is on 56 %, off by 2.5 degrees in the mean; where the film below the last
lumbar vertebra is replaced by clouds, it is on 1 %."""

MOST_AWAY = 0.75
"""So far from the usual place on S1's outline its middle may lie, in sizes of S1: where a vertebra
between has no outline, the endplate below the last one is that vertebra's, and lies 1.5 away."""

_TURNS = np.arange(0.0, 0.91, 0.15)
"""How far S1's endplate is turned forward against the body above, radians, as sought first."""

_DISCS = (0.05, 0.2, 0.35)
"""How far it lies below that body's lower endplate, in sizes of that body, as sought first."""

_USUAL_TURN = (0.35, 0.3)
"""Mean and spread of the turn. Phantoms' is 0.29 with a spread of 0.13; patients' is wider."""

_USUAL_DISC = (0.2, 0.2)
"""Mean and spread of the distance."""

_BACK, _BACK_BY_TURN = -0.05, -0.2
"""How far the endplate's middle lies to the front of that body's: a constant and, times the turn,
what phantoms tell."""

_KEPT = 12
"""Likeliest places that are looked at a second and a third time."""

_SURENESS = 6.0
"""Power of the refiner's precision that a look counts with. Fitted on 20 development phantoms:
from 4 to 10 the spread of what all looks say holds nine tenths of errors."""

_SIZE = 0.95
"""Size of S1, in sizes of the body above."""

_MIDDLE = (-0.11, 0.47)
"""Middle of S1's outline from the middle of its endplate, along and square to it, in sizes of the
body above."""

_OUTLINE = (
    (-0.38, -0.48), (-0.48, -0.29), (-0.45, 0.45), (-0.34, 0.55), (0.2, 0.57), (0.62, -0.43),
)  # fmt: skip
"""S1's outline around its middle, upright, the patient looking to the right, in its sizes; as
networks draw that of phantoms."""

_FINE_BITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Sought:
    """An endplate of S1 that was sought, in the crop of S1's outline.

    Attributes:
        numbers: (5,) of its upper endplate.
        spreads: (5,) their spreads; what different looks say is part of them.
    """

    numbers: Array
    spreads: Array


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
    for row in np.flatnonzero(hidden).tolist():
        found = with_sacrum(bodies, places[row], said.numbers[row], size_mm, mirrored=mirrored)
        bodies = bodies if found is None else found
    return bodies


def with_sacrum(
    bodies: Bodies,
    place: int,
    numbers: Array,
    size_mm: tuple[float, float],
    *,
    mirrored: bool,
) -> Bodies | None:
    """The bodies with S1's endplate by the refiner alone; None: an end lies beyond the film.

    Args:
        bodies: By the outlines.
        place: Of S1.
        numbers: (NUMBERS,) what the refiner said of it.
        size_mm: Width and height of the film.
        mirrored: Whether the patient looks to the film's left.
    """
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    told, told_middles = landmarks_of(numbers)
    centre, to_mm = bodies.frames.centre_mm[place], sizes[place] * axes[place].T
    ends = centre + told[:2] @ to_mm
    if not ((ends > 0.0).all() and (ends < size_mm).all()):
        return None
    corners, middles = bodies.corners_mm.copy(), bodies.middles_mm.copy()
    corners[:, place, :2] = ends[::-1] if mirrored else ends
    middles[:, place, 0] = centre + told_middles[0] @ to_mm
    return replace(bodies, corners_mm=corners, middles_mm=middles)


def sought_sacrum(
    bodies: Bodies,
    above: int,
    place: int,
    lower: float,
    pixels: NDArray[Any],
    spacing_mm: tuple[float, float],
    refiner: LandmarkRefiner,
    *,
    mirrored: bool,
) -> Sought | None:
    """S1's endplate by where the refiner sees one below the last lumbar vertebra.

    Args:
        bodies: By the outlines.
        above: Place of the last lumbar vertebra.
        place: Of S1.
        lower: Where the middle of that vertebra's lower endplate lies in its crop, in its sizes.
        pixels: (height, width) film, bright means dense.
        spacing_mm: Distance of rows and of columns.
        refiner: The network.
        mirrored: Whether the patient looks to the film's left.

    Returns:
        The endplate; None: the refiner is not sure of any.

    Raises:
        InvalidOutputError: The refiner answered nonsense.
    """
    turns, discs = (each.ravel() for each in np.meshgrid(_TURNS, _DISCS))
    middles = np.stack([_BACK + _BACK_BY_TURN * turns, lower + discs], axis=1)
    for last in (False, False, True):
        supposed = _supposed(bodies, above, turns, middles, mirrored=mirrored)
        every = np.arange(len(turns))
        said = looked(supposed, every, pixels, spacing_mm, refiner, mirrored=mirrored)
        numbers, spreads = said.numbers[:, UPPER_NUMBERS], said.spreads[:, UPPER_NUMBERS]
        turns, middles = _seen_from_above(numbers, turns, middles)
        unlikely = ((turns - _USUAL_TURN[0]) / _USUAL_TURN[1]) ** 2
        unlikely += ((middles[:, 1] - lower - _USUAL_DISC[0]) / _USUAL_DISC[1]) ** 2
        sure = -_SURENESS * np.log(spreads).mean(axis=1) - 0.5 * unlikely
        if not last:
            likeliest = np.argsort(-sure, kind="stable")[:_KEPT]
            turns, middles = turns[likeliest], middles[likeliest]
    weights = np.exp(sure - sure.max())
    weights /= weights.sum()
    rest = _SIZE * numbers[:, 3:]
    found = np.column_stack([middles, turns, rest])
    mean = weights @ found
    own = spreads * np.array([_SIZE, _SIZE, 1.0, _SIZE, _SIZE])
    spread = np.sqrt(weights @ (own**2 + (found - mean) ** 2))
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    frames, ratio = bodies.frames, sizes[above] / sizes[place]
    apart = (frames.centre_mm[above] - frames.centre_mm[place]) / sizes[place]
    mean[:2] = (apart + ratio * (axes[above] @ mean[:2])) @ axes[place]
    front = axes[above][:, 0] @ axes[place]
    mean[2] += np.arctan2(front[1], front[0])
    mean[3:] *= ratio
    spread *= np.array([ratio, ratio, 1.0, ratio, ratio])
    away = float(np.hypot(*(mean[:2] - REFERENCE[:2])))
    if away > MOST_AWAY or spread[2] > MOST_SOUGHT or (spread > MOST_SPREAD).any():
        return None
    return Sought(mean, spread)


def _supposed(
    bodies: Bodies, above: int, turns: Array, middles: Array, *, mirrored: bool
) -> Bodies:
    """A body for each place that S1's endplate may have below the vertebra above."""
    axes, sizes = axes_of(bodies, mirrored=mirrored)
    cosine, sine = np.cos(turns), np.sin(turns)
    front = np.stack([cosine, sine], axis=1)
    feet = np.stack([-sine, cosine], axis=1)
    centres = middles + _MIDDLE[0] * front + _MIDDLE[1] * feet
    to_film = axes[above].T
    right = front @ to_film
    frames = Frames(
        bodies.frames.centre_mm[above] + sizes[above] * (centres @ to_film),
        -right if mirrored else right,
        np.full(len(turns), REACH * _SIZE * sizes[above]),
    )
    outline = np.array(_OUTLINE) * ((-1.0, 1.0) if mirrored else (1.0, 1.0))
    cells = (outline / REACH + 1.0) * CELLS / 2.0 - 0.5
    patch = np.zeros((CELLS, CELLS))
    fine = np.rint(cells * 2**_FINE_BITS).astype(np.int32)
    cv2.fillPoly(patch, [fine], 1.0, shift=_FINE_BITS)
    sacral = np.ones(len(turns), np.bool_)
    return replace(bodies, frames=frames, fused=np.stack([patch] * len(turns)), sacral=sacral)


def _seen_from_above(numbers: Array, turns: Array, middles: Array) -> tuple[Array, Array]:
    """Turns and middles of endplates seen in supposed bodies, in the crop of the body above."""
    cosine, sine = np.cos(turns), np.sin(turns)
    along, down = _MIDDLE[0] + _SIZE * numbers[:, 0], _MIDDLE[1] + _SIZE * numbers[:, 1]
    moved = np.stack([cosine * along - sine * down, sine * along + cosine * down], axis=1)
    return turns + numbers[:, 2], middles + moved
