"""Turns coverage into outlines: closed, simple, clipped to the film, rounded to 1/100 px."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.measure import find_contours

from spinezoo_phantom.projection import Window

MIN_VISIBLE_SHARE = 0.25
"""A region keeps its outline while this share of it lies on the film."""

MIN_AREA_PX = 20.0
"""Regions with fewer visible pixels are dropped as slivers."""


def is_simple(polygon_xy: np.ndarray) -> bool:
    """Whether no two edges of a closed polygon (N, 2) cross or touch, neighbours apart."""
    start = polygon_xy
    count = len(start)
    if count < 3:
        return False
    end = np.roll(start, -1, axis=0)
    if (np.abs(end - start).sum(axis=1) == 0).any():
        return False

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        ahead, aside = b - a, c - a
        return np.sign(ahead[..., 0] * aside[..., 1] - ahead[..., 1] * aside[..., 0])

    a, b = start[:, None], end[:, None]
    c, d = start[None], end[None]
    crossing = (side(a, b, c) * side(a, b, d) <= 0) & (side(c, d, a) * side(c, d, b) <= 0)
    # Collinear, separate edges give zeros as well: ask that their boxes meet.
    meet = (
        np.maximum(np.minimum(a, b), np.minimum(c, d))
        <= np.minimum(np.maximum(a, b), np.maximum(c, d))
    ).all(axis=-1)
    crossing &= meet
    index = np.arange(count)
    gap = np.abs(index[:, None] - index[None])
    crossing[(gap <= 1) | (gap == count - 1)] = False
    return not crossing.any()


def polygon_area(polygon_xy: np.ndarray) -> float:
    """Returns the area enclosed by a simple polygon (N, 2)."""
    x, y = polygon_xy[:, 0], polygon_xy[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _tidy(outline: np.ndarray) -> np.ndarray:
    """Rounds to 1/100 px and removes repeated and collinear points."""
    points = np.round(outline, 2)
    points = points[np.abs(points - np.roll(points, 1, axis=0)).sum(axis=1) > 0]
    for _ in range(3):
        if len(points) < 4:
            break
        before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
        bend = (points - before)[:, 0] * (after - points)[:, 1]
        bend = bend - (points - before)[:, 1] * (after - points)[:, 0]
        keep = np.abs(bend) > 1e-9
        if keep.all():
            break
        points = points[keep]
    return points


def _thin(outline: np.ndarray, tolerance_px: float) -> np.ndarray:
    """Drops points that lie within a tolerance of the line between the kept ones."""
    if tolerance_px <= 0:
        return outline
    origin = outline.min(axis=0)  # float32 is exact enough near zero
    local = (outline - origin).astype(np.float32)
    thinned = cv2.approxPolyDP(local, tolerance_px, closed=True).reshape(-1, 2)
    return np.clip(thinned.astype(np.float64) + origin, outline.min(axis=0), outline.max(axis=0))


def outline_of(
    coverage: np.ndarray, window: Window, level: float, height_px: int, width_px: int
) -> np.ndarray | None:
    """Traces where a coverage patch crosses a level, on the film only.

    Args:
        coverage: (h, w) patch.
        window: Its place; may reach over the film's border.
        level: Value inside is above, outside below.
        height_px: Rows of the film.
        width_px: Columns of the film.

    Returns:
        (N, 2) float64 outline in pixel-edge coordinates, or None where too little is visible.
    """
    seen = window.cut(height_px, width_px)
    if seen.is_empty:
        return None
    row, column = seen.top - window.top, seen.left - window.left
    part = coverage[row : row + seen.height, column : column + seen.width]
    area_all, area_seen = int((coverage > level).sum()), int((part > level).sum())
    if area_seen < MIN_AREA_PX or area_seen < MIN_VISIBLE_SHARE * area_all:
        return None
    padded = np.pad(part, 1)
    contours = find_contours(padded, level)
    if not contours:
        return None
    contour = max(contours, key=polygon_area)[:-1, ::-1]  # row, column to x, y; last repeats first
    # Padded index 1 is the window's first pixel, whose centre lies at +0.5.
    outline = contour - 0.5 + seen.origin
    outline = np.clip(outline, 0, [width_px, height_px])
    for tolerance in (0.25, 0.1, 0.0):
        candidate = _tidy(_thin(outline, tolerance))
        if len(candidate) >= 3 and is_simple(candidate):
            return candidate if polygon_area(candidate) >= MIN_AREA_PX else None
    return None
