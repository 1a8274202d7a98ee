"""From outlines' endplates to refined ones: the film itself is looked at around each body."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.measures.bodies import SAMPLES, Bodies
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


@dataclass(frozen=True, slots=True, eq=False)
class Spurs:
    """What the refiner said of osteophytes at the corners by name.

    Attributes:
        odds: (J, 4) log-odds of a long one.
        lengths_mm: (J, 4) their lengths.
    """

    odds: Array
    lengths_mm: Array


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
    centres = bodies.frames.centre_mm * per_px
    turned = axes * per_px[:, None] * (sizes * CROP_HALF)[:, None, None]
    outlines = bodies.fused.astype(np.float32)
    for row, place in enumerate(places.tolist()):
        crops[row, 0] = normalised(crop_of(pixels, centres[place], turned[place]))
        cv2.warpAffine(
            outlines[place],
            matrix,
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

MOST_APART = (0.25, 0.2, 0.35, 0.45, 0.25)
"""So is one that lies further from the outlines' endplate than this."""

DOUBT = 2.0
"""The refiner's variance counts this often: it was trained on phantoms alone, real films differ."""

FILE = Path(__file__).with_name("blend.json")
"""See :class:`Blend`; ``python -m spinezoo_evaluator.measures fit`` writes it."""


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """How far both sources of an endplate are off on phantoms.

    Attributes:
        outline: (NUMBERS,) standard deviation of the outlines' numbers.
        refiner: (NUMBERS,) what the refiner's own spreads are multiplied by.
    """

    outline: Array
    refiner: Array

    @classmethod
    def of(cls, read: Mapping[str, Sequence[float]]) -> Blend:
        """From plain values."""
        return cls(np.array(read["outline"]), np.array(read["refiner"]))


@cache
def blends() -> dict[str, Blend]:
    """Of a ``body`` and of the ``sacrum``, as they are shipped."""
    read = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: Blend.of(each) for name, each in read.items()}


def refined_bodies(
    bodies: Bodies,
    wanted: NDArray[np.bool_],
    pixels: NDArray[Any],
    spacing_mm: tuple[float, float],
    refiner: LandmarkRefiner,
    *,
    mirrored: bool,
    blend: Mapping[str, Blend] | None = None,
    seed: int = 0,
) -> tuple[Bodies, NDArray[np.bool_], Spurs]:
    """Endplates as the refiner sees them, where it is sure and does not contradict the outlines.

    Args:
        bodies: By the outlines, model of shape included.
        wanted: (J,) which are looked at.
        pixels: (height, width) film, bright means dense.
        spacing_mm: Distance of rows and of columns.
        refiner: The network.
        mirrored: Whether the patient looks to the film's left.
        blend: How outlines and refiner are weighed; None: as shipped.
        seed: Of the samples.

    Returns:
        The bodies, (J, 2) whether the upper and the lower endplate are refined, and what the
        refiner said of osteophytes.

    Raises:
        InvalidOutputError: The refiner answered nonsense.
    """
    used = np.zeros((len(wanted), 2), np.bool_)
    places = np.flatnonzero(wanted & np.isfinite(bodies.frames.half_mm))
    spurs = Spurs(np.full((len(wanted), 4), -np.inf), np.zeros((len(wanted), 4)))
    if not len(places):
        return bodies, used, spurs
    said = refiner(crops_of(bodies, places, pixels, spacing_mm, mirrored=mirrored))
    numbers = outline_numbers(bodies, mirrored=mirrored)
    for which, part in enumerate((UPPER_NUMBERS, LOWER_NUMBERS)):
        sure = (said.spreads[:, part] < MOST_SPREAD).all(axis=1)
        apart = np.abs(said.numbers[:, part] - numbers[0, places, part])
        near = (apart < MOST_APART).all(axis=1)  # NaN: not in view
        used[places, which] = sure & near
    used[bodies.sacral, 1] = False
    mean, spread = blended(
        numbers, said, places, used, bodies.sacral, blends() if blend is None else blend
    )
    drawn_numbers = mean + _chance(*mean.shape, seed) * spread
    drawn = with_numbers(bodies, drawn_numbers, numbers[0], mirrored=mirrored)
    spurs.odds[places] = said.spur_odds
    spurs.lengths_mm[places] = said.spur_lengths * (bodies.frames.half_mm[places] / REACH)[:, None]
    return drawn, used, spurs


@lru_cache(maxsize=64)
def _chance(bodies: int, numbers: int, seed: int) -> Array:
    """(SAMPLES + 1, bodies, numbers) of a normal distribution; the first is the estimate."""
    chance = np.random.default_rng(seed).standard_normal((SAMPLES + 1, bodies, numbers))
    chance[0] = 0.0
    return chance


def blended(
    numbers: Array,
    said: Refined,
    places: NDArray[np.int64],
    used: NDArray[np.bool_],
    sacral: NDArray[np.bool_],
    blend: Mapping[str, Blend],
) -> tuple[Array, Array]:
    """The mean of outlines' and refiner's numbers, each by how sure it is, and its spread.

    Args:
        numbers: (S, J, NUMBERS) by the outlines; the first is the estimate.
        said: Of N bodies.
        places: (N,) which of the J they are.
        used: (J, 2) whether the upper and the lower endplate may be refined.
        sacral: (J,) which are of the sacrum.
        blend: How both are weighed.

    Returns:
        (J, NUMBERS) mean and (J, NUMBERS) standard deviation. Where the refiner is not used the
        mean is the outlines', and what both differ by is part of its spread.
    """
    body, sacrum = blend["body"], blend["sacrum"]
    variance = np.where(sacral[:, None], sacrum.outline, body.outline) ** 2
    variance = variance + numbers[1:].var(axis=0)
    factor = np.where(sacral[places, None], sacrum.refiner, body.refiner)
    mean = numbers[0].copy()
    own = DOUBT * (LAPLACE * factor * said.spreads) ** 2
    share = variance[places] / (variance[places] + own)
    heard = np.repeat(used[places], 5, axis=1)
    apart = said.numbers - mean[places]
    mean[places] += np.where(heard, share * apart, 0.0)
    variance[places] = np.where(
        heard, variance[places] * (1.0 - share), variance[places] + np.nan_to_num(apart) ** 2
    )
    return mean, np.sqrt(variance)
