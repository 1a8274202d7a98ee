"""What a network is given and taught of a prepared film: input, label maps, instances."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import VERTEBRAE
from spinezoo_spine.annotations.raster import paint, patches
from spinezoo_spine.annotations.regions import polygon_area
from spinezoo_spine.inference.preprocess import two_channels

from spinezoo_training.prepared_set import PreparedFilm

MIN_INSTANCE_PX = 25
"""Instances with fewer pixels on the canvas are not taught: nothing recognisable is left."""

MIN_INSTANCE_SHARE = 0.2
"""Instances of which less than this share lies on the canvas are not taught."""

GAP_WEIGHT = 5.0
"""Most that the narrowest gap between two vertebrae adds to a pixel's weight."""

GAP_REACH = 0.01
"""How fast that falls with the gap's width (standard deviation), as a share of the canvas' height;
3.2 pixels of 320. The paper of U-Net has 5 of 512."""


def network_input(film: PreparedFilm) -> NDArray[np.float32]:
    """(2, height, width) input of the networks, as serving makes it from the same canvas."""
    return two_channels(film.grey.astype(np.float32) / np.float32(255.0))


def label_map_of(film: PreparedFilm) -> NDArray[np.uint8]:
    """(height, width) ``uint8`` label map, 0 for background; hardware lies on top."""
    height, width = film.grey.shape
    return paint(
        [structure for structure, _ in film.regions],
        [polygon for _, polygon in film.regions],
        height,
        width,
    )


def label_map_with_gaps(film: PreparedFilm) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """What a semantic network is taught so that neighbouring vertebrae stay apart.

    After the weight map of Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597, section 3):
    vertebrae that touch are parted by a line of background, and pixels count the more, the narrower
    the gap between the two nearest vertebrae. Unlike there, the bone along a gap counts as much as
    the gap itself: weight on background alone teaches outlines that are too small. Hardware in a
    gap keeps its label.

    Returns:
        labels: (height, width) ``uint8``, as :func:`label_map_of` but for the lines.
        weights: (height, width) ``float32``, 1 to 1 + :data:`GAP_WEIGHT`.
    """
    height, width = film.grey.shape
    labels = label_map_of(film)
    sigma = GAP_REACH * height
    margin = math.ceil(3.0 * sigma)
    far = np.float32(1e3)
    nearest = np.full((height, width), far, dtype=np.float32)
    second = np.full((height, width), far, dtype=np.float32)
    bone = np.zeros((height, width), dtype=bool)
    polygons = [polygon for structure, polygon in film.regions if structure in VERTEBRAE]
    for patch in patches(polygons, height, width):
        if not patch.pixels.any():
            continue
        rows = slice(max(0, patch.rows.start - margin), min(height, patch.rows.stop + margin))
        columns = slice(
            max(0, patch.columns.start - margin), min(width, patch.columns.stop + margin)
        )
        outside = np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=np.uint8)
        top, left = patch.top - rows.start, patch.left - columns.start
        own = outside[top:, left:][: patch.pixels.shape[0], : patch.pixels.shape[1]]
        own[patch.pixels] = 0
        distance = np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, 3), dtype=np.float32)
        before = nearest[rows, columns]
        second[rows, columns] = np.minimum(second[rows, columns], np.maximum(before, distance))
        nearest[rows, columns] = np.minimum(before, distance)
        bone[patch.rows, patch.columns] |= patch.pixels
    # Within one pixel of two vertebrae: they touch or overlap here. (1.5: a diagonal step is 1.37
    # in OpenCV's measure.)
    line = bone & (second < 1.5)
    labels[line & np.isin(labels, [int(structure) for structure in VERTEBRAE])] = 0
    gap = np.exp(-np.square(nearest + second) / np.float32(2.0 * sigma**2))
    gap[bone & ~line] = 0.0
    gap = cv2.dilate(gap, np.ones((5, 5), dtype=np.uint8))
    return labels, np.float32(1.0) + np.float32(GAP_WEIGHT) * np.asarray(gap, dtype=np.float32)


def instances_of(
    film: PreparedFilm,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """What an instance network is taught: every object by itself, overlaps kept.

    Objects with fewer than :data:`MIN_INSTANCE_PX` pixels on the canvas, or with less than
    :data:`MIN_INSTANCE_SHARE` of their area on it, are left out.

    Returns:
        masks: (n, height, width) ``uint8``, 0 or 1.
        boxes: (n, 4) ``float32``, left, top, right, bottom in pixel edges around the mask.
        structures: (n,) ``int64``, the structures' numbers.
    """
    height, width = film.grey.shape
    drawn = patches([polygon for _, polygon in film.regions], height, width)
    kept = []
    for (structure, polygon), patch in zip(film.regions, drawn, strict=True):
        visible = int(np.count_nonzero(patch.pixels))
        if visible >= max(MIN_INSTANCE_PX, MIN_INSTANCE_SHARE * polygon_area(polygon)):
            kept.append((structure, patch))
    masks = np.zeros((len(kept), height, width), dtype=np.uint8)
    boxes = np.zeros((len(kept), 4), dtype=np.float32)
    structures = np.zeros(len(kept), dtype=np.int64)
    for index, (structure, patch) in enumerate(kept):
        masks[index, patch.rows, patch.columns] = patch.pixels
        rows = np.flatnonzero(patch.pixels.any(axis=1))
        columns = np.flatnonzero(patch.pixels.any(axis=0))
        boxes[index] = (
            patch.left + columns[0],
            patch.top + rows[0],
            patch.left + columns[-1] + 1,
            patch.top + rows[-1] + 1,
        )
        structures[index] = int(structure)
    return masks, boxes, structures
