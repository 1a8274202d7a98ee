"""From whole-class regions to objects: connected components, on crops, as run lengths.

A semantic network answers one region a class. To count vertebrae in it, the region is cut into
its connected components. Touching vertebrae stay one component: that is the loss the recognition
rate is there to show, so nothing here tries to separate them. Implants lie on each other on every
film, and a label map can show one of them only: see :mod:`spinezoo_spine.implant_parts`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from spinezoo_contract.errors import AnnotationError, MaskError
from spinezoo_contract.masks import decode_mask, encode_mask, mask_from_runs
from spinezoo_contract.types import Box, RunLengthMask, Segment, SegmentKind, Structure

from spinezoo_spine import windows
from spinezoo_spine.components import components
from spinezoo_spine.implant_parts import IMPLANTS, implants_apart

GRID_PX = 768
"""Longest side of the grid on which implants are taken apart."""

MIN_COMPONENT_SHARE = 1e-4
"""Least share of the film's pixels (1 of 10,000) that a component must have to count as an object.

A lumbar body covers about 1 % of a lateral film and a screw about 0.1 %, so a smaller component is
a speck of a network's border, not an object that anybody would have drawn. 210 pixels at
2048 x 1024. Instance segments are never dropped for their size: there a network has said "object".
"""


DUPLICATE_SHARE = 0.65
"""An outline of which this share lies within another one is of the same object."""


def min_component_pixels(height: int, width: int) -> int:
    """Least size of a component that counts, in pixels; at least 1."""
    return max(1, int(np.ceil(height * width * MIN_COMPONENT_SHARE)))


def split_region(segment: Segment, *, min_pixels: int | None = None) -> tuple[Segment, ...]:
    """The connected components of a segment's mask as instances, from left to right.

    Args:
        segment: Any segment; only its mask, structure and score are used.
        min_pixels: Components with fewer pixels are left out. None:
            :func:`min_component_pixels` of the film.

    Returns:
        Instances of the segment's structure and score (a component has none of its own), without
        a level. Empty when every component is too small.
    """
    mask = segment.mask
    least = min_component_pixels(mask.height, mask.width) if min_pixels is None else min_pixels
    box = mask.box
    left, top = int(box.x), int(box.y)
    rows, columns = int(box.height), int(box.width)
    if rows == 0 or columns == 0:
        return ()
    pixels = decode_mask(mask)[top : top + rows, left : left + columns]
    crop = np.ascontiguousarray(pixels, dtype=np.uint8)
    count, labels, statistics = components(crop)
    areas = statistics[:, cv2.CC_STAT_AREA]
    kept = [label for label in range(1, count) if areas[label] >= least]
    kept.sort(key=lambda label: (statistics[label, cv2.CC_STAT_LEFT], label))
    found = []
    for label in kept:
        x, y, w, h = (int(value) for value in statistics[label, :4])
        part = labels[y : y + h, x : x + w] == label
        component = mask_from_crop(part, top + y, left + x, mask.height, mask.width)
        found.append(
            Segment(
                segment.structure,
                SegmentKind.INSTANCE,
                component,
                segment.score,
                component.box,
            )
        )
    return tuple(found)


def mask_from_crop(
    crop: NDArray[np.bool_], top: int, left: int, height: int, width: int
) -> RunLengthMask:
    """Run lengths at the film's size of a (rows, columns) crop, without a film-sized array."""
    rows = crop.shape[0]
    # One row of background below each column keeps runs of neighbouring columns apart.
    padded = np.zeros(1 + crop.shape[1] * (rows + 1), dtype=np.bool_)
    padded[1:].reshape(crop.shape[1], rows + 1)[:, :rows] = crop.T
    steps = np.flatnonzero(padded[1:] != padded[:-1])
    positions = steps + (steps // (rows + 1)) * (height - rows - 1) + (left * height + top)
    if rows == height:
        # A run may end where the next column's begins. Such a pair of borders is no border.
        inner = np.flatnonzero(positions[1:-1:2] == positions[2::2]) * 2 + 1
        positions = np.delete(positions, np.concatenate([inner, inner + 1]))
    runs = np.empty(len(positions) + 1, dtype=np.int64)
    runs[:-1] = positions
    runs[-1] = height * width
    runs[1:] -= positions
    return mask_from_runs(runs if runs[-1] else runs[:-1], height, width)


def to_instances(
    segments: Iterable[Segment], wanted: Collection[Structure] = IMPLANTS
) -> tuple[Segment, ...]:
    """Instances as they are and regions cut into objects, in the order of the input.

    Vertebrae are components; implants are parted and joined by
    :func:`spinezoo_spine.implant_parts.implants_apart`.

    Args:
        segments: Of one source.
        wanted: Implants whose regions are cut; regions of the others are left out.
    """
    segments = list(segments)
    implants = _implants([s for s in segments if s.kind is not SegmentKind.INSTANCE], wanted)
    found: list[Segment] = []
    for segment in segments:
        if segment.kind is SegmentKind.INSTANCE:
            found.append(segment)
        elif segment.structure in implants:
            found.extend(implants.pop(segment.structure))  # several regions of one are one
        elif segment.structure not in IMPLANTS:
            found.extend(split_region(segment))
    return tuple(found)


def _implants(
    regions: Sequence[Segment], wanted: Collection[Structure]
) -> dict[Structure, list[Segment]]:
    """The implants of one source's regions, by structure; scores are those of their regions."""
    metal = [region for region in regions if region.structure in IMPLANTS]
    if not metal:
        return {}
    height, width = metal[0].mask.height, metal[0].mask.width
    boxes = [region.box for region in metal]
    left, top = (
        max(0, int(min(values))) for values in zip(*((b.x, b.y) for b in boxes), strict=True)
    )
    right = min(width, math.ceil(max(box.x + box.width for box in boxes)))
    bottom = min(height, math.ceil(max(box.y + box.height for box in boxes)))
    # Networks see no more than this; a larger film is looked at on a coarser grid.
    factor = min(1.0, GRID_PX / max(height, width))
    size = (max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor)))
    masks: dict[Structure, NDArray[np.bool_]] = {}
    scores: dict[Structure, float] = {}
    for region in metal:
        pixels = windows.crop(_borders(region.mask), (left, top, right, bottom), height)
        # A crop lies column after column in memory: turned, OpenCV takes it without a copy.
        turned = pixels.T.view(np.uint8) * np.uint8(255)
        grid = cv2.resize(turned, size[::-1], interpolation=cv2.INTER_AREA).T > 127
        grid = np.ascontiguousarray(grid)
        masks[region.structure] = masks.get(region.structure, np.zeros_like(grid)) | grid
        scores[region.structure] = max(region.score, scores.get(region.structure, 0.0))
    least = max(1, round(min_component_pixels(height, width) * factor**2))
    found: dict[Structure, list[Segment]] = {}
    apart = implants_apart(masks, least, wanted)
    fine = _resized(
        [part for parts in apart.values() for part in parts], right - left, bottom - top
    )
    for structure, parts in apart.items():
        found[structure] = []
        for pixels, x, y in itertools.islice(fine, len(parts)):
            if pixels.size == 0:
                continue
            mask = mask_from_crop(pixels, top + y, left + x, height, width)
            found[structure].append(
                Segment(structure, SegmentKind.INSTANCE, mask, scores[structure], mask.box)
            )
    return found


def _resized(
    parts: Sequence[NDArray[np.bool_]], width: int, height: int
) -> Iterator[tuple[NDArray[np.bool_], int, int]]:
    """Masks of one grid at another size, each as its tight crop with the crop's x and y.

    Masks that lie apart are resized together: none has a pixel that another one reaches.

    Args:
        parts: (rows, columns) masks.
        width: Columns of the other size.
        height: Its rows.
    """
    layers: list[NDArray[np.uint8]] = []
    boxes_of: list[list[tuple[int, int, int, int]]] = []
    places: list[tuple[int, tuple[int, int, int, int]]] = []
    for part in parts:
        x, y, across, down = cv2.boundingRect(part.view(np.uint8))
        # Bilinear values reach one cell; with two no rounding matters.
        box = x - 2, y - 2, x + across + 2, y + down + 2
        layer = next(
            (
                number
                for number, boxes in enumerate(boxes_of)
                if not any(
                    box[0] < other[2]
                    and other[0] < box[2]
                    and box[1] < other[3]
                    and other[1] < box[3]
                    for other in boxes
                )
            ),
            len(layers),
        )
        if layer == len(layers):
            layers.append(np.zeros(part.shape, dtype=np.uint8))
            boxes_of.append([])
        boxes_of[layer].append(box)
        inside = slice(y, y + down), slice(x, x + across)
        layers[layer][inside] |= part[inside] * np.uint8(255)
        places.append((layer, box))
    resized = [
        cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR) for layer in layers
    ]
    for part, (layer, (x0, y0, x1, y1)) in zip(parts, places, strict=True):
        rows, columns = part.shape
        left, right = max(0, x0) * width // columns, -(-min(x1, columns) * width // columns)
        top, bottom = max(0, y0) * height // rows, -(-min(y1, rows) * height // rows)
        fine = np.asarray(resized[layer][top:bottom, left:right]) > 127
        x, y, across, down = cv2.boundingRect(fine.view(np.uint8))
        yield fine[y : y + down, x : x + across], left + x, top + y


def regions_from_label_map(label_map: NDArray[np.integer]) -> tuple[Segment, ...]:
    """One region a structure that a label map holds, ordered by structure; score 1.

    Args:
        label_map: (height, width) integers, 0 for background or the number of a
            :class:`~spinezoo_contract.types.Structure`.

    Raises:
        MaskError: Not two-dimensional, empty, not integers, or encoded 0/255.
        AnnotationError: A value that is no structure's number.
    """
    if label_map.ndim != 2 or label_map.size == 0:
        raise MaskError(
            f"a label map has shape {label_map.shape}; give (height, width), both at least 1"
        )
    if label_map.dtype == np.bool_ or not np.issubdtype(label_map.dtype, np.integer):
        raise MaskError(
            f"a label map is of type {label_map.dtype}; give integers, 0 for background or the "
            "number of a structure"
        )
    values = [int(value) for value in np.unique(label_map)]
    if set(values) <= {0, 255} and 255 in values:
        raise MaskError(
            "a label map is encoded 0/255; give the number of a structure (1 to 5) where it is, "
            "not 255"
        )
    known = {int(structure) for structure in Structure}
    unknown = [value for value in values if value != 0 and value not in known]
    if unknown:
        raise AnnotationError(
            f"a label map holds {unknown[0]}, which is no structure; use 0 for background and "
            + ", ".join(f"{int(s)} for {s.name.lower()}" for s in Structure)
        )
    regions = []
    for value in values:
        if value == 0:
            continue
        mask = encode_mask(label_map == value)
        regions.append(Segment(Structure(value), SegmentKind.REGION, mask, 1.0, mask.box))
    return tuple(regions)


def _borders(mask: RunLengthMask) -> NDArray[np.int64]:
    """(2 * runs of foreground,) places of a mask, column-major: start and end by turns."""
    return np.cumsum(mask.runs[: 2 * (len(mask.runs) // 2)])


def coco_form(mask: RunLengthMask) -> dict[str, object]:
    """A mask as pycocotools takes it."""
    return {"size": [mask.height, mask.width], "counts": mask.counts}


def unite(masks: Sequence[RunLengthMask], height: int, width: int) -> RunLengthMask:
    """The union of masks of one size, on run lengths; the empty mask for no masks."""
    if not masks:
        return mask_from_runs(np.array([height * width], dtype=np.int64), height, width)
    if len(masks) == 1:
        return masks[0]
    merged = coco_mask.merge([coco_form(mask) for mask in masks])
    return RunLengthMask(height, width, bytes(merged["counts"]))


def box_around(boxes: Sequence[Box]) -> Box:
    """The least box that holds all of one or more."""
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right = max(box.x + box.width for box in boxes)
    bottom = max(box.y + box.height for box in boxes)
    return Box(left, top, right - left, bottom - top)


def overlaps(
    first: Sequence[Segment], second: Sequence[Segment]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How segments of one film overlap, on run lengths.

    Returns:
        (len(first), len(second)) IoU of every two, and of the same shape the share of each of
        ``first`` that lies within each of ``second``. Both 0 to 1.
    """
    iou, share, _ = overlaps_both_ways(first, second)
    return iou, share


def overlaps_both_ways(
    first: Sequence[Segment], second: Sequence[Segment]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """As :func:`overlaps`, and the share of each of ``second`` that lies within each of ``first``.

    Returns:
        Three arrays (len(first), len(second)), 0 to 1.
    """
    if not first or not second:
        empty = np.zeros((len(first), len(second)))
        return empty, empty, empty
    a, b = ([coco_form(s.mask) for s in segments] for segments in (first, second))
    iou = np.asarray(coco_mask.iou(a, b, [0] * len(b)), dtype=np.float64)
    areas = np.array([[s.mask.area] for s in first], dtype=np.float64)
    others = np.array([s.mask.area for s in second], dtype=np.float64)
    # The pixels that two have in common, a whole number, out of their IoU: the masks need to be
    # walked along once only.
    common = np.rint(iou * (areas + others) / (1.0 + iou))
    return iou, common / areas, common / others


def spans_two(
    whole: int,
    iou: NDArray[np.float64],
    share: NDArray[np.float64],
    areas: NDArray[np.float64],
) -> bool:
    """Whether an outline covers two others that are apart: several objects, and no duplicate.

    Args:
        whole: Place of the outline.
        iou: (N, N) IoU of every two of the film's outlines.
        share: (N, N) share of each (row) within each other (column); see :func:`overlaps`.
        areas: (N,) areas, in pixels.
    """
    inner = [
        other
        for other in range(len(areas))
        if other != whole
        and share[other, whole] >= DUPLICATE_SHARE
        and areas[other] < 0.75 * areas[whole]
    ]
    return any(iou[a, b] < 0.1 for a, b in itertools.combinations(inner, 2))
