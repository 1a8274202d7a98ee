"""From a network's output to outlines at the film's size: one way for each family."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import Box, ProbabilityMap, Segment, SegmentKind, Structure

from spinezoo_spine.prepare import Letterbox

DEFAULT_MAX_SEGMENTS = 100
"""Most outlines in an answer when the request gives no number."""


def _on_film(grid: NDArray[np.float32], fit: Letterbox) -> NDArray[np.float32]:
    """A (height, width) canvas-aligned grid, cut to the film's part and resized to the film."""
    factor_y = grid.shape[0] / fit.canvas_height
    factor_x = grid.shape[1] / fit.canvas_width
    if (factor_y, factor_x) != (1.0, 1.0):
        grid = cv2.resize(
            grid, (fit.canvas_width, fit.canvas_height), interpolation=cv2.INTER_LINEAR
        )
    part = grid[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
    return cv2.resize(part, (fit.film_width, fit.film_height), interpolation=cv2.INTER_LINEAR)


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
        pixels = _on_film(mask_probabilities[index], fit) > 0.5
        if not pixels.any():
            continue
        mask = encode_mask(pixels)
        score = float(np.clip(scores[index], 0.0, 1.0))
        segments.append(
            Segment(structures[index], SegmentKind.INSTANCE, mask, score, mask_box(mask))
        )
    return tuple(segments)
