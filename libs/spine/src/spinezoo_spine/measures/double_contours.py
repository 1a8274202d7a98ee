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
_SOME = np.s_[::3, ::4]
"""Lines and cells that are asked whether an implant lies there."""


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
        ends_px: (N, 2, 2) back and front end of each, all finite.
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
    steps = along[:, None] * _LINES[:, None] / per_px
    start = (ends_px[:, :1] + steps)[:, :, None]
    places = start + (outward / per_px)[:, None, None] * _ACROSS[:, None]
    height, width = pixels.shape
    off = ((places < 0.0) | (places > (width, height))).any(axis=-1).mean(axis=(1, 2))
    some = places[:, *_SOME].astype(np.int64)
    hidden = np.zeros(some.shape[:-1], np.bool_)
    for implant in implants:
        hidden |= covered(implant, some)
    cell = float(np.median(depths)) * 2.0 * REACH / CELLS if len(depths) else 1.0
    shrink = max(1, int(cell / column_mm)), max(1, int(cell / row_mm))
    values = _read(pixels, places, shrink).reshape(len(depths), PARTS, PLACES, CELLS)
    kept = values.sum(axis=2) - values.max(axis=2) - values.min(axis=2)
    profiles = kept / (PLACES - 2)
    profiles -= profiles.mean(axis=(1, 2), keepdims=True)
    smooth = profiles.copy()
    smooth[..., 1:-1] = (profiles[..., :-2] + 2.0 * profiles[..., 1:-1] + profiles[..., 2:]) / 4.0
    contrast = np.sqrt((smooth**2).mean(axis=(1, 2)))
    scale = np.maximum(contrast, 1e-6)[:, None, None]
    noise = np.log(np.sqrt(((profiles - smooth) ** 2).mean(axis=(1, 2))) / scale[:, 0, 0] + 0.01)
    clipped = np.minimum(np.maximum(profiles / scale, -MOST_CLIPPED), MOST_CLIPPED)
    features = np.concatenate([clipped.reshape(len(depths), -1), noise[:, None]], axis=1)
    bare = (hidden.mean(axis=(1, 2)) <= MOST_HIDDEN) & (off <= MOST_OFF)
    return Strips(features, bare & (contrast > 1e-6), depths)


def covered(implant: Segment, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pixels (..., 2), x and y, an outline covers; those beyond the film it does not."""
    mask = implant.mask
    x, y = places[..., 0], places[..., 1]
    inside = (x >= 0) & (y >= 0) & (x < mask.width) & (y < mask.height)
    run = np.cumsum(mask.runs).searchsorted(x * mask.height + y, side="right")
    return np.asarray(inside & (run % 2 == 1))


def _read(pixels: NDArray[Any], places: Array, shrink: tuple[int, int]) -> NDArray[np.float32]:
    """Grey levels at places (..., 2); where a cell is many pixels, the mean of some of them."""
    height, width = pixels.shape
    low = np.maximum(np.floor(places.reshape(-1, 2).min(axis=0)).astype(int) - 2, 0)
    high = np.ceil(places.reshape(-1, 2).max(axis=0)).astype(int) + 3
    columns, rows = (max(1, int(n)) for n in np.minimum(high, (width, height)) - low)
    left, top = (int(n) for n in np.minimum(low, (width - 1, height - 1)))
    window = pixels[top : top + rows, left : left + columns]
    across, down = min(shrink[0], window.shape[1]), min(shrink[1], window.shape[0])
    window = window[: window.shape[0] // down * down, : window.shape[1] // across * across]
    if window.dtype not in (np.uint8, np.uint16, np.float32):
        window = window.astype(np.float32)
    if across > 1 or down > 1:
        size = (window.shape[1] // across, window.shape[0] // down)
        window = cv2.resize(window, size, interpolation=cv2.INTER_AREA)
    flat = (places - (left, top)) / (across, down) - 0.5
    x, y = (flat[..., n].reshape(-1, CELLS).astype(np.float32) for n in (0, 1))
    read = cv2.remap(window, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(read, dtype=np.float32)


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
