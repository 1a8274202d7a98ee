"""COCO JSON files, in and out.

Polygons are taken as they are: COCO's and our coordinates agree (pixel edges, origin top left).
A region given as run lengths, or as several polygons, is a mask: it is drawn and traced again as
one polygon along pixel borders. Loss: of several separate parts only the largest stays an
outline and holes are filled; what stays is exact to the pixel. Where more than
:data:`MAX_LOST_SHARE` of the pixels would go, reading stops and says so.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from spinezoo_contract.errors import AnnotationError, MaskError
from spinezoo_contract.masks import decode_mask, encode_mask, mask_box
from spinezoo_contract.types import RunLengthMask, Structure

from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.annotations.regions import (
    STRUCTURE_NAMES,
    FilmAnnotation,
    RawAnnotation,
    RawRegion,
    as_polygon,
    judge,
    level_of,
    polygon_area,
    read_json,
)

MAX_LOST_SHARE = 0.1
"""Most of a mask's pixels that its outline may lose or gain, as a share of the mask."""

MAX_MASK_PIXELS = 67_108_864
"""Most pixels of a run-length mask; more is refused before decoding."""


def is_coco(value: object) -> bool:
    """Whether a parsed JSON value has the form of a COCO instances file."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("images"), list)
        and isinstance(value.get("annotations"), list)
    )


def outline_of_mask(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, 2) outline of a mask's largest part along pixel borders, holes filled.

    Drawing it by :mod:`spinezoo_spine.annotations.raster` gives exactly the pixels of that part.

    Raises:
        AnnotationError: The mask is empty.
    """
    if not mask.any():
        raise AnnotationError("mask has no pixels; draw the region again or remove it")
    # 4-connected parts: a polygon along pixel borders cannot pass through a corner.
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    largest = 1 + int(np.argmax(stats[1:count, cv2.CC_STAT_AREA]))
    left, top, width, height = (int(value) for value in stats[largest, :4])
    part = np.zeros((height + 2, width + 2), dtype=bool)
    part[1:-1, 1:-1] = labels[top : top + height, left : left + width] == largest
    start = (1, int(np.argmax(part[1])))  # topmost row, its leftmost pixel
    points = _trace_border(part, start)
    return points + np.array([left - 1, top - 1], dtype=np.float64)


def _trace_border(part: NDArray[np.bool_], start: tuple[int, int]) -> NDArray[np.float64]:
    """Corners (x, y) of the outer border of a padded part, clockwise from a pixel's top left."""
    # Directions: right, down, left, up. The part lies to the right of the way.
    steps = ((1, 0), (0, 1), (-1, 0), (0, -1))
    right_of = ((0, 0), (-1, 0), (-1, -1), (0, -1))  # pixel (dx, dy) right of the next step
    left_of = ((0, -1), (0, 0), (-1, 0), (-1, -1))
    x, y, direction = start[1], start[0], 0
    first = (x, y, direction)
    points: list[tuple[int, int]] = []
    while True:
        x, y = x + steps[direction][0], y + steps[direction][1]
        ahead_left = part[y + left_of[direction][1], x + left_of[direction][0]]
        ahead_right = part[y + right_of[direction][1], x + right_of[direction][0]]
        if not ahead_right:
            turned = (direction + 1) % 4
        elif ahead_left:
            turned = (direction + 3) % 4
        else:
            turned = direction
        if turned != direction:
            points.append((x, y))
        direction = turned
        if (x, y, direction) == first:
            return np.array(points, dtype=np.float64)


def _mask_of(segmentation: object, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of run lengths (a list or COCO's text) or of several polygons.

    Raises:
        AnnotationError: They do not fit the film.
    """
    if isinstance(segmentation, list):
        mask = np.zeros((height, width), dtype=bool)
        for flat in segmentation:
            mask |= rasterise(_polygon_of(flat), height, width)
        return mask
    if not isinstance(segmentation, Mapping) or "counts" not in segmentation:
        raise AnnotationError("segmentation is neither polygons nor run lengths; export it again")
    if list(segmentation.get("size") or []) != [height, width]:
        raise AnnotationError(
            f"mask is of size {segmentation.get('size')}, the film {[height, width]}; "
            "export masks at the film's size"
        )
    if height * width > MAX_MASK_PIXELS:
        raise AnnotationError(f"mask has more than {MAX_MASK_PIXELS} pixels; scale the film down")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        runs = np.array(counts)
        if runs.ndim != 1 or runs.dtype.kind not in "iu" or (runs < 0).any():
            raise AnnotationError("run lengths are not counts of 0 or more; export them again")
        if int(runs.sum()) != height * width:
            raise AnnotationError(
                f"run lengths cover {int(runs.sum())} of {height * width} pixels; export them again"
            )
        values = (np.arange(len(runs)) % 2).astype(bool)
        return np.repeat(values, runs).reshape(width, height).T
    data = counts.encode() if isinstance(counts, str) else counts
    try:
        return decode_mask(RunLengthMask(height, width, data))
    except MaskError:
        raise AnnotationError("run lengths do not cover the film; export them again") from None


def _polygon_of(flat: object) -> NDArray[np.float64]:
    if not isinstance(flat, list) or len(flat) % 2:
        raise AnnotationError("polygon is not a list of x, y, x, y, ...; export it again")
    try:
        points = np.array(flat, dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise AnnotationError("polygon has a coordinate that is no number") from error
    if len(points) > 3 and (points[0] == points[-1]).all():
        points = points[:-1]
    return as_polygon(points)


def _outline(annotation: Mapping[str, object], height: int, width: int) -> NDArray[np.float64]:
    segmentation = annotation.get("segmentation")
    if not segmentation:
        raise AnnotationError("has no outline (segmentation); a box alone is not enough")
    if isinstance(segmentation, list) and len(segmentation) == 1:
        return _polygon_of(segmentation[0])
    mask = _mask_of(segmentation, height, width)
    outline = outline_of_mask(mask)
    lost = int((rasterise(outline, height, width) != mask).sum())
    if lost > MAX_LOST_SHARE * int(mask.sum()):
        raise AnnotationError(
            f"mask is not one part without holes ({lost} of {int(mask.sum())} pixels would "
            "change); draw each part as a region of its own"
        )
    return as_polygon(outline)


def read_coco_raw(path: str | os.PathLike[str]) -> tuple[RawAnnotation, ...]:
    """Everything in a COCO instances file, unjudged.

    Raises:
        AnnotationError: The file cannot be read or is no COCO instances file.
    """
    path = Path(path)
    value = read_json(path)
    if not is_coco(value):
        raise AnnotationError(
            f"{path.name}: is not a COCO instances file; it needs images and annotations"
        )
    try:
        categories = {
            category["id"]: str(category["name"]) for category in value.get("categories") or []
        }
        films: dict[object, tuple[str, int, int, list[RawRegion]]] = {}
        for image in value["images"]:
            height, width = int(image.get("height") or 0), int(image.get("width") or 0)
            films[image["id"]] = (str(image["file_name"]), height, width, [])
        for annotation in value["annotations"]:
            if annotation["image_id"] not in films:
                raise AnnotationError(
                    f"annotation {annotation.get('id')} is of image {annotation['image_id']}, "
                    "which is not listed; export again"
                )
            name, height, width, regions = films[annotation["image_id"]]
            points, problem = None, ""
            try:
                points = _outline(annotation, height, width)
            except AnnotationError as error:
                problem = str(error)
            class_name = categories.get(annotation.get("category_id"))
            attributes = annotation.get("attributes") or {}
            regions.append(
                RawRegion(
                    len(regions),
                    "polygon" if points is not None else "",
                    points,
                    class_name,
                    level_of(attributes.get("level") or annotation.get("level")),
                    problem,
                    attributes,
                )
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnnotationError(
            f"{path.name}: a field is missing or of the wrong kind ({type(error).__name__}); "
            "export the file again"
        ) from error
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error
    for name, count in Counter(name for name, *_ in films.values()).items():
        if count > 1:
            raise AnnotationError(f"{path.name}: film {name!r} is listed twice; keep one entry")
    return tuple(RawAnnotation(name, tuple(regions)) for name, _, _, regions in films.values())


def read_coco(
    path: str | os.PathLike[str], *, classes: Mapping[str, Structure] | None = None
) -> tuple[FilmAnnotation, ...]:
    """The outlines of every film of a COCO instances file, in the file's order.

    Args:
        path: The JSON file.
        classes: Further category names.

    Raises:
        AnnotationError: The file is wrong, or a region has no outline or no known category; the
            message names film and region.
    """
    return tuple(judge(annotation, classes) for annotation in read_coco_raw(path))


def write_coco(
    path: str | os.PathLike[str],
    annotations: Sequence[FilmAnnotation],
    sizes: Mapping[str, tuple[int, int]],
    *,
    run_lengths: bool = False,
) -> None:
    """Writes outlines as a COCO instances file; category ids are the structures' numbers.

    Polygons come back exactly. Run lengths come back as the outline of their pixels. The file
    appears whole or not at all.

    Args:
        path: Target.
        annotations: One a film.
        sizes: (height, width) of each film by name.
        run_lengths: Write masks as run lengths instead of polygons; regions without a pixel on
            the film are left out then.

    Raises:
        AnnotationError: The size of a film is missing.
    """
    path = Path(path)
    images: list[dict[str, object]] = []
    items: list[dict[str, object]] = []
    for image_id, annotation in enumerate(annotations, start=1):
        if annotation.film_name not in sizes:
            raise AnnotationError(f"film {annotation.film_name!r} has no size; give its size")
        height, width = sizes[annotation.film_name]
        images.append(
            {"id": image_id, "file_name": annotation.film_name, "height": height, "width": width}
        )
        for region in annotation.regions:
            polygon = region.polygon_xy
            segmentation: object
            if run_lengths:
                pixels = rasterise(polygon, height, width)
                if not pixels.any():
                    continue
                mask = encode_mask(pixels)
                box = mask_box(mask)
                segmentation = {"size": [height, width], "counts": mask.counts.decode()}
                area = float(coco_mask.area({"size": [height, width], "counts": mask.counts}))
                corners = [box.x, box.y, box.width, box.height]
            else:
                segmentation = [polygon.ravel().tolist()]
                low, high = polygon.min(axis=0), polygon.max(axis=0)
                area = polygon_area(polygon)
                corners = [*low.tolist(), *(high - low).tolist()]
            item: dict[str, object] = {
                "id": len(items) + 1,
                "image_id": image_id,
                "category_id": int(region.structure),
                "segmentation": segmentation,
                "bbox": corners,
                "area": area,
                "iscrowd": 0,
            }
            if region.level is not None:
                item["attributes"] = {"level": region.level}
            items.append(item)
    value = {
        "info": {"description": "SpineZoo outlines"},
        "images": images,
        "annotations": items,
        "categories": [
            {"id": int(structure), "name": name, "supercategory": "spine"}
            for structure, name in STRUCTURE_NAMES.items()
        ],
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
