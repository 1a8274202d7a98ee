"""From a network's output to outlines at the film's size: one way for each family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.masks import mask_from_runs
from spinezoo_contract.types import (
    Box,
    ProbabilityMap,
    Segment,
    SegmentKind,
    Structure,
    find_boxes_together,
)

from spinezoo_spine.inference.borders import FilmGrid, class_labels, runs_of_objects
from spinezoo_spine.inference.class_planes import ClassPlanes, enlarged
from spinezoo_spine.inference.preprocess import Letterbox
from spinezoo_spine.inference.soft_masks import SoftMasks, Window

DEFAULT_MAX_SEGMENTS = 100
"""Most outlines in an answer when the request gives no number."""


def _on_canvas(grid: NDArray[np.float32], fit: Letterbox) -> NDArray[np.float32]:
    """A (height, width) canvas-aligned grid at the canvas's size."""
    if grid.shape == (fit.canvas_height, fit.canvas_width):
        return grid
    source: Any = grid  # OpenCV's types are wider than its values
    canvas: NDArray[np.float32] = cv2.resize(
        source, (fit.canvas_width, fit.canvas_height), interpolation=cv2.INTER_LINEAR
    )
    return canvas


def _window_on_film(masks: SoftMasks, index: int, fit: Letterbox) -> Window | None:
    """One mask on the film's part of the canvas, None where nothing of it is there."""
    window = masks.windows[index]
    height, width = masks.size
    times_y, rest_y = divmod(fit.canvas_height, height)
    times_x, rest_x = divmod(fit.canvas_width, width)
    if rest_y or rest_x:
        # Canvas pixels lie anywhere between those of the grid: the whole is resized.
        plane = masks.chosen([index]).planes()[0]
        window = Window(0, 0, _on_canvas(plane, fit))
    elif (times_y, times_x) != (1, 1):
        bordered = window.within(0, 0, height, width)
        if bordered is None:
            return None
        source: Any = bordered.values
        size = (bordered.values.shape[1] * times_x, bordered.values.shape[0] * times_y)
        drawn = cv2.resize(source, size, interpolation=cv2.INTER_LINEAR)
        window = Window(bordered.top * times_y, bordered.left * times_x, drawn)
    return window.within(fit.top, fit.left, fit.height, fit.width)


def regions_from_probabilities(
    probabilities: ClassPlanes,
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
        probabilities: 1 + len(structures) planes; those of a coarser grid than the canvas cover
            all of it.
        structures: The structure of each further plane.
        fit: Where the film lies on the canvas that the grid covers.
        score_threshold: Least probability of a pixel, 0 to 1.
        max_segments: Most regions; the highest scores are kept.
    """
    canvas = (fit.canvas_height, fit.canvas_width)
    if probabilities.size != canvas:
        probabilities = ClassPlanes.whole(enlarged(probabilities.values, canvas))
    part = probabilities.within(fit.top, fit.left, fit.height, fit.width)
    grid = FilmGrid.of((fit.height, fit.width), (fit.film_height, fit.film_width))
    found = class_labels(part.values, grid, score_threshold, (part.top, part.left))
    pixels = fit.film_height * fit.film_width
    segments = []
    for plane, structure in enumerate(structures, start=1):
        if plane >= len(found.sums):
            break
        runs = found.runs(plane, pixels)
        if len(runs) == 1:
            continue
        mask = mask_from_runs(runs, fit.film_height, fit.film_width)
        score = min(1.0, max(0.0, float(found.sums[plane]) / mask.area))
        segments.append(Segment(structure, SegmentKind.REGION, mask, score, mask.box))
    segments.sort(key=lambda segment: -segment.score)
    return tuple(segments[:max_segments])


def probability_maps(
    probabilities: NDArray[np.float32], structures: Sequence[Structure], fit: Letterbox
) -> tuple[ProbabilityMap, ...]:
    """The planes of a semantic network's probabilities (background left out) as 8-bit maps.

    Args:
        probabilities: (1 + structures, h, w) over the whole canvas, background first, 0 to 1.
        structures: Of the planes behind the background.
        fit: How the film lies on the canvas.
    """
    corners = fit.to_film(np.array([[0.0, 0.0], [fit.canvas_width, fit.canvas_height]]))
    (left, top), (right, bottom) = corners
    film_box = Box(float(left), float(top), float(right - left), float(bottom - top))
    levels = np.rint(probabilities * 255.0).astype(np.uint8)
    return tuple(
        ProbabilityMap(structure, np.ascontiguousarray(levels[plane]), film_box)
        for plane, structure in enumerate(structures, start=1)
    )


def instances_from_masks(
    masks: SoftMasks,
    scores: NDArray[np.float32],
    structures: Sequence[Structure],
    fit: Letterbox,
    *,
    max_segments: int = DEFAULT_MAX_SEGMENTS,
) -> tuple[Segment, ...]:
    """Instance segments from soft masks on the canvas, best score first.

    Args:
        masks: N, covering the whole canvas.
        scores: (N,) scores, 0 to 1.
        structures: N structures.
        fit: Where the film lies on the canvas.
        max_segments: Most segments; the highest scores are kept.

    Masks without a single pixel on the film are left out: a segment is never empty.
    """
    grid = FilmGrid.of((fit.height, fit.width), (fit.film_height, fit.film_width))
    drawn = [
        (int(index), window)
        for index in np.argsort(-scores, kind="stable")
        if (window := _window_on_film(masks, int(index), fit)) is not None
    ]
    found = runs_of_objects([window for _, window in drawn], grid)
    told = [
        (index, mask_from_runs(runs, fit.film_height, fit.film_width))
        for (index, _), runs in zip(drawn, found, strict=True)
        if runs is not None and runs[1::2].any()
    ][:max_segments]
    find_boxes_together([mask for _, mask in told])
    return tuple(
        Segment(
            structures[index],
            SegmentKind.INSTANCE,
            mask,
            min(1.0, max(0.0, float(scores[index]))),
            mask.box,
        )
        for index, mask in told
    )
