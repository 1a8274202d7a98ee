"""From a network's output to outlines at the film's size: one way for each family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.masks import encode_mask, mask_box, mask_from_runs
from spinezoo_contract.types import (
    Box,
    ProbabilityMap,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
)

from spinezoo_spine.inference.preprocess import Letterbox

DEFAULT_MAX_SEGMENTS = 100
"""Most outlines in an answer when the request gives no number."""


def _on_canvas(grid: NDArray[np.float32], fit: Letterbox) -> NDArray[np.float32]:
    """A (height, width) canvas-aligned grid at the canvas's size, cut to the film's part."""
    factor_y = grid.shape[0] / fit.canvas_height
    factor_x = grid.shape[1] / fit.canvas_width
    canvas: Any = grid  # OpenCV's types are wider than its values
    if (factor_y, factor_x) != (1.0, 1.0):
        canvas = cv2.resize(
            grid, (fit.canvas_width, fit.canvas_height), interpolation=cv2.INTER_LINEAR
        )
    part: NDArray[np.float32] = canvas[
        fit.top : fit.top + fit.height, fit.left : fit.left + fit.width
    ]
    return part


def _on_film(grid: NDArray[np.float32], fit: Letterbox) -> NDArray[np.float32]:
    """A (height, width) canvas-aligned grid, cut to the film's part and resized to the film."""
    size = (fit.film_width, fit.film_height)
    on_film: Any = cv2.resize(_on_canvas(grid, fit), size, interpolation=cv2.INTER_LINEAR)
    resized: NDArray[np.float32] = on_film
    return resized


def regions_from_probabilities(
    probabilities: NDArray[np.float32],
    structures: Sequence[Structure],
    fit: Letterbox,
    *,
    score_threshold: float,
    max_segments: int = DEFAULT_MAX_SEGMENTS,
) -> tuple[Segment, ...]:
    """One region a structure from a semantic network's class probabilities.

    A pixel belongs to the class of highest probability (background included) if that probability
    reaches the threshold. Classes are decided at the film's size, after bilinear resizing, so
    that borders are smooth on a large film.

    Args:
        probabilities: (1 + len(structures), grid height, grid width); plane 0 is background.
        structures: The structure of each further plane.
        fit: Where the film lies on the canvas that the grid covers.
        score_threshold: Least probability of a pixel, 0 to 1.
        max_segments: Most regions; the highest scores are kept.
    """
    best = _on_film(probabilities[0], fit)
    best_class = np.zeros(best.shape, dtype=np.uint8)
    for plane in range(1, probabilities.shape[0]):
        on_film = _on_film(probabilities[plane], fit)
        higher = on_film > best
        best[higher] = on_film[higher]
        best_class[higher] = plane
    if score_threshold > 0.0:
        best_class[best < score_threshold] = 0
    segments = []
    for plane, structure in enumerate(structures, start=1):
        pixels = best_class == plane
        if not pixels.any():
            continue
        mask = encode_mask(pixels)
        score = float(np.clip(best[pixels].mean(dtype=np.float64), 0.0, 1.0))
        segments.append(Segment(structure, SegmentKind.REGION, mask, score, mask_box(mask)))
    segments.sort(key=lambda segment: -segment.score)
    return tuple(segments[:max_segments])


def probability_maps(
    probabilities: NDArray[np.float32], structures: Sequence[Structure], fit: Letterbox
) -> tuple[ProbabilityMap, ...]:
    """The planes of a semantic network's probabilities (background left out) as 8-bit maps."""
    corners = fit.to_film(np.array([[0.0, 0.0], [fit.canvas_width, fit.canvas_height]]))
    (left, top), (right, bottom) = corners
    film_box = Box(float(left), float(top), float(right - left), float(bottom - top))
    levels = np.rint(probabilities * 255.0).astype(np.uint8)
    return tuple(
        ProbabilityMap(structure, np.ascontiguousarray(levels[plane]), film_box)
        for plane, structure in enumerate(structures, start=1)
    )


def _axis(
    inside: NDArray[np.bool_], canvas_px: int, film_px: int
) -> tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """How to resize one axis, only where something of the mask can be.

    Args:
        inside: (canvas_px,) which canvas rows (or columns) hold foreground; at least one.
        canvas_px: Rows of the canvas that the film covers.
        film_px: Rows of the film.

    Returns:
        First film row, and for each film row from there on the two canvas rows that it lies
        between and the weight of the second (0 to 1), as ``cv2.resize`` has them.
    """
    held = np.flatnonzero(inside)
    per_canvas_px = film_px / canvas_px
    # A film pixel that is foreground has a foreground neighbour on the canvas.
    first = max(0, int(np.floor((held[0] - 0.5) * per_canvas_px - 0.5)))
    last = min(film_px - 1, int(np.ceil((held[-1] + 1.5) * per_canvas_px - 0.5)))
    place = (np.arange(first, last + 1) + 0.5) / per_canvas_px - 0.5
    place = np.clip(place, 0.0, canvas_px - 1.0)
    lower = np.minimum(place.astype(np.int64), max(canvas_px - 2, 0))
    upper = np.minimum(lower + 1, canvas_px - 1)
    return first, lower, upper, (place - lower).astype(np.float32)


def _instance_mask(part: NDArray[np.float32], fit: Letterbox) -> RunLengthMask | None:
    """The film pixels above one half of a soft mask on the film's part of the canvas.

    An object covers a hundredth of a film, so only the pixels around it are ever made.

    Args:
        part: (fit.height, fit.width), 0 to 1.
        fit: Where the film lies on the canvas.

    Returns:
        The mask at the film's size, None where it is empty.
    """
    inside = part > 0.5
    if not inside.any():
        return None
    inside_row: Any = inside.any(axis=1)
    inside_column: Any = inside.any(axis=0)
    top, row, next_row, row_weight = _axis(inside_row, fit.height, fit.film_height)
    left, column, next_column, column_weight = _axis(inside_column, fit.width, fit.film_width)
    near = part[:, column[0] : next_column[-1] + 1]
    column, next_column = column - column[0], next_column - column[0]
    rows = near[row] + row_weight[:, None] * (near[next_row] - near[row])
    # Columns first in memory, because runs go down the columns.
    rows = rows.T
    pixels = (
        rows[column] + column_weight[:, None] * (rows[next_column] - rows[column])
    ) > 0.5  # (film columns, film rows) around the object
    edges = np.zeros((pixels.shape[0], pixels.shape[1] + 2), dtype=np.int8)
    edges[:, 1:-1] = pixels
    column_index, row_index = np.nonzero(np.diff(edges, axis=1))
    if column_index.size == 0:
        return None
    borders = (left + column_index) * fit.film_height + top + row_index
    runs = np.diff(borders, prepend=0, append=fit.film_height * fit.film_width)
    return mask_from_runs(runs, fit.film_height, fit.film_width)


def instances_from_masks(
    mask_probabilities: NDArray[np.float32],
    scores: NDArray[np.float32],
    structures: Sequence[Structure],
    fit: Letterbox,
    *,
    max_segments: int = DEFAULT_MAX_SEGMENTS,
) -> tuple[Segment, ...]:
    """Instance segments from soft masks on the canvas, best score first.

    Args:
        mask_probabilities: (N, grid height, grid width), 0 to 1, covering the whole canvas.
        scores: (N,) scores, 0 to 1.
        structures: N structures.
        fit: Where the film lies on the canvas.
        max_segments: Most segments; the highest scores are kept.

    Masks without a single pixel on the film are left out: a segment is never empty.
    """
    segments: list[Segment] = []
    for index in np.argsort(-scores, kind="stable"):
        if len(segments) == max_segments:
            break
        mask = _instance_mask(_on_canvas(mask_probabilities[index], fit), fit)
        if mask is None:
            continue
        score = float(np.clip(scores[index], 0.0, 1.0))
        segments.append(
            Segment(structures[index], SegmentKind.INSTANCE, mask, score, mask_box(mask))
        )
    return tuple(segments)
