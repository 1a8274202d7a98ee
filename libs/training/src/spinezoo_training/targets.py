"""What a network is given and taught of a prepared film: input, label maps, instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import VERTEBRAE, Structure
from spinezoo_spine.annotations.raster import PAINT_ORDER, Patch, paint, patches
from spinezoo_spine.annotations.regions import polygon_area
from spinezoo_spine.inference.preprocess import two_channels

from spinezoo_training.prepared_set import PreparedFilm

MIN_INSTANCE_PX = 25
"""Instances with fewer pixels on the canvas are not taught: nothing recognisable is left."""

MIN_INSTANCE_SHARE = 0.2
"""Instances of which less than this share lies on the canvas are not taught."""

CLASS_WEIGHTS = {1: 1.0, 2: 1.0, 3: 3.0, 4: 2.0, 5: 3.0}
"""Weight of each structure's number in a semantic network's cross-entropy; background is 1.
Hardware is a few hundredths of a film's pixels and thin. A rod's pieces between screws and the pins
of a cage weigh more than a screw, of which nine pixels of ten were found before."""

GAP_WEIGHT = 5.0
"""Most that the narrowest gap between two objects adds to a pixel's weight."""

MIN_PARTED_SHARE = 0.45
"""An implant is parted from one of its class that covers it while this share of it is seen."""

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
    """What a semantic network is taught so that neighbouring objects of a class stay apart.

    After the weight map of Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597, section 3):
    vertebrae that touch are parted by a line of background, and pixels count the more, the narrower
    the gap between the two nearest vertebrae. Unlike there, the bone along a gap counts as much as
    the gap itself: weight on background alone teaches outlines that are too small. Hardware in a
    gap keeps its label.

    Implants of one class lie on top of each other: left and right screws and rods overlap on most
    lateral films. There the lower one on the film is whole, and a line of background parts it from
    what it covers, unless less than :data:`MIN_PARTED_SHARE` of that is left: then both are one. A
    rule that can be seen on the film is one that a network can learn.

    Returns:
        labels: (height, width) ``uint8``, as :func:`label_map_of` but for the lines.
        weights: (height, width) ``float32``, 1 to 1 + :data:`GAP_WEIGHT`.
    """
    height, width = film.grey.shape
    labels = np.zeros((height, width), dtype=np.uint8)
    gaps = np.zeros((height, width), dtype=np.float32)
    drawn = patches([polygon for _, polygon in film.regions], height, width)
    by_structure: dict[Structure, list[Patch]] = {structure: [] for structure in PAINT_ORDER}
    for (structure, _), patch in zip(film.regions, drawn, strict=True):
        if patch.pixels.any():
            by_structure[structure].append(patch)
    for structure in PAINT_ORDER:
        for patch in by_structure[structure] if structure in VERTEBRAE else ():
            labels[patch.rows, patch.columns][patch.pixels] = int(structure)
    bodies = [patch for structure in sorted(VERTEBRAE) for patch in by_structure[structure]]
    if bodies:
        near, bone = _gaps(bodies, height, width)
        labels[near.touching] = 0
        near.weights[bone & ~near.touching] = 0.0
        gaps = near.widened()
    for structure in PAINT_ORDER:
        metal = by_structure[structure]
        if structure in VERTEBRAE or not metal:
            continue
        line = np.zeros((height, width), dtype=bool)
        owner = np.zeros((height, width), dtype=np.int32)
        ranked = sorted(metal, key=_middle_row)
        for number, patch in enumerate(ranked, start=1):
            ring = _ring(patch, height, width)
            around = owner[ring.rows, ring.columns]
            covered = ring.pixels & (around > 0)
            below = np.unique(around[covered])
            if len(below):
                owner[patch.rows, patch.columns][patch.pixels] = number
                left = np.bincount(owner.ravel(), minlength=number + 1)
                parted = [
                    under
                    for under in below.tolist()
                    if left[under] >= MIN_PARTED_SHARE * np.count_nonzero(ranked[under - 1].pixels)
                ]
                covered &= np.isin(around, parted)
                line[ring.rows, ring.columns] |= covered
                labels[ring.rows, ring.columns][covered] = 0
                around[covered] = 0
            line[patch.rows, patch.columns][patch.pixels] = False
            owner[patch.rows, patch.columns][patch.pixels] = number
            labels[patch.rows, patch.columns][patch.pixels] = int(structure)
        if len(metal) > 1:
            near, inside = _gaps(metal, height, width)
            near.weights[inside] = 0.0
            gaps = np.maximum(gaps, near.widened())
        # The line alone, not its rim: in thin metal the rim is all that there is.
        gaps[line] = 1.0
    return labels, np.float32(1.0) + np.float32(GAP_WEIGHT) * gaps


@dataclass(frozen=True, slots=True)
class _Gaps:
    """How near the two nearest objects of a class are to each pixel.

    Attributes:
        weights: (height, width) ``float32``, 1 where both are at the pixel, 0 far from either.
        touching: (height, width) bool, within one pixel of two objects and inside one.
    """

    weights: NDArray[np.float32]
    touching: NDArray[np.bool_]

    def widened(self) -> NDArray[np.float32]:
        """(height, width) the weights, with the rim along each gap."""
        return np.asarray(cv2.dilate(self.weights, np.ones((5, 5), np.uint8)), dtype=np.float32)


def _gaps(objects: Sequence[Patch], height: int, width: int) -> tuple[_Gaps, NDArray[np.bool_]]:
    """The gaps between objects, and (height, width) where any of them is."""
    sigma = GAP_REACH * height
    margin = math.ceil(3.0 * sigma)
    far = np.float32(1e3)
    nearest = np.full((height, width), far, dtype=np.float32)
    second = np.full((height, width), far, dtype=np.float32)
    inside = np.zeros((height, width), dtype=bool)
    for patch in objects:
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
        inside[patch.rows, patch.columns] |= patch.pixels
    # Within one pixel of two objects: they touch or overlap here. (1.5: a diagonal step is 1.37
    # in OpenCV's measure.)
    touching = inside & (second < 1.5)
    weights = np.exp(-np.square(nearest + second) / np.float32(2.0 * sigma**2))
    return _Gaps(np.asarray(weights, dtype=np.float32), touching), inside


def _middle_row(patch: Patch) -> float:
    """Film row of a patch's centre of mass."""
    held = patch.pixels.sum(axis=1)
    return patch.top + float(held @ np.arange(len(held)) / held.sum())


def _ring(patch: Patch, height: int, width: int) -> Patch:
    """The pixels that touch an object, corners included, on a canvas."""
    top, left = max(0, patch.top - 1), max(0, patch.left - 1)
    rows = min(height, patch.rows.stop + 1) - top
    columns = min(width, patch.columns.stop + 1) - left
    own = np.zeros((rows, columns), dtype=np.uint8)
    own[patch.top - top :, patch.left - left :][
        : patch.pixels.shape[0], : patch.pixels.shape[1]
    ] = patch.pixels
    grown = np.asarray(cv2.dilate(own, np.ones((3, 3), np.uint8)))
    return Patch(top, left, (grown > 0) & (own == 0))


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
