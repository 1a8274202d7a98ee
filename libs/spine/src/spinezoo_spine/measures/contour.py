"""The border of a body as one closed curve at sub-pixel precision."""

from __future__ import annotations

from itertools import starmap

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Point

from spinezoo_spine.measures.evidence import LEFT, LOWER, RIGHT, UPPER

SMOOTH = (0.25, 0.5, 0.25)
"""Weights of a point and its neighbours: pixels leave steps finer than bone has."""

EVERY = 2
"""Every second cell of a border gives a point."""


_AHEAD = ((UPPER, 1), (RIGHT, 1), (LOWER, -1), (LEFT, -1))
_BACKWARD = ((UPPER, -1), (LEFT, 1), (LOWER, 1), (RIGHT, -1))
"""Sides in the order of a closed border, and the way along each: from the upper left corner on,
and from the upper right one."""


def contours_of(
    curves_mm: NDArray[np.float64], spacing_mm: tuple[float, float], *, mirrored: bool
) -> list[tuple[Point, ...]]:
    """The closed border of each body, from the superior posterior corner forward.

    Where two sides meet, only the part of each that lies inside both others is kept.

    Args:
        curves_mm: (J, 4, CELLS, 2) upper, lower, left and right border; NaN: none.
        spacing_mm: Distance of rows and of columns.
        mirrored: Whether the patient looks to the film's left.
    """
    kept = _parts(curves_mm)
    order = _BACKWARD if mirrored else _AHEAD
    points = np.concatenate([curves_mm[:, side, ::way] for side, way in order], axis=1)
    shown = np.concatenate([kept[:, side, ::way] for side, way in order], axis=1)
    per_px = spacing_mm[::-1]
    found: list[tuple[Point, ...]] = []
    for body, wanted in zip(points, shown, strict=True):
        border = body[wanted]
        if len(border) < 8:
            found.append(())
            continue
        ring = np.concatenate([border[-1:], border, border[:1]])
        before, at, after = (ring[k : len(border) + k : EVERY] for k in range(3))
        smooth = SMOOTH[0] * before + SMOOTH[1] * at + SMOOTH[2] * after
        found.append(tuple(starmap(Point, (np.round(smooth, 4) / per_px).tolist())))
    return found


_FIRST, _LAST = [LEFT, LEFT, UPPER, UPPER], [RIGHT, RIGHT, LOWER, LOWER]
"""The sides that each side meets at its beginning and its end."""


def _parts(curves: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(J, 4, CELLS) which points of a side lie between the two sides that it meets."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(curves).all(axis=-1))
    count = known.sum(axis=-1)
    place = np.arange(known.size // known.shape[-1]).reshape(count.shape) * known.shape[-1]
    flat = curves.reshape(-1, 2)
    last = known.shape[-1] - 1 - known[..., ::-1].argmax(axis=-1)
    along = flat[place + last] - flat[place + known.argmax(axis=-1)]
    along = along / np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-9)[..., None]
    half = (known.cumsum(axis=-1) == (count // 2 + 1)[..., None]).argmax(axis=-1)
    middles = flat[place + half]  # of the points that are known
    low = (middles[:, _FIRST] * along).sum(axis=-1)
    high = (middles[:, _LAST] * along).sum(axis=-1)
    margin = 0.02 * (high - low)
    at = (curves @ along[..., None])[..., 0]
    inside = (at > (low + margin)[..., None]) & (at < (high - margin)[..., None])
    enough = (count >= 2) & (count[:, _FIRST] >= 2) & (count[:, _LAST] >= 2)
    return np.asarray(known & (inside | ~enough[..., None]))
