"""From where endplates and walls meet to the corners that a reader marks: a linear model of shape.

A film shows the shadow of a body: rims of both sides, rounded edges, spurs, a hollow seen edge-on.
Its corners lie a little off the corners of the mid-sagittal section, and how far depends on the
shadow's shape: how its sides bend, how it is wedged. A ridge regression says that from the border,
sampled along each side: fitted on phantoms, whose mid-sagittal corners are exact. It moves a corner
by some hundredths of the depth. How endplates lie to walls is not looked at: patients' upper
endplates are turned forward against the walls by up to 5 degrees more than phantoms', and what
walls tell of endplates there does not hold for them. The coefficients stand in ``shape.npz`` beside
this module; ``python -m spinezoo_evaluator.measures fit`` writes them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.measures.evidence import CELLS, LEFT, LOWER, MIRROR, RIGHT, UPPER

Array = NDArray[np.float64]

FILE = Path(__file__).with_name("shape.npz")
"""``body`` and ``sacrum``: (features, 12) coefficients."""

SAMPLES_A_SIDE = 13
"""Places along a side where the border is compared with the straight line between its corners."""

MOST_BEND = 0.15
"""Bends are clipped to this share of the depth: beyond it a border is wrong, not bent."""

_PLACES = np.linspace(0.06, 0.94, SAMPLES_A_SIDE)
_FIRST, _LAST = [0, 3, 0, 1], [1, 2, 3, 2]
"""Corners at the ends of the upper, lower, left and right side."""

_SIDES, _AXES, _OTHERS = [0, 1, 2, 3], [0, 0, 1, 1], [1, 1, 0, 0]
_OUT = np.array([-1.0, 1.0, -1.0, 1.0])[:, None]
"""Outward direction of each side."""


def features(corners: Array, curves: Array) -> tuple[Array, Array]:
    """What the model looks at.

    Args:
        corners: (..., 4, 2) where endplates and walls meet, in half patch sides; the patient
            looks to the right.
        curves: (4, ..., CELLS) border by side, see :func:`spinezoo_spine.measures.evidence`.

    Returns:
        (..., F) features, and (...,) the depth that they are shares of.
    """
    depth = np.maximum(_size(corners[..., 1, :] - corners[..., 0, :]), 1e-6)
    start, end = corners[..., _FIRST, :], corners[..., _LAST, :]
    # Endplates are read along x, walls along y; both at SAMPLES_A_SIDE places.
    along, aside = (
        start[..., _SIDES, axes][..., None] + (end - start)[..., _SIDES, axes][..., None] * _PLACES
        for axes in (_AXES, _OTHERS)
    )
    at = (np.where(np.isfinite(along), along, 0.0) + 1.0) * (CELLS / 2.0) - 0.5
    low = np.minimum(np.maximum(np.floor(at), 0.0), CELLS - 2.0).astype(np.int64)
    share = np.minimum(np.maximum(at - low, 0.0), 1.0)
    lines = np.arange(curves[0].size // CELLS).reshape(*depth.shape, 1, 1) * CELLS
    place = low + lines + np.arange(4)[:, None] * curves[0].size
    flat = np.ascontiguousarray(curves).reshape(-1)
    value = flat[place] * (1.0 - share) + flat[place + 1] * share
    bends = (value - _OUT * aside) / depth[..., None, None]
    bends = np.minimum(np.maximum(bends, -MOST_BEND), MOST_BEND)
    bends = bends.reshape(*depth.shape, 4 * SAMPLES_A_SIDE)
    upper, lower = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 3, :]
    back, front = corners[..., 3, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 1, :]
    shape = np.stack(
        [
            (upper[..., 1] - lower[..., 1]) / depth,
            (back[..., 0] - front[..., 0]) / depth,
            (back[..., 1] + front[..., 1]) / (2.0 * depth) - 0.8,
            np.ones_like(depth),
        ],
        axis=-1,
    )
    values = np.concatenate([bends, shape], axis=-1)
    return np.where(np.isfinite(values), values, 0.0), depth


def sacral_features(corners: Array, curves: Array) -> tuple[Array, Array]:
    """The same for S1, whose lower end is no endplate: upper side and upper half of the walls."""
    lower = corners.copy()
    for side, upper in ((3, 0), (2, 1)):
        # A body as tall as half its depth stands for S1's upper part.
        depth = corners[..., 1, :] - corners[..., 0, :]
        lower[..., side, :] = corners[..., upper, :] + 0.5 * np.stack(
            [-depth[..., 1], depth[..., 0]], axis=-1
        )
    values, depth_size = features(lower, curves)
    values[..., SAMPLES_A_SIDE : 2 * SAMPLES_A_SIDE] = 0.0
    return values, depth_size


@cache
def coefficients() -> dict[str, Array]:
    """The model as it is shipped; empty where there is none."""
    if not FILE.is_file():
        return {}
    with np.load(FILE, allow_pickle=False) as read:
        return {name: np.asarray(read[name], dtype=np.float64) for name in read.files}


def corrected(
    corners: Array,
    middles: Array,
    curves: Array,
    sacral: NDArray[np.bool_],
    model: dict[str, Array] | None = None,
) -> tuple[Array, Array]:
    """Corners and middles of endplates, moved by the model.

    Args:
        corners: (B, J, 4, 2) in half patch sides, the patient looks to the right.
        middles: (B, J, 2, 2) of the endplates.
        curves: (4, B, J, CELLS) border.
        sacral: (J,) which bodies are S1.
        model: Coefficients; None: those shipped.
    """
    model = coefficients() if model is None else model
    if not model:
        return corners, middles
    moved, centred = corners.copy(), middles.copy()
    for which, name, look in ((~sacral, "body", features), (sacral, "sacrum", sacral_features)):
        if not which.any():
            continue
        values, depth = look(corners[:, which], curves[:, :, which])
        step = (values @ model[name]) * depth[..., None]
        moved[:, which] += step[..., :8].reshape(*step.shape[:-1], 4, 2)
        centred[:, which] += step[..., 8:].reshape(*step.shape[:-1], 2, 2)
    return moved, centred


def turned(corners: Array, middles: Array, curves: Array) -> tuple[Array, Array, Array]:
    """The same bodies seen in a mirror; turning twice gives them back.

    Args:
        corners: (..., 4, 2) of each.
        middles: (..., 2, 2) of its endplates.
        curves: (4, ..., CELLS) borders.
    """
    flip = np.array([-1.0, 1.0])
    return (
        corners[..., MIRROR, :] * flip,
        middles * flip,
        np.stack([curves[UPPER][..., ::-1], curves[LOWER][..., ::-1], curves[RIGHT], curves[LEFT]]),
    )


def _size(vector: Array) -> Array:
    return np.asarray(np.hypot(vector[..., 0], vector[..., 1]))
