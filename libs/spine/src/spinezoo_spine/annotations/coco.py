"""COCO JSON files, in and out.

Polygons are taken as they are: COCO's and our coordinates agree (pixel edges, origin top left).
Run lengths and several polygons become one outline with parts and holes, exact to the pixel; see
:mod:`spinezoo_spine.annotations.mask_outlines`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import Structure
from spinezoo_contract.words import counted
from spinezoo_serving.disk import replace_file

from spinezoo_spine.annotations.limits import MAX_FILE_FILMS, MAX_FILE_REGIONS
from spinezoo_spine.annotations.mask_outlines import (
    mask_of_run_lengths,
    outline_of_mask,
    union_of_polygons,
)
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.annotations.regions import (
    STRUCTURE_NAMES,
    FilmAnnotation,
    RawAnnotation,
    RawRegion,
    agrees,
    as_polygon,
    coordinates_of,
    judge,
    known_classes_text,
    polygon_area,
)
from spinezoo_spine.annotations.text import check_count, read_json, shown, whole_number
from spinezoo_spine.annotations.via.classes import choice_of, level_in

_UNSET = object()

_BOX_PX, _BOX_SHARE = 2.0, 0.25
"""An outline may lie so many pixels and so much of its length off its box: programs round boxes."""

_NO_OBJECT = 'no object of names and values, so no level is read; write {"level": "L4"}'


@dataclass(slots=True)
class ImageEntry:
    """One image of a COCO file while it is read."""

    place: str
    name: str
    size: tuple[int, int] | None
    regions: list[RawRegion] = field(default_factory=list)


@dataclass(slots=True)
class _Outline:
    """What a segmentation gives."""

    points: NDArray[np.float64] | None
    problem: str = ""
    mask_size: tuple[int, int] | None = None
    doubts: tuple[tuple[str, str], ...] = ()


def is_coco(value: object) -> bool:
    """Whether a parsed JSON value has the form of a COCO instances file."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("images"), list)
        and isinstance(value.get("annotations"), list)
    )


def is_meant_as_coco(value: object) -> bool:
    """Whether a parsed JSON value is a COCO file, or one that lacks a list."""
    return is_coco(value) or (
        isinstance(value, Mapping)
        and "categories" in value
        and ("images" in value or "annotations" in value)
    )


def id_of(value: object, what: str) -> str:
    """An id as text, so that 7 and "7" are the same one.

    Raises:
        AnnotationError: It is neither a whole number nor text.
    """
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    told = "missing" if value is None else shown(json.dumps(value, default=str), 40)
    raise AnnotationError(f"{what} is {told}; give a whole number or text")


def polygon_of(flat: object) -> NDArray[np.float64]:
    """(N, 2) points of COCO's x, y, x, y, ...; fewer than 3 are no error here.

    Raises:
        AnnotationError: They are no list of numbers, or of an odd number of them.
    """
    if not isinstance(flat, list) or len(flat) % 2:
        raise AnnotationError("polygon is not a list of x, y, x, y, ...; export it again")
    points = coordinates_of(flat, "polygon")
    if points.ndim != 1:
        raise AnnotationError("polygon is not a list of x, y, x, y, ...; export it again")
    points = points.reshape(-1, 2)
    if len(points) > 3 and (points[0] == points[-1]).all():
        points = points[:-1]
    return points


def parts_of(segmentation: list[object]) -> list[object]:
    """The polygons of a list: COCO's lists of numbers, also lists of pairs, or one of either."""
    if isinstance(segmentation[0], (int, float, str)):
        return [segmentation]
    if len(segmentation) > 2 and _are_pairs(segmentation):
        return [_joined(segmentation)]
    return [
        _joined(part)
        if isinstance(part, list) and _are_pairs(part) and isinstance(part[0][0], (int, float, str))
        else part
        for part in segmentation
    ]


def _are_pairs(values: list[object]) -> bool:
    return bool(values) and all(isinstance(pair, list) and len(pair) == 2 for pair in values)


def _joined(pairs: list[Any]) -> list[object]:
    return [number for pair in pairs for number in pair]


def _outline_of_polygons(segmentation: list[object]) -> _Outline:
    parts = [polygon_of(part) for part in parts_of(segmentation)]
    if len(parts) == 1:
        return _Outline(as_polygon(parts[0]))
    doubts: list[tuple[str, str]] = []
    whole = []
    for place, part in enumerate(parts):
        if len(part) < 3:
            doubts.append(
                (
                    "stray-part",
                    f"its part {place} has {counted(len(part), 'point')}, encloses nothing and is "
                    "left out",
                )
            )
        else:
            whole.append(as_polygon(part))
    if not whole:
        raise AnnotationError(
            f"of its {counted(len(parts), 'part')} none has 3 points; draw it again"
        )
    if len(whole) == 1:
        return _Outline(whole[0], doubts=tuple(doubts))
    points, hidden = union_of_polygons(whole)
    if hidden is not None:
        doubts.append(
            (
                "part-within",
                f"its part {hidden} lies within the others; COCO adds parts up, so it is no hole: "
                "draw holes as run lengths",
            )
        )
    return _Outline(as_polygon(points), doubts=tuple(doubts))


def _outline(annotation: Mapping[str, object], size: tuple[int, int] | None) -> _Outline:
    """The outline of an annotation, or why there is none.

    Args:
        annotation: As in the file.
        size: (height, width) of its image as the file states it, 0 for a side that it does not,
            or None.
    """
    segmentation = annotation.get("segmentation")
    try:
        if not segmentation:
            raise AnnotationError("has no outline (segmentation); a box alone is not enough")
        if isinstance(segmentation, list):
            return _outline_of_polygons(segmentation)
        if not isinstance(segmentation, Mapping) or "counts" not in segmentation:
            raise AnnotationError(
                "segmentation is neither polygons nor run lengths; export it again"
            )
        mask = mask_of_run_lengths(segmentation)
        height, width = mask.shape
        if size is not None and not agrees(size, (height, width)):
            raise AnnotationError(
                f"mask is of size {height} x {width}, its image {size[0]} x {size[1]}; "
                "export masks at the film's size"
            )
        return _Outline(as_polygon(outline_of_mask(mask)), mask_size=(height, width))
    except AnnotationError as error:
        return _Outline(None, str(error))


def _box_doubts(
    annotation: Mapping[str, object], points: NDArray[np.float64] | None
) -> Iterator[tuple[str, str]]:
    """Doubts an outline that does not fill its annotation's box: one of the two is of elsewhere."""
    box = annotation.get("bbox")
    try:
        sides = coordinates_of(box, "bbox") if isinstance(box, list) else np.empty(0)
    except AnnotationError:
        return
    if points is None or sides.shape != (4,):
        return
    left, top, width, height = sides
    low, high = points.min(axis=0), points.max(axis=0)
    off = np.abs([low - (left, top), high - (left + width, top + height)]).max()
    if width > 0 and height > 0 and off > _BOX_PX + (high - low).max() * _BOX_SHARE:
        yield (
            "box-differs",
            f"lies up to {off:.0f} px off its bbox (x, y, width, height); check that it is drawn "
            "at the film's size, and run lengths go down columns",
        )


def read_categories(value: object) -> dict[str, str]:
    """Category names by id.

    Raises:
        AnnotationError: Two names have one id, or an entry is wrong.
    """
    names: dict[str, str] = {}
    if not isinstance(value, list):
        raise AnnotationError("categories is no list; export again")
    for place, category in enumerate(value):
        if not isinstance(category, Mapping) or category.get("name") is None:
            raise AnnotationError(f"categories[{place}] has no name; export again")
        number = id_of(category.get("id"), f"categories[{place}]: id")
        name = str(category["name"])
        if names.setdefault(number, name) != name:
            raise AnnotationError(
                f"categories {shown(names[number])!r} and {shown(name)!r} have the same id "
                f"{shown(number)}; give each its own and correct the annotations"
            )
    return names


def read_images(value: list[object]) -> dict[str, ImageEntry]:
    """Images by id.

    Raises:
        AnnotationError: An entry is wrong, or two have one id or one name.
    """
    images: dict[str, ImageEntry] = {}
    by_name: dict[str, str] = {}
    for place, image in enumerate(value):
        where = f"images[{place}]"
        if not isinstance(image, Mapping):
            raise AnnotationError(f"{where} is no object; export again")
        name = image.get("file_name")
        if not isinstance(name, str) or not name.strip():
            raise AnnotationError(f"{where} has no file_name; export again")
        number = id_of(image.get("id"), f"{where} ({shown(name)!r}): id")
        sides = []
        for side in ("height", "width"):
            stated = image.get(side)
            found = 0
            if stated not in (None, "", 0, "0"):
                found = whole_number(stated, f"{where} ({shown(name)!r}): {side}")
            if found < 0:
                raise AnnotationError(f"{where} ({shown(name)!r}): {side} is {found}; correct it")
            sides.append(found)
        size = (sides[0], sides[1]) if any(sides) else None
        if number in images:
            raise AnnotationError(
                f"images {shown(images[number].name)!r} and {shown(name)!r} have the same id "
                f"{shown(number)}; give each its own and correct the annotations"
            )
        if name in by_name:
            raise AnnotationError(
                f"film {shown(name)!r} is listed twice, as image {shown(by_name[name])} and as "
                f"image {shown(number)}; keep one entry"
            )
        by_name[name] = number
        images[number] = ImageEntry(where, name, size)
    return images


def _class_of(
    annotation: Mapping[str, object],
    attributes: Mapping[str, object],
    categories: Mapping[str, str],
    class_attribute: str | None,
    classes: Mapping[str, Structure] | None,
) -> tuple[str | None, str]:
    """Class name of an annotation, or None and why."""
    if class_attribute is not None:
        if class_attribute not in attributes:
            found = ", ".join(repr(shown(name)) for name in attributes) or "none"
            return None, (
                f"has no class: it has no attribute {shown(class_attribute)!r} (--class-attribute);"
                f" its attributes: {found}"
            )
        text, why = choice_of(attributes[class_attribute])
        return text, "" if text else f"has no class: of {shown(class_attribute)!r}, {why}"
    wanted = f"known are {known_classes_text(classes)}"
    if not categories:
        return None, f"has no class: the file lists no categories; {wanted}"
    try:
        number = id_of(annotation.get("category_id"), "category_id")
    except AnnotationError as error:
        return None, f"has no class: {error}"
    if number not in categories:
        listed = ", ".join(f"{shown(key)} {shown(name)!r}" for key, name in categories.items())
        return None, (
            f"has no class: category {shown(number)} is not listed; there are {shown(listed, 300)}"
        )
    return categories[number], ""


def read_coco_raw(
    path: str | os.PathLike[str],
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
    value: object = _UNSET,
) -> tuple[RawAnnotation, ...]:
    """Everything in a COCO instances file, unjudged.

    Args:
        path: The file.
        class_attribute: Attribute of the annotations that holds the class instead of the category.
        classes: Further class names, for messages.
        value: The file's content where it has been parsed already.

    Raises:
        AnnotationError: The file cannot be read or is no COCO instances file.
    """
    path = Path(path)
    content = read_json(path) if value is _UNSET else value
    if not is_coco(content) or not isinstance(content, Mapping):
        raise AnnotationError(
            f"{path.name}: is not a COCO instances file; it needs the lists images and annotations"
        )
    try:
        images = _read(content, class_attribute, classes)
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error
    return tuple(
        RawAnnotation(image.name, tuple(image.regions), image.size) for image in images.values()
    )


def _read(
    content: Mapping[str, object],
    class_attribute: str | None,
    classes: Mapping[str, Structure] | None,
) -> dict[str, ImageEntry]:
    listed, annotations = content["images"], content["annotations"]
    assert isinstance(listed, list)
    assert isinstance(annotations, list)
    check_count("annotations", len(annotations), MAX_FILE_REGIONS)
    check_count("images", len(listed), MAX_FILE_FILMS)
    categories = read_categories(content.get("categories") or [])
    images = read_images(listed)
    labels: dict[str, str] = {}
    for place, annotation in enumerate(annotations):
        if not isinstance(annotation, Mapping):
            raise AnnotationError(f"annotations[{place}] is no object; export again")
        known = annotation.get("id") is not None
        label = f"annotation {shown(annotation['id'], 24)}" if known else f"annotations[{place}]"
        image_id = id_of(annotation.get("image_id"), f"{label}: image_id")
        if image_id not in images:
            raise AnnotationError(
                f"{label} is of image {shown(image_id)}, which is not listed; export again"
            )
        image = images[image_id]
        outline = _outline(annotation, image.size)
        doubts = [*outline.doubts, *_box_doubts(annotation, outline.points)]
        attributes = annotation.get("attributes") or {}
        if not isinstance(attributes, Mapping):
            doubts.append(("unknown-level", f"has attributes that are {_NO_OBJECT}"))
            attributes = {}
        if annotation.get("iscrowd") in (1, True, "1"):
            doubts.append(("crowd", "is marked as a crowd and counts as one object all the same"))
        if known and label in labels:
            doubts.append(("same-id", f"has the id of a region of film {labels[label]!r}"))
        labels.setdefault(label, shown(image.name))
        class_name, class_problem = _class_of(
            annotation, attributes, categories, class_attribute, classes
        )
        level, level_text = level_in(attributes, annotation)
        image.regions.append(
            RawRegion(
                len(image.regions),
                "polygon" if outline.points is not None else "",
                outline.points,
                class_name,
                level,
                outline.problem,
                attributes,
                class_problem,
                level_text,
                label,
                outline.mask_size,
                tuple(doubts),
            )
        )
    return images


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
    return tuple(judge(annotation, classes) for annotation in read_coco_raw(path, classes=classes))


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
            attributes = dict(region.provenance)
            if region.level is not None:
                attributes["level"] = region.level
            if attributes:
                item["attributes"] = attributes
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
    replace_file(path, json.dumps(value, indent=1) + "\n")
