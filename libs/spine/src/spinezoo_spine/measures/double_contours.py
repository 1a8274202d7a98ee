"""Double contours of endplates: how far the left and the right rim of one lie apart on the film.

A body that is tilted to the side, or that the rays meet from above or below, shows both rims of an
endplate, one above the other. On the film the step from bone to disc is then as broad as both are
apart, and a line bounds it on either side; where the endplate is hollow a third line lies between.

1. The film is read in a strip along each endplate, as wide to both sides as :data:`REACH`. Of each
   quarter of the endplate there is one profile across it: the mean of :data:`PLACES` lines without
   the brightest and the darkest, so that lines of a grid do not count.
2. A small network (one hidden layer) reads the four profiles, by their own brightness and contrast.
   It says the distance and its spread. ``python -m spinezoo_evaluator.measures fit`` fits it on
   phantoms.
3. It is told where the spread is small, the strip lies on the film and no implant covers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Measure, MeasureKind, MeasureUnit, Segment, WithheldReason

from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.column import Column

Array = NDArray[np.float64]
Model = Mapping[str, Array]

KINDS = (MeasureKind.DOUBLE_CONTOUR_UPPER, MeasureKind.DOUBLE_CONTOUR_LOWER)

REACH = 0.4
"""How far the film is read above and below an endplate, in lengths of it."""

ENDS = 0.06
"""Share of the endplate at either end that is left out."""

PARTS, PLACES, CELLS = 4, 6, 48
"""Parts of an endplate, lines across each, and cells along a line."""

MOST_CLIPPED = 4.0
"""Grey levels are cut here, in standard deviations: metal must not drown bone."""

MOST_SPREAD = 0.03
"""A spread greater than this share of the endplate says nothing."""

MOST_HIDDEN, MOST_OFF = 0.15, 0.1
"""Share of a strip that implants may cover, and that may lie beyond the film."""

FILE = Path(__file__).with_name("double_contours.npz")
"""Weights of the network, and ``factor``: half a 90 % interval by the spread."""

_LINES = ENDS + (1.0 - 2.0 * ENDS) * (np.arange(PARTS * PLACES) + 0.5) / (PARTS * PLACES)
_ACROSS = REACH * (2.0 * (np.arange(CELLS) + 0.5) / CELLS - 1.0)
_ACROSS32 = _ACROSS.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Strips:
    """What the film shows along N endplates.

    Attributes:
        features: (N, FEATURES) of the network.
        shown: (N,) whether there is any contrast, and nothing hides it.
        depths_mm: (N,) lengths of the endplates.
    """

    features: Array
    shown: NDArray[np.bool_]
    depths_mm: Array


FEATURES = PARTS * CELLS + 1


def endplates_of(quads: Array) -> Array:
    """(J, 2, 2, 2) back and front end of the upper and the lower endplate.

    Args:
        quads: (J, 4, 2) corners: back upper, front upper, front lower, back lower.
    """
    return np.stack([quads[:, [0, 1]], quads[:, [3, 2]]], axis=1)


def strips_of(
    ends_px: Array,
    upper: NDArray[np.bool_],
    pixels: NDArray[Any],
    spacing_mm: tuple[float, float],
    implants: Sequence[Segment] = (),
) -> Strips:
    """Reads the film along endplates.

    Args:
        ends_px: (N, 2, 2) back and front end of each, all finite; at least one.
        upper: (N,) which are the upper ones of their bodies.
        pixels: (height, width) film, bright means dense.
        spacing_mm: Distance of rows and of columns.
        implants: Outlines of what hides bone.
    """
    row_mm, column_mm = spacing_mm
    per_px = np.array([column_mm, row_mm])
    along = (ends_px[:, 1] - ends_px[:, 0]) * per_px
    depths = formulas.length(along)
    outward = np.stack([along[:, 1], -along[:, 0]], axis=1)
    # Square to the endplate, away from its body: up from an upper one, down from a lower one.
    outward *= np.where((outward[:, 1] < 0.0) == upper, 1.0, -1.0)[:, None]
    starts = ends_px[:, :1] + (along / per_px)[:, None] * _LINES[:, None]
    steps = outward / per_px
    seen, hidden = _visible(starts, steps, pixels.shape, implants)
    cell = float(depths.mean()) * 2.0 * REACH / CELLS
    shrink = max(1, int(cell / column_mm)), max(1, int(cell / row_mm))
    values = _read(pixels, starts, steps, shrink)
    kept = values.sum(axis=2) - values.max(axis=2) - values.min(axis=2)
    profiles = kept.reshape(len(depths), -1).astype(np.float64)
    profiles = profiles / (PLACES - 2) - profiles.mean(axis=1, keepdims=True) / (PLACES - 2)
    smooth = profiles.reshape(-1, PARTS, CELLS).copy()
    smooth[..., 1:-1] += (smooth[..., :-2] - 2.0 * smooth[..., 1:-1] + smooth[..., 2:]) / 4.0
    smooth = smooth.reshape(profiles.shape)
    contrast = np.sqrt((smooth * smooth).mean(axis=1))
    scale = np.maximum(contrast, 1e-6)
    rest = profiles - smooth
    noise = np.log(np.sqrt((rest * rest).mean(axis=1)) / scale + 0.01)
    clipped = np.minimum(np.maximum(profiles / scale[:, None], -MOST_CLIPPED), MOST_CLIPPED)
    features = np.concatenate([clipped, noise[:, None]], axis=1)
    shown = (seen >= 1.0 - MOST_OFF) & (hidden <= MOST_HIDDEN) & (contrast > 1e-6)
    return Strips(features, shown, depths)


def _visible(
    starts: Array, steps: Array, size: tuple[int, ...], implants: Sequence[Segment]
) -> tuple[Array, Array]:
    """(N,) share of each strip that lies on the film, and that implants cover."""
    some = starts[:, 2::5, None] + steps[:, None, None] * _ACROSS[3::6, None]
    pixels = np.floor(some).astype(np.int64)
    x, y = pixels[..., 0], pixels[..., 1]
    inside = (x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])
    hidden = np.zeros(inside.shape, np.bool_)
    for implant in implants:
        hidden |= covered(implant, pixels)
    return inside.mean(axis=(1, 2)), hidden.mean(axis=(1, 2))


def covered(implant: Segment, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pixels (..., 2), x and y, an outline covers; those beyond the film it does not."""
    mask = implant.mask
    x, y = places[..., 0], places[..., 1]
    inside = (x >= 0) & (y >= 0) & (x < mask.width) & (y < mask.height)
    run = np.cumsum(mask.runs).searchsorted(x * mask.height + y, side="right")
    return np.asarray(inside & (run % 2 == 1))


def _read(
    pixels: NDArray[Any], starts: Array, steps: Array, shrink: tuple[int, int]
) -> NDArray[np.float32]:
    """(N, PARTS, PLACES, CELLS) grey levels along lines.

    Args:
        pixels: (height, width) film.
        starts: (N, lines, 2) where each line meets its endplate, in pixels.
        steps: (N, 2) what :data:`_ACROSS` is multiplied by.
        shrink: Columns and rows that are averaged first, where a cell is many pixels.
    """
    ends = starts[:, [0, -1], None] + steps[:, None, None] * np.array([[-REACH], [REACH]])
    ends = ends.reshape(-1, 2)
    most = np.array(pixels.shape[::-1])
    low = np.minimum(np.maximum(np.floor(ends.min(axis=0)) - 2, 0), most - 1).astype(int)
    high = np.minimum(np.maximum(np.ceil(ends.max(axis=0)) + 3, low + 1), most).astype(int)
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    across, down = min(shrink[0], right - left), min(shrink[1], bottom - top)
    columns, rows = (right - left) // across, (bottom - top) // down
    window = pixels[top : top + rows * down, left : left + columns * across]
    if window.dtype not in (np.uint8, np.uint16, np.float32):
        window = window.astype(np.float32)
    if across > 1 or down > 1:
        window = cv2.resize(window, (columns, rows), interpolation=cv2.INTER_AREA)
    factor = np.array([across, down])
    begin = ((starts - low) / factor - 0.5).astype(np.float32)[:, :, None]
    step = (steps / factor).astype(np.float32)[:, None, None] * _ACROSS32[:, None]
    x, y = (np.add(begin[..., n], step[..., n]).reshape(-1, CELLS) for n in (0, 1))
    read = cv2.remap(window, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, dtype=np.float32).reshape(len(starts), PARTS, PLACES, CELLS)


def told(features: Array, model: Model) -> tuple[Array, Array]:
    """(N,) distance of both contours and its spread, in lengths of the endplate."""
    hidden = np.tanh(((features - model["mean"]) / model["deviation"]) @ model["w1"] + model["b1"])
    answer = hidden @ model["w2"] + model["b2"]
    return np.logaddexp(0.0, answer[:, 0]) / 10.0, np.exp(np.clip(answer[:, 1], -7.0, 0.0))


@cache
def shipped_model() -> dict[str, Array]:
    """The network as it was fitted."""
    with np.load(FILE, allow_pickle=False) as read:
        return {name: np.asarray(read[name], dtype=np.float64) for name in read.files}


def contour_measures(
    column: Column,
    levels: Sequence[str],
    quads_px: Array,
    pixels: NDArray[Any] | None,
    spacing_mm: tuple[float, float],
    scale: float,
    implants: Sequence[Segment],
) -> list[Measure]:
    """The double contours of every body's endplates; of S1 the upper one's.

    Args:
        column: The measured column: which levels are measured, and why others are not.
        levels: Names of J bodies, from above.
        quads_px: (J, 4, 2) their corners; NaN: not in view.
        pixels: (height, width) film, bright means dense; None: nothing can be seen.
        spacing_mm: Distance of rows and of columns.
        scale: What lengths are divided by.
        implants: Outlines of what hides bone.
    """
    plates = endplates_of(quads_px)
    asked, measures = [], []
    for level in column.index:
        if level == "S2":
            continue
        for which, kind in enumerate(KINDS[:1] if level == "S1" else KINDS):
            reason = column.reason((level,))
            if reason is None and not column.scaled:
                reason = WithheldReason.NO_SPACING
            if reason is None and not np.isfinite(plates[levels.index(level), which]).all():
                reason = WithheldReason.CUT_BY_FILM
            if reason is None and pixels is None:
                reason = WithheldReason.NOT_SHOWN
            if reason is None:
                asked.append((level, which))
            else:
                measures.append(column.withheld(kind, (level,), MeasureUnit.MILLIMETRE, reason))
    if not asked or pixels is None:
        return measures
    ends = np.stack([plates[levels.index(level), which] for level, which in asked])
    upper = np.array([which == 0 for _, which in asked])
    strips = strips_of(ends, upper, pixels, spacing_mm, implants)
    model = shipped_model()
    distance, spread = told(strips.features, model)
    halves = float(model["factor"]) * spread
    for number, (level, which) in enumerate(asked):
        kind, unit = KINDS[which], MeasureUnit.MILLIMETRE
        if not strips.shown[number] or spread[number] > MOST_SPREAD:
            shown = bool(strips.shown[number])
            reason = WithheldReason.TOO_UNSURE if shown else WithheldReason.NOT_SHOWN
            measures.append(column.withheld(kind, (level,), unit, reason))
            continue
        length = float(strips.depths_mm[number]) / scale
        value, half = float(distance[number]) * length, float(halves[number]) * length
        low, sources = max(0.0, value - half), (column.index[level],)
        measures.append(
            Measure(kind, (level,), unit, value, low, value + half, vertebra_indices=sources)
        )
    return measures
