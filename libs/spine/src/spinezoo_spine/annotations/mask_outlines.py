"""Masks as outlines: run lengths and several polygons as one closed polygon, exact to the pixel.

A polygon with several parts or holes is one list of points here: its rings are joined by bridges
that run there and back on the same line. By the even-odd rule a bridge encloses nothing, so
drawing gives exactly the parts without the holes; outer rings and holes run in opposite
directions, so the shoelace formula gives the area.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError, MaskError
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import RunLengthMask

from spinezoo_spine.annotations.limits import (
    MAX_COORDINATE_PX,
    MAX_MASK_PIXELS,
    MAX_OUTLINE_POINTS,
    MAX_PARTS,
    MAX_PARTS_PIXELS,
)
from spinezoo_spine.annotations.raster import each_patch
from spinezoo_spine.annotations.text import shown, whole_number


def rings_of_mask(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The (N, 2) borders of a mask's parts and holes along pixel borders.

    Outer borders have a positive area by the shoelace formula (x right, y down), holes a negative
    one. Parts that touch in a corner only are parted.

    Raises:
        AnnotationError: The borders have too many corners.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return []
    top, left = int(rows[0]), int(columns[0])
    part = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    a, b, c, d = part[:-1, :-1], part[:-1, 1:], part[1:, :-1], part[1:, 1:]
    # A point of the grid is a corner where its four pixels are not parted by one straight line.
    diagonal = (a == d) & (b == c) & (a != b)
    corner = ((a ^ b ^ c ^ d) | diagonal).astype(np.uint8)
    count = int(corner.sum()) + int(diagonal.sum())
    if count > MAX_OUTLINE_POINTS:
        raise AnnotationError(
            f"the mask's border has {count} corners, the limit is {MAX_OUTLINE_POINTS}; smooth "
            "the mask, or outline it by a polygon"
        )
    y, x = np.nonzero(corner)
    crossed = diagonal[y, x]
    # Where two corners fall on one point, each is an entry of its own.
    y, x = np.repeat(y, 1 + crossed), np.repeat(x, 1 + crossed)
    crossed_too = np.repeat(crossed, 1 + crossed)
    second = np.zeros(len(x), dtype=np.int64)
    second[1:] = (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    # Along a row, and along a column, corners pair up: the border runs between the two of a pair.
    # Of two on one point the first goes left; which goes up keeps foreground pixels apart.
    up = np.where(crossed_too & ~a[y, x], 1 - second, second)
    along_row = np.arange(len(x)).reshape(-1, 2)
    along_column = np.lexsort((up, y, x)).reshape(-1, 2)
    row_mate, column_mate = np.empty(len(x), dtype=np.int64), np.empty(len(x), dtype=np.int64)
    for pairs, mate in ((along_row, row_mate), (along_column, column_mate)):
        mate[pairs[:, 0]], mate[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    by_row, by_column = row_mate.tolist(), column_mate.tolist()
    points = np.stack([x + left - 0.0, y + top - 0.0], axis=1)
    seen = bytearray(len(x))
    rings = []
    for start in range(len(x)):
        if seen[start]:
            continue
        ring: list[int] = []
        place = start
        while not seen[place]:
            other = by_row[place]
            seen[place] = seen[other] = 1
            ring += [place, other]
            place = by_column[other]
        found = points[ring]
        # The first point is a ring's topmost, leftmost corner: foreground below it is a part's.
        is_part = bool(d[y[start], x[start]])
        rings.append(_turned(found, positive=is_part))
    return rings


def _turned(ring: NDArray[np.float64], *, positive: bool) -> NDArray[np.float64]:
    """A ring so that its area by the shoelace formula has the wanted sign."""
    x, y = ring[:, 0] - ring[0, 0], ring[:, 1] - ring[0, 1]
    area = float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    return ring if (area > 0.0) == positive else ring[::-1]


def joined(rings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Rings as one closed polygon with bridges; see the module's text.

    Args:
        rings: At least one, each (N, 2) points.

    Returns:
        (M, 2) points.
    """
    if len(rings) == 1:
        return rings[0]
    first = rings[0]
    points = [first, first[:1]]
    for ring in rings[1:]:
        points += [ring, ring[:1], first[:1]]
    # The last bridge closes the polygon by itself.
    return np.concatenate(points[:-1])


def outline_of_mask(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, 2) outline of a mask along pixel borders, with all its parts and holes.

    Drawing it by :mod:`spinezoo_spine.annotations.raster` gives exactly the mask.

    Raises:
        AnnotationError: The mask is empty, or its border has too many corners.
    """
    rings = rings_of_mask(mask)
    if not rings:
        raise AnnotationError("mask has no pixels; draw the region again or remove it")
    return joined(rings)


def mask_of_run_lengths(segmentation: Mapping[str, object]) -> NDArray[np.bool_]:
    """(height, width) pixels of COCO run lengths, compressed or as a list, of the size they state.

    Raises:
        AnnotationError: Their size is none, too large, they do not add up to it, or they count row
            by row.
    """
    size = segmentation.get("size")
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise AnnotationError(f"mask has no size [height, width] but {shown(size, 40)}")
    height, width = (whole_number(side, "a side of the mask") for side in size)
    if height < 1 or width < 1:
        raise AnnotationError(f"mask is of size {height} x {width}; export it again")
    if height * width > MAX_MASK_PIXELS:
        raise AnnotationError(
            f"mask is of size {height} x {width}, more than {MAX_MASK_PIXELS} pixels; scale the "
            "film down"
        )
    counts = segmentation.get("counts")
    if isinstance(counts, list):
        runs = _runs_of_list(counts, height, width)
        _check_order(runs, height, width)
        values = (np.arange(len(runs)) % 2).astype(bool)
        return np.repeat(values, runs).reshape(width, height).T
    if not isinstance(counts, str):
        raise AnnotationError("run lengths (counts) are neither a list nor text; export them again")
    try:
        packed = RunLengthMask(height, width, counts.encode("ascii"))
        mask: NDArray[np.bool_] = decode_mask(packed)
    except (MaskError, UnicodeEncodeError) as error:
        why = str(error) if isinstance(error, MaskError) else "they hold letters that COCO does not"
        raise AnnotationError(
            f"run lengths do not cover the film ({why}); export them again"
        ) from error
    _check_order(packed.runs, height, width)
    return mask


def _check_order(runs: NDArray[np.integer], height: int, width: int) -> None:
    """Refuses run lengths that count along rows, where COCO's go down columns.

    A mask of one structure goes on from a column to the next one. Of one that was written row by
    row, only the reading by rows does.

    Raises:
        AnnotationError: They do.
    """
    if height != width and _going_on(runs, height) < 0.3 and _going_on(runs, width) > 0.6:
        raise AnnotationError(
            "run lengths count along rows, or their size is swapped; COCO's size is [height, "
            "width] and its counts go down columns: export them by pycocotools"
        )


def _going_on(runs: NDArray[np.integer], step: int) -> float:
    """Share of the mask's pixels that have another one so many pixels behind them."""
    ends = np.cumsum(runs)
    within = np.cumsum(np.where(np.arange(len(runs)) % 2, runs, 0))
    starts, stops = ends[:-1:2], ends[1::2]
    behind = np.interp(stops + step, ends, within) - np.interp(starts + step, ends, within)
    return float(behind.sum() / within[-1]) if within[-1] else 0.0


def _runs_of_list(counts: list[object], height: int, width: int) -> NDArray[np.int64]:
    try:
        runs = np.array(counts, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError("run lengths hold what is no number; export them again") from error
    if runs.ndim != 1 or not np.isfinite(runs).all() or (runs < 0).any() or (runs % 1 != 0).any():
        raise AnnotationError("run lengths are not whole counts of 0 or more; export them again")
    if runs.sum() != height * width:
        raise AnnotationError(
            f"run lengths cover {runs.sum():.0f} of {height * width} pixels ({height} x {width}); "
            "export them again"
        )
    return runs.astype(np.int64)


def union_of_polygons(
    polygons: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], int | None]:
    """Several polygons as one outline: all of their pixels, as COCO adds parts up.

    Parts whose boxes do not meet keep their exact coordinates; others are drawn and traced.

    Args:
        polygons: At least one, each (N, 2) points, in pixels.

    Returns:
        The outline, and the place of a part that adds no pixel to the others, None where each
        does.

    Raises:
        AnnotationError: They reach over too large an area, or cover no pixel.
    """
    lows = np.array([polygon.min(axis=0) for polygon in polygons])
    highs = np.array([polygon.max(axis=0) for polygon in polygons])
    if len(polygons) > MAX_PARTS:
        raise AnnotationError(f"has {len(polygons)} parts, the limit is {MAX_PARTS}; simplify it")
    beside = (highs[:, None] < lows[None]).any(axis=-1)
    if (beside | beside.T | np.eye(len(polygons), dtype=bool)).all():
        return joined([_turned(polygon, positive=True) for polygon in polygons]), None
    low = np.floor(np.clip(lows.min(axis=0), -MAX_COORDINATE_PX, MAX_COORDINATE_PX))
    columns, rows = (int(side) for side in np.ceil(highs.max(axis=0) - low) + 1)
    drawn = max(rows * columns, int((highs - lows + 1.0).prod(axis=1).sum()))
    if drawn > MAX_PARTS_PIXELS:
        raise AnnotationError(
            f"its parts reach over {drawn} pixels, the limit is {MAX_PARTS_PIXELS}; draw each part "
            "as a region of its own"
        )
    moved = [polygon - low for polygon in polygons]
    hits = np.zeros((rows, columns), dtype=np.uint16)
    for patch in each_patch(moved, rows, columns):
        hits[patch.rows, patch.columns] += patch.pixels
    hidden = None
    for place, patch in enumerate(each_patch(moved, rows, columns)):
        own = hits[patch.rows, patch.columns][patch.pixels]
        if own.size and bool((own > 1).all()):
            hidden = place
            break
    return outline_of_mask(hits > 0) + low, hidden
