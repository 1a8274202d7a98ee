"""Corners and endplates of every body, and how far they may be off.

1. The body is turned upright in its patch by its own endplates, twice.
2. Endplates and walls are fitted to the mean of the members' borders by a robust parabola (Tukey's
   weights): the slope is that of the rim, the third coefficient the hollow. Only the inner part of
   each side counts, so that round corners and osteophytes do not turn it.
3. A corner is where endplate and wall meet. Of S1 only the upper endplate counts.
4. Bootstrap: members are drawn with replacement, and the residuals of each border change sign
   block by block. All samples go through the same fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Segment, Structure, structure_of_level

from spinezoo_spine.measures import shape
from spinezoo_spine.measures.evidence import (
    CELLS,
    LEFT,
    LOWER,
    RIGHT,
    UPPER,
    Frames,
    MemberStrokes,
    first_frames,
    fused_curves,
    fused_patches,
    member_curves,
    member_patches,
    painted,
)

SAMPLES = 40
"""Samples of the bootstrap."""

OUTLINE_WEIGHT = 2.0
"""Weight of a member's outline; that of a region is 1."""

ENDPLATE_SHARE = 0.45
"""An endplate is fitted this far from its middle, in depths of the body."""

WALL_SHARE = 0.42
"""A wall is fitted this far from its middle, in heights of the body."""

SACRAL_WALL = (-0.42, 0.0)
"""Part of S1's walls that is fitted, in heights of its outline from the middle, down positive."""

BLOCKS = 6
"""Blocks of a border whose residuals change sign together."""

LEAST_SCALE = 0.015
"""Least scale of the robust fit, in half patch sides: about a pixel."""

RIDGE = np.zeros((4, 1, 3, 3))
"""Added to the normal equations of a side: few cells make no slope and no hollow."""
RIDGE[:2, :] = np.diag([1e-6, 1e-3, 0.3])
RIDGE[2:, :] = np.diag([1e-6, 1e-2, 0.1])

_AT = np.linspace(-1.0, 1.0, CELLS + 1)[:-1] + 1.0 / CELLS


@dataclass(frozen=True, slots=True)
class Bodies:
    """The measured bodies of a film, J of them, with S samples each; the first is the estimate.

    Attributes:
        local: Corners (S, J, 4, 2), middles (S, J, 2, 2) and borders (4, S, J, CELLS) in the
            patches, before the model of shape.
        sacral: (J,) which are of the sacrum.
        corners_mm: (S, J, 4, 2) upper left, upper right, lower right, lower left as seen on the
            film, mm from its corner. NaN: not in view, or not found.
        middles_mm: (S, J, 2, 2) middle of the upper and of the lower endplate, hollow included.
        curves_mm: (J, 4, CELLS, 2) border by side (upper, lower, left, right); NaN: none.
        waviness_mm: (J,) root mean square of the border's distance from its smooth fit.
        frames: The patches.
        fused: (J, CELLS, CELLS) mean of the evidence in them, 0 to 1.
        member_share: (J,) share of the members whose border was found.
    """

    local: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    sacral: NDArray[np.bool_]
    corners_mm: NDArray[np.float64]
    middles_mm: NDArray[np.float64]
    curves_mm: NDArray[np.float64]
    waviness_mm: NDArray[np.float64]
    frames: Frames
    fused: NDArray[np.float64]
    member_share: NDArray[np.float64]


def shaped(
    bodies: Bodies, *, mirrored: bool, model: dict[str, NDArray[np.float64]] | None = None
) -> Bodies:
    """The bodies with corners and middles as a reader marks them; see :mod:`shape`.

    Args:
        bodies: As they were measured.
        mirrored: Whether the patient looks to the film's left.
        model: Coefficients; None: those shipped.
    """
    local = shape.turned(*bodies.local) if mirrored else bodies.local
    corners, middles = shape.corrected(*local, bodies.sacral, model)
    if mirrored:
        corners, middles, _ = shape.turned(corners, middles, local[2])
    frames = bodies.frames
    return replace(
        bodies,
        corners_mm=np.moveaxis(frames.to_mm(np.moveaxis(corners, 1, 0)), 0, 1),
        middles_mm=np.moveaxis(frames.to_mm(np.moveaxis(middles, 1, 0)), 0, 1),
    )


def measured_bodies(
    vertebrae: Sequence[Segment],
    members: Mapping[str, MemberStrokes],
    ups: NDArray[np.float64],
    spacing_mm: tuple[float, float],
    *,
    samples: int = SAMPLES,
) -> Bodies:
    """Corners and endplates of bodies.

    Args:
        vertebrae: Fused instances, at least one; each of 12 x 12 pixels or more.
        members: What each member says of the column; none: the fused outlines are measured.
        ups: (J, 2) unit vectors towards the head.
        spacing_mm: Distance of rows and of columns; (1, 1) measures in pixels.
        samples: Of the bootstrap, beside the estimate; 0: none.
    """
    height, width = vertebrae[0].mask.height, vertebrae[0].mask.width
    sacral = np.array([_is_sacral(segment) for segment in vertebrae])
    frames, runs = first_frames(vertebrae, ups, spacing_mm)
    paintings = [painted(each) for each in runs]
    for _ in range(2):
        smooth = fused_curves(fused_patches(paintings, frames, spacing_mm))
        frames = _turned(frames, smooth, sacral)
    own = fused_patches(paintings, frames, spacing_mm)
    smooth = fused_curves(own)
    fits, _ = _fit(smooth, _inner(smooth, sacral))
    guess = _evaluated(fits)
    guess = np.where(np.abs(smooth - guess) < 0.05, smooth, guess)
    patches, outlined = member_patches(vertebrae, members, frames, spacing_mm)
    curves = member_curves(patches, guess)
    if not members:
        curves, outlined = smooth[:, :, None], np.ones((len(vertebrae), 1), np.bool_)
    weights = np.where(outlined, OUTLINE_WEIGHT, 1.0)
    size = (height, width)
    return _measured(curves, weights, own, sacral, frames, spacing_mm, size, samples)


def _is_sacral(segment: Segment) -> bool:
    """By its name; without one, by its structure."""
    level = segment.level
    structure = segment.structure if level is None else structure_of_level(level)
    return structure is Structure.SACRAL_VERTEBRA


def _turned(frames: Frames, curves: NDArray[np.float64], sacral: NDArray[np.bool_]) -> Frames:
    """The frames with endplates level and the body in the middle."""
    fits, _ = _fit(curves, _inner(curves, sacral))
    upper, lower, left, right = fits
    # Slopes in the patch: rows count from outside on both endplates, so the lower one's is turned.
    slope_upper, slope_lower = -upper[:, 1], lower[:, 1]
    slope = np.where(sacral, slope_upper, (slope_upper + slope_lower) / 2.0)
    slope = np.where(np.isnan(slope), 0.0, slope)
    turn = np.arctan(np.minimum(np.maximum(slope, -1.0), 1.0))
    cosine, sine = np.cos(turn)[:, None], np.sin(turn)[:, None]
    axis = cosine * frames.right + sine * frames.down
    shift = np.stack([right[:, 0] - left[:, 0], lower[:, 0] - upper[:, 0]], axis=1) / 2.0
    shift[sacral, 1] = 0.0
    shift = np.minimum(np.maximum(np.where(np.isnan(shift), 0.0, shift), -0.3), 0.3)
    centre = frames.to_mm(shift[:, None, :])[:, 0]
    return Frames(centre, axis, frames.half_mm)


def _inner(curves: NDArray[np.float64], sacral: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(4, J, CELLS) weight 1 on the part of each side that is fitted."""
    extents = median_of(curves[:, :, _CORE], 0.5)
    upper, lower, left, right = extents
    weights = np.zeros(curves.shape)
    across, depth = (right - left) / 2.0, right + left
    off = np.abs(_AT[None, :] - across[:, None])
    inner = (off < ENDPLATE_SHARE * depth[:, None]).astype(np.float64)
    weights[UPPER] = inner
    weights[LOWER] = inner
    along, tall = (lower - upper) / 2.0, lower + upper
    place = (_AT[None, :] - along[:, None]) / np.maximum(tall, 1e-6)[:, None]
    first = np.where(sacral, SACRAL_WALL[0], -WALL_SHARE)[:, None]
    last = np.where(sacral, SACRAL_WALL[1], WALL_SHARE)[:, None]
    wall = ((place > first) & (place < last)).astype(np.float64)
    weights[LEFT] = wall
    weights[RIGHT] = wall
    return weights * np.isfinite(curves)


def median_of(values: NDArray[np.float64], otherwise: float) -> NDArray[np.float64]:
    """Median along the last axis without NaN; where all are NaN, the other value.

    Args:
        values: (..., N).
        otherwise: The other value.

    Returns:
        (...,) medians.
    """
    count = np.isfinite(values).sum(axis=-1)
    low, high = _middles_of(count, values.shape[-1])
    ordered = np.sort(values, axis=-1).reshape(-1)  # NaN last
    return np.where(count > 0, (ordered[low] + ordered[high]) / 2.0, otherwise)


def _middles_of(
    count: NDArray[np.int64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the two middle ones of the first ``count`` of values in rows of a length."""
    start = np.arange(count.size).reshape(count.shape) * length
    last = np.maximum(count - 1, 0)
    return start + last // 2, start + np.minimum(count // 2, last)


_DESIGN = np.stack([np.ones_like(_AT), _AT, _AT * _AT], axis=-1)
"""(CELLS, 3) of a parabola along a side."""

_CORE = np.flatnonzero(np.abs(_AT) < 0.3)
_INNER = np.flatnonzero(np.abs(_AT) < 0.4)
"""Cells of the middle of a side."""

_PRODUCTS = (_DESIGN[:, :, None] * _DESIGN[:, None, :]).reshape(CELLS, 9)


def _normal(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, J, 3, 3) normal equations of weighted sides (4, J, CELLS)."""
    return np.asarray((weights @ _PRODUCTS).reshape(*weights.shape[:-1], 3, 3) + RIDGE)


def _fit(
    curves: NDArray[np.float64], inner: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(4, J, 3) robust parabolas, and the (4, J, CELLS) weights they ended with.

    A side of fewer than six cells is NaN.
    """
    values = np.where(np.isfinite(curves), curves, 0.0)
    weights, inside = inner, inner > 0
    count = inside.sum(axis=-1)
    low, high = _middles_of(count, CELLS)
    for _ in range(4):
        wanted = (weights * values) @ _DESIGN
        solved = np.linalg.solve(_normal(weights), wanted[..., None])[..., 0]
        fits = np.asarray(solved, dtype=np.float64)
        off = np.abs(values - fits @ _DESIGN.T)
        ordered = np.where(inside, off, np.inf)
        ordered.sort(axis=-1)
        ordered = ordered.reshape(-1)
        scale = (ordered[low] + ordered[high]) * (1.4826 / 2.0)  # infinite: too few cells
        ratio = off / (4.685 * np.maximum(scale, LEAST_SCALE))[..., None]
        rest = np.maximum(1.0 - ratio * ratio, 0.0)
        weights = inner * rest * rest
    fits[count < 6] = np.nan
    return fits, weights


def _evaluated(fits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(fits @ _DESIGN.T)


@lru_cache(maxsize=64)
def _chance(members: int, samples: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How the bootstrap draws, the same way every time; the first sample is the estimate.

    Returns:
        (samples + 1, members) how often each member counts, and (samples + 1, CELLS) what the
        residuals of a border are multiplied by when they are added to it.
    """
    rng = np.random.default_rng(0)
    draws = rng.multinomial(members, np.full(members, 1.0 / members), samples).astype(np.float64)
    signs = rng.choice([-1.0, 1.0], (samples + 1, BLOCKS))
    signs[0] = 1.0
    return np.vstack([np.ones(members), draws]), np.repeat(signs, CELLS // BLOCKS, axis=1) - 1.0


def _measured(
    curves: NDArray[np.float64],
    weights: NDArray[np.float64],
    own: NDArray[np.uint8],
    sacral: NDArray[np.bool_],
    frames: Frames,
    spacing_mm: tuple[float, float],
    size: tuple[int, int],
    samples: int,
) -> Bodies:
    """Fits the mean border and the samples of the bootstrap."""
    found = np.isfinite(curves)
    values = np.where(found, curves, 0.0)
    share = weights[None, :, :, None] * found
    # A member far from the others at a place is left out there.
    middle = median_of(np.moveaxis(np.where(found, curves, np.nan), 2, -1), 0.0)
    share = share * (np.abs(values - middle[:, :, None]) < 0.06)
    counted = share * values
    total = share.sum(axis=2)
    mean = np.where(total > 0, counted.sum(axis=2) / np.maximum(total, 1e-9), np.nan)
    inner = _inner(mean, sacral)
    fits, kept = _fit(mean, inner)
    draws, noise = _chance(curves.shape[2], samples)
    mass, sums = draws @ share, draws @ counted
    smooth = np.where(np.isnan(mean), 0.0, mean)
    # Where no member that was drawn says anything, the mean border stands.
    drawn = (sums + 1e-12 * smooth[:, :, None]) / (mass + 1e-12)
    fitted = np.where(np.isnan(fits), 0.0, fits)
    residual = np.where(kept > 0, smooth - _evaluated(fitted), 0.0)
    drawn += noise * residual[:, :, None]
    # The parabola of a border is a weighted sum of its cells.
    sums_of = (kept[..., None] * _DESIGN) @ np.linalg.inv(_normal(kept))  # (4, J, CELLS, 3)
    sampled = drawn @ sums_of
    sampled = np.ascontiguousarray(np.moveaxis(sampled, 2, 0))
    sampled[:, np.isnan(fits[..., 0])] = np.nan
    sampled[:, _cut(frames, fits, spacing_mm, size)] = np.nan
    corners = _corners(sampled)
    middles = _middles(sampled)
    corners_mm = np.moveaxis(frames.to_mm(np.moveaxis(corners, 1, 0)), 0, 1)
    middles_mm = np.moveaxis(frames.to_mm(np.moveaxis(middles, 1, 0)), 0, 1)
    rest = (kept * residual * residual).sum(axis=2).sum(axis=0)
    spread = np.sqrt(rest / np.maximum(kept.sum(axis=2).sum(axis=0), 1e-9))
    return Bodies(
        (corners, middles, np.swapaxes(drawn, 1, 2)),
        sacral,
        corners_mm,
        middles_mm,
        frames.to_mm(_border(mean, _AT)),
        spread * frames.half_mm,
        frames,
        own / 255.0,
        found.any(axis=3).any(axis=0).mean(axis=1),
    )


NEAR_PX = 2.5
"""What is nearer to the film's border than this lies at it."""

MOST_NEAR, MOST_BEYOND, MOST_ALONG = 0.12, 0.6, 0.4
"""Shares of the middle of a side: of an endplate at or beyond the film's border, of a wall at or
beyond it, and of a wall at it."""

_WALL_SIDES = [LEFT, RIGHT]


def _cut(
    frames: Frames,
    fits: NDArray[np.float64],
    spacing_mm: tuple[float, float],
    size: tuple[int, int],
) -> NDArray[np.bool_]:
    """(4, J) sides that lie along the film's border, which is no border of the body."""
    row_mm, column_mm = spacing_mm
    height, width = size
    reach = 1.6 * frames.half_mm[:, None]
    first = (frames.centre_mm - reach).min(axis=0).tolist()
    last = (frames.centre_mm + reach).max(axis=0).tolist()
    far = NEAR_PX * max(spacing_mm)
    if min(first) > far and last[0] < width * column_mm - far and last[1] < height * row_mm - far:
        return np.zeros(fits.shape[:2], np.bool_)
    places = frames.to_mm(_border(fits @ _DESIGN[_INNER].T, _AT[_INNER]))
    x, y = places[..., 0] / column_mm, places[..., 1] / row_mm
    inward = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
    share = (inward < NEAR_PX).mean(axis=2).T
    # A wall may leave the film, and is seen up to there: it is cut where it lies along the border.
    along = (np.abs(inward) < NEAR_PX).mean(axis=2).T
    cut = share > MOST_NEAR
    cut[_WALL_SIDES] = (share[_WALL_SIDES] > MOST_BEYOND) | (along[_WALL_SIDES] > MOST_ALONG)
    return np.asarray(cut)


def _border(curves: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """(J, 4, N, 2) places in the patch of curves (4, J, N) at places (N,) along each side."""
    places = np.empty((curves.shape[1], 4, len(at), 2))
    for side, (across, out) in enumerate(((1, -1.0), (1, 1.0), (0, -1.0), (0, 1.0))):
        places[:, side, :, across] = out * curves[side]
        places[:, side, :, 1 - across] = at
    return places


_PLATES, _WALLS = [UPPER, UPPER, LOWER, LOWER], [LEFT, RIGHT, RIGHT, LEFT]
"""The sides that meet at each corner, clockwise from the upper left."""

_DOWN = np.array([-1.0, -1.0, 1.0, 1.0])[:, None]
_ASIDE = np.array([-1.0, 1.0, 1.0, -1.0])[:, None]


def _corners(fits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, J, 4, 2) where endplates and walls meet, clockwise from the upper left.

    Args:
        fits: (B, 4, J, 3) parabolas.
    """
    flat, steep = fits[:, _PLATES], fits[:, _WALLS]  # (B, 4, J, 3)
    x, y = _ASIDE * steep[..., 0], _DOWN * flat[..., 0]
    for _ in range(4):
        y = _DOWN * (flat[..., 0] + (flat[..., 1] + flat[..., 2] * x) * x)
        x = _ASIDE * (steep[..., 0] + (steep[..., 1] + steep[..., 2] * y) * y)
    return np.stack([x, y], axis=-1).swapaxes(1, 2)


def _middles(fits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, J, 2, 2) middles of the endplates."""
    middles = np.empty((fits.shape[0], fits.shape[2], 2, 2))
    x = (fits[:, RIGHT, :, 0] - fits[:, LEFT, :, 0]) / 2.0
    middles[..., 0] = x[..., None]
    for which, (plate, down) in enumerate(((UPPER, -1.0), (LOWER, 1.0))):
        flat = fits[:, plate]
        middles[..., which, 1] = down * (flat[..., 0] + (flat[..., 1] + flat[..., 2] * x) * x)
    return middles
