"""VIA (VGG Image Annotator) files, versions 1, 2 and 3, JSON and CSV, in and out.

What is read
    VIA 1 and 2: exported annotations or a whole project; regions as a list or as an object with
    numbered keys; polygon, rect, ellipse (with ``theta``, radians), circle, and polyline where its
    last point meets its first. VIA 3: projects and CSV; rectangle, circle, ellipse, polygon,
    closed polyline, and the extreme rectangle and extreme circle.
    Points and open lines enclose nothing: :func:`read_via` refuses them, :func:`read_via_raw`
    keeps them with the reason.

Round shapes become polygons of :data:`ROUND_VERTICES` points whose area equals the shape's, so
none of it is lost. VIA's coordinates are taken as they are: (0, 0) is the film's top-left corner.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure

from spinezoo_spine.annotations.regions import (
    STRUCTURE_NAMES,
    FilmAnnotation,
    RawAnnotation,
    RawRegion,
    as_polygon,
    judge,
    level_of,
    structure_of,
)

CLASS_ATTRIBUTES = ("structure", "class", "class_name", "label", "type", "category", "name")
"""Region attributes that may hold the class, tried in this order, without regard to case."""

LEVEL_ATTRIBUTES = ("level", "vertebral_level", "anatomical_level")
"""Region attributes that may hold the anatomical level."""

ROUND_VERTICES = 72
"""Points of the polygon that stands for a circle or an ellipse (one every 5 degrees)."""

CLOSING_DISTANCE_PX = 3.0
"""A polyline whose ends are at most this far apart is closed; a hand clicks no closer."""

_CSV_FIELDS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)
_CSV3_FIELDS = (
    "metadata_id",
    "file_list",
    "flags",
    "temporal_coordinates",
    "spatial_coordinates",
    "metadata",
)
_SHAPES3 = {
    1: "point",
    2: "rect",
    3: "circle",
    4: "ellipse",
    5: "line",
    6: "polyline",
    7: "polygon",
    8: "extreme_rect",
    9: "extreme_circle",
}
_SHAPE_ARGUMENTS = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "point": ("cx", "cy"),
}


# --------------------------------------------------------------------------------------- shapes


def _round(
    cx: float, cy: float, rx: float, ry: float, theta_rad: float = 0.0
) -> NDArray[np.float64]:
    """(ROUND_VERTICES, 2) polygon with the area of an ellipse; theta turns x towards y."""
    step = 2.0 * math.pi / ROUND_VERTICES
    # An inscribed polygon is smaller by sin(step) / step; stretch it to the ellipse's area.
    stretch = math.sqrt(step / math.sin(step))
    angles = np.arange(ROUND_VERTICES) * step
    along, across = rx * stretch * np.cos(angles), ry * stretch * np.sin(angles)
    cos, sin = math.cos(theta_rad), math.sin(theta_rad)
    return np.stack([cx + along * cos - across * sin, cy + along * sin + across * cos], axis=1)


def _without_closing_point(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """VIA 1 repeats the first point at the end; an outline closes by itself."""
    if len(points) > 3 and (points[0] == points[-1]).all():
        return points[:-1]
    return points


def _circle_through(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Polygon of the circle through three points (3, 2)."""
    (ax, ay), (bx, by), (cx, cy) = points
    twice = 2.0 * ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    if abs(twice) < 1e-9:
        raise AnnotationError("extreme circle through three points on one line; draw it again")
    b2 = (bx - ax) ** 2 + (by - ay) ** 2
    c2 = (cx - ax) ** 2 + (cy - ay) ** 2
    x = ((cy - ay) * b2 - (by - ay) * c2) / twice
    y = ((bx - ax) * c2 - (cx - ax) * b2) / twice
    radius = math.hypot(x, y)
    return _round(ax + x, ay + y, radius, radius)


def _numbers(shape: Mapping[str, object], names: Sequence[str]) -> list[float]:
    values = []
    for name in names:
        value = shape.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise AnnotationError(f"{shape.get('name')} has no number {name!r}; draw it again")
        try:
            values.append(float(value))
        except ValueError as error:
            raise AnnotationError(f"{name!r} is {value!r}, which is no number") from error
    if not all(math.isfinite(value) for value in values):
        raise AnnotationError("a coordinate is not a finite number; draw the region again")
    return values


def _outline(name: str, shape: Mapping[str, object]) -> NDArray[np.float64]:
    """The outline of one shape in VIA 2 terms.

    Raises:
        AnnotationError: The shape encloses nothing or is incomplete.
    """
    if name == "rect":
        x, y, width, height = _numbers(shape, _SHAPE_ARGUMENTS["rect"])
        return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    if name == "circle":
        cx, cy, radius = _numbers(shape, _SHAPE_ARGUMENTS["circle"])
        return _round(cx, cy, radius, radius)
    if name == "ellipse":
        cx, cy, rx, ry = _numbers(shape, _SHAPE_ARGUMENTS["ellipse"])
        theta = _numbers(shape, ["theta"])[0] if shape.get("theta") is not None else 0.0
        return _round(cx, cy, rx, ry, theta)
    if name in ("polygon", "polyline", "extreme_rect", "extreme_circle"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise AnnotationError(f"{name} needs all_points_x and all_points_y of equal length")
        try:
            points = np.array([xs, ys], dtype=np.float64).T
        except (TypeError, ValueError) as error:
            raise AnnotationError(f"{name} has a coordinate that is no number") from error
        if name == "polyline":
            ends = points[-1] - points[0] if len(points) else np.array([math.inf])
            if not len(points) > 3 or not math.hypot(*ends) <= CLOSING_DISTANCE_PX:
                raise AnnotationError("polyline does not close; draw it as a polygon")
            return points[:-1]
        if name == "extreme_rect" and len(points) == 4:
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        if name == "extreme_circle" and len(points) == 3:
            return _circle_through(points)
        if name.startswith("extreme"):
            raise AnnotationError(f"{name} has {len(points)} points; draw it again")
        return _without_closing_point(points)
    raise AnnotationError(f"shape {name!r} encloses nothing; outline it as a polygon, or remove it")


def _raw_region(
    index: int,
    shape: Mapping[str, object],
    attributes: Mapping[str, object],
) -> RawRegion:
    """A region without its class, which is looked up once the whole file is known."""
    name = str(shape.get("name", "")).strip().lower()
    points: NDArray[np.float64] | None = None
    problem = ""
    if not name:
        problem = "has no shape; draw its outline"
    else:
        try:
            points = as_polygon(_outline(name, shape))
        except AnnotationError as error:
            problem = str(error)
    return RawRegion(index, name, points, None, None, problem, attributes)


# ------------------------------------------------------------------------------------ VIA 1, 2


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise AnnotationError(f"{what} is not an object; export the annotations from VIA again")
    return value


def _films_of_json2(entries: Mapping[str, object]) -> list[tuple[str, list[RawRegion]]]:
    films = []
    for key, entry in entries.items():
        entry = _mapping(entry, f"entry {key!r}")
        name = str(entry.get("filename") or "")
        if not name:
            raise AnnotationError(f"entry {key!r} has no filename; export from VIA again")
        regions = entry.get("regions") or []
        if isinstance(regions, Mapping):  # VIA 1 numbers them
            regions = [regions[number] for number in sorted(regions, key=_number_key)]
        if not isinstance(regions, list):
            raise AnnotationError(f"film {name!r}: regions is neither a list nor an object")
        raw = []
        for index, region in enumerate(regions):
            region = _mapping(region, f"film {name!r}, region {index}")
            raw.append(
                _raw_region(
                    index,
                    _mapping(region.get("shape_attributes") or {}, "shape_attributes"),
                    _mapping(region.get("region_attributes") or {}, "region_attributes"),
                )
            )
        films.append((name, raw))
    return films


def _number_key(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdigit() else (10**9, key)


def _json_cell(text: str, place: str) -> Mapping[str, object]:
    try:
        value = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise AnnotationError(f"{place}: a cell is not JSON; export the CSV again") from error
    return _mapping(value, f"{place}: a cell")


def _films_of_csv2(
    rows: Iterable[list[str]], header: list[str]
) -> list[tuple[str, list[RawRegion]]]:
    columns = {name: header.index(name) for name in _CSV_FIELDS if name in header}
    missing = [
        name
        for name in ("filename", "region_shape_attributes", "region_attributes")
        if name not in columns
    ]
    if missing:
        raise AnnotationError(f"CSV has no column {missing[0]!r}; export it from VIA again")
    films: dict[tuple[str, str], list[RawRegion]] = {}
    for line, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(header):
            raise AnnotationError(f"CSV row {line} has {len(row)} cells; {len(header)} are needed")
        name = row[columns["filename"]]
        size = row[columns["file_size"]] if "file_size" in columns else ""
        regions = films.setdefault((name, size), [])
        place = f"film {name!r}, CSV row {line}"
        shape = _json_cell(row[columns["region_shape_attributes"]], place)
        count = row[columns["region_count"]].strip() if "region_count" in columns else ""
        if not shape and count == "0":
            continue  # a film without regions has one empty row
        attributes = _json_cell(row[columns["region_attributes"]], place)
        regions.append(_raw_region(len(regions), shape, attributes))
    return [(name, regions) for (name, _), regions in films.items()]


# ---------------------------------------------------------------------------------------- VIA 3


def _shape3(xy: object, place: str) -> Mapping[str, object]:
    """The VIA 2 form of a VIA 3 shape ``[shape id, coordinates ...]``."""
    if not isinstance(xy, list) or not xy:
        return {}
    number, *values = xy
    name = _SHAPES3.get(number if isinstance(number, int) else -1)
    if name is None:
        raise AnnotationError(f"{place}: shape number {number!r} is unknown to VIA 3")
    if name in _SHAPE_ARGUMENTS:
        return {"name": name, **dict(zip(_SHAPE_ARGUMENTS[name], values, strict=False))}
    return {"name": name, "all_points_x": values[0::2], "all_points_y": values[1::2]}


def _attributes3(
    values: Mapping[str, object], definitions: Mapping[str, object]
) -> Mapping[str, object]:
    """Attribute numbers and option numbers as the words they stand for."""
    named: dict[str, object] = {}
    for number, value in values.items():
        definition = definitions.get(number)
        if not isinstance(definition, Mapping):
            named[number] = value
            continue
        options = definition.get("options")
        if isinstance(options, Mapping) and isinstance(value, str):
            chosen = [options.get(part, part) for part in value.split(",")]
            value = chosen[0] if len(chosen) == 1 else {str(part): True for part in chosen}
        named[str(definition.get("aname", number))] = value
    return named


def _films_of_json3(project: Mapping[str, object]) -> list[tuple[str, list[RawRegion]]]:
    files = _mapping(project.get("file") or {}, "file")
    views = _mapping(project.get("view") or {}, "view")
    definitions = _mapping(project.get("attribute") or {}, "attribute")
    films: dict[str, tuple[str, list[RawRegion]]] = {}
    for view_id, view in views.items():
        file_ids = _mapping(view, f"view {view_id!r}").get("fid_list") or []
        if not isinstance(file_ids, list) or len(file_ids) != 1:
            raise AnnotationError(
                f"VIA 3 view {view_id!r} shows {len(file_ids) if isinstance(file_ids, list) else 0}"
                " files; one film a view is understood"
            )
        file = _mapping(files.get(str(file_ids[0])) or {}, f"file of view {view_id!r}")
        name = str(file.get("fname") or file.get("src") or "")
        if not name:
            raise AnnotationError(f"VIA 3 view {view_id!r} has no file name; save it again")
        films[view_id] = (name, [])
    for key, item in _mapping(project.get("metadata") or {}, "metadata").items():
        item = _mapping(item, f"metadata {key!r}")
        view_id = str(item.get("vid", ""))
        if view_id not in films:
            raise AnnotationError(f"VIA 3 metadata {key!r} is of no view; save the project again")
        name, regions = films[view_id]
        shape = _shape3(item.get("xy"), f"film {name!r}, region {len(regions)}")
        if not shape:
            continue  # an attribute of the whole film
        values = _mapping(item.get("av") or {}, "av")
        regions.append(_raw_region(len(regions), shape, _attributes3(values, definitions)))
    return list(films.values())


def _films_of_csv3(
    rows: Iterable[list[str]], definitions: Mapping[str, object]
) -> list[tuple[str, list[RawRegion]]]:
    films: dict[str, list[RawRegion]] = {}
    for line, row in enumerate(rows, start=1):
        if not any(cell.strip() for cell in row):
            continue
        place = f"VIA 3 CSV row {line}"
        if len(row) < len(_CSV3_FIELDS):
            raise AnnotationError(f"{place} has {len(row)} cells; {len(_CSV3_FIELDS)} are needed")
        try:
            names, xy, values = (json.loads(row[column] or "null") for column in (1, 4, 5))
        except ValueError as error:
            raise AnnotationError(f"{place}: a cell is not JSON; export the CSV again") from error
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise AnnotationError(f"{place}: names no single file; one film a view is understood")
        regions = films.setdefault(names[0], [])
        shape = _shape3(xy, f"film {names[0]!r}, region {len(regions)}")
        if not shape:
            continue
        attributes = _attributes3(_mapping(values or {}, place), definitions)
        regions.append(_raw_region(len(regions), shape, attributes))
    return list(films.items())


# -------------------------------------------------------------------------------------- reading


def _text_of(value: object) -> str | None:
    """An attribute's text; a checkbox gives its one ticked option."""
    if isinstance(value, Mapping):
        ticked = [str(key) for key, on in value.items() if on is True]
        return ticked[0] if len(ticked) == 1 else None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    return None


def _attribute(region: RawRegion, name: str) -> str | None:
    for key, value in region.attributes.items():
        if key.strip().lower() == name.lower():
            return _text_of(value)
    return None


def _class_attribute(
    regions: Sequence[RawRegion], classes: Mapping[str, Structure] | None
) -> str | None:
    """The attribute that holds the class: the one with most known names, else the first present."""
    best, best_known, fallback = None, 0, None
    for name in CLASS_ATTRIBUTES:
        texts = [text for region in regions if (text := _attribute(region, name)) is not None]
        known = sum(structure_of(text, classes) is not None for text in texts)
        if known > best_known:
            best, best_known = name, known
        if texts and fallback is None:
            fallback = name
    return best or fallback


def _with_classes(
    films: list[tuple[str, list[RawRegion]]],
    class_attribute: str | None,
    classes: Mapping[str, Structure] | None,
) -> tuple[RawAnnotation, ...]:
    every = [region for _, regions in films for region in regions]
    attribute = class_attribute or _class_attribute(every, classes)
    annotations: dict[str, RawAnnotation] = {}
    for name, regions in films:
        if name in annotations:
            raise AnnotationError(
                f"film {name!r} stands in the file twice; keep one entry a film name"
            )
        finished = []
        for region in regions:
            levels = (level_of(_attribute(region, key)) for key in LEVEL_ATTRIBUTES)
            finished.append(
                RawRegion(
                    region.index,
                    region.shape,
                    region.points_xy,
                    _attribute(region, attribute) if attribute else None,
                    next((level for level in levels if level), None),
                    region.problem,
                    region.attributes,
                )
            )
        annotations[name] = RawAnnotation(name, tuple(finished))
    return tuple(annotations.values())


def films_of_json(value: object) -> list[tuple[str, list[RawRegion]]] | None:
    """Films of a parsed JSON file, or None where it is no VIA file of any version."""
    if not isinstance(value, Mapping):
        return None
    if "_via_img_metadata" in value:
        return _films_of_json2(_mapping(value["_via_img_metadata"], "_via_img_metadata"))
    if {"file", "view", "metadata"} <= set(value):
        return _films_of_json3(value)
    if value and all(
        isinstance(entry, Mapping) and "filename" in entry and "regions" in entry
        for entry in value.values()
    ):
        return _films_of_json2(value)
    return None


def _films_of_csv(text: str) -> list[tuple[str, list[RawRegion]]] | None:
    lines = text.splitlines(keepends=True)
    comments = [line.strip() for line in lines if line.startswith("# ")]
    if any(line.startswith("# CSV_HEADER") and "metadata_id" in line for line in comments):
        definitions: Mapping[str, object] = {}
        for line in comments:
            head, _, rest = line.partition("=")
            if head.strip() in ("# ATTRIBUTE", "# ATTRIBUTES"):
                definitions = _json_cell(rest, "VIA 3 CSV, ATTRIBUTE line")
        # VIA 3 writes quoted cells whose inner quotes are doubled.
        rows = csv.reader(io.StringIO("".join(line for line in lines if line[:2] != "# ")))
        return _films_of_csv3(rows, definitions)
    rows = csv.reader(io.StringIO(text))
    header = [cell.strip().lstrip("#") for cell in next(rows, [])]
    if "filename" not in header or "region_shape_attributes" not in header:
        return None
    return _films_of_csv2(rows, header)


def read_via_raw(
    path: str | os.PathLike[str],
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
) -> tuple[RawAnnotation, ...]:
    """Everything in a VIA file, unjudged: unknown classes and shapes without area stay in.

    Args:
        path: VIA file of version 1, 2 or 3, JSON or CSV.
        class_attribute: Region attribute that holds the class; found by itself where None.
        classes: Further class names, for finding the attribute.

    Raises:
        AnnotationError: The file cannot be read or is no VIA file.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path.name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"{path.name}: is not UTF-8 text; export it from VIA again"
        ) from error
    try:
        if path.suffix.lower() == ".csv":
            films = _films_of_csv(text)
        else:
            films = films_of_json(json.loads(text))
    except (ValueError, RecursionError, csv.Error) as error:
        raise AnnotationError(f"{path.name}: is not valid JSON or CSV; export it again") from error
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error
    if films is None:
        raise AnnotationError(
            f"{path.name}: is not a VIA file of version 1, 2 or 3; export the annotations from VIA"
        )
    try:
        return _with_classes(films, class_attribute, classes)
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error


def read_via(
    path: str | os.PathLike[str],
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
) -> tuple[FilmAnnotation, ...]:
    """The outlines of every film of a VIA file, in the file's order.

    Args:
        path: VIA file of version 1, 2 or 3, JSON or CSV.
        class_attribute: Region attribute that holds the class; found by itself where None.
        classes: Further class names, such as ``{"body": Structure.LUMBAR_VERTEBRA}``.

    Raises:
        AnnotationError: The file is no VIA file, or a region has no outline or no known class;
            the message names film, region, value and the known names.
    """
    raw = read_via_raw(path, class_attribute=class_attribute, classes=classes)
    return tuple(judge(annotation, classes) for annotation in raw)


# -------------------------------------------------------------------------------------- writing


def _region_attributes(level: str | None, structure: Structure) -> dict[str, str]:
    attributes = {"structure": STRUCTURE_NAMES[structure]}
    if level is not None:
        attributes["level"] = level
    return attributes


def _shape2(polygon: NDArray[np.float64], *, closed: bool) -> dict[str, object]:
    points = np.concatenate([polygon, polygon[:1]]) if closed else polygon
    return {
        "name": "polygon",
        "all_points_x": points[:, 0].tolist(),
        "all_points_y": points[:, 1].tolist(),
    }


def _entries(
    annotations: Sequence[FilmAnnotation], sizes: Mapping[str, int], version: int
) -> dict[str, object]:
    entries: dict[str, object] = {}
    for annotation in annotations:
        name = annotation.film_name
        size = sizes[name]
        regions: list[object] = [
            {
                "shape_attributes": _shape2(region.polygon_xy, closed=version == 1),
                "region_attributes": _region_attributes(region.level, region.structure),
            }
            for region in annotation.regions
        ]
        entry: dict[str, object] = {"filename": name, "size": size, "file_attributes": {}}
        if version == 1:
            numbered = {str(index): region for index, region in enumerate(regions)}
            entry |= {"fileref": "", "base64_img_data": "", "regions": numbered}
        else:
            entry["regions"] = regions
        entries[f"{name}{size}"] = entry
    return entries


def _project2(entries: dict[str, object]) -> dict[str, object]:
    options = {name: "" for name in STRUCTURE_NAMES.values()}
    return {
        "_via_settings": {
            "ui": {},
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
            "project": {"name": "SpineZoo"},
        },
        "_via_img_metadata": entries,
        "_via_attributes": {
            "region": {
                "structure": {
                    "type": "dropdown",
                    "description": "",
                    "options": options,
                    "default_options": {},
                },
                "level": {"type": "text", "description": "", "default_value": ""},
            },
            "file": {},
        },
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(entries),
    }


def _definitions3() -> dict[str, object]:
    shared = {"anchor_id": "FILE1_Z0_XY1", "desc": "", "default_option_id": ""}
    options = {name: name for name in STRUCTURE_NAMES.values()}
    return {
        "1": {"aname": "structure", "type": 4, "options": options, **shared},
        "2": {"aname": "level", "type": 1, "options": {}, **shared},
    }


def _items3(annotation: FilmAnnotation, view_id: str) -> dict[str, dict[str, object]]:
    items = {}
    for index, region in enumerate(annotation.regions):
        attributes = _region_attributes(region.level, region.structure)
        values = {"1": attributes["structure"]}
        if "level" in attributes:
            values["2"] = attributes["level"]
        items[f"{view_id}_{index:08d}"] = {
            "vid": view_id,
            "flg": 0,
            "z": [],
            "xy": [7, *region.polygon_xy.ravel().tolist()],
            "av": values,
        }
    return items


def _project3(annotations: Sequence[FilmAnnotation]) -> dict[str, object]:
    numbers = [str(number) for number in range(1, len(annotations) + 1)]
    metadata: dict[str, object] = {}
    for number, annotation in zip(numbers, annotations, strict=True):
        metadata |= _items3(annotation, number)
    return {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": "SpineZoo",
            "data_format_version": "3.1.1",
            "vid_list": numbers,
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {"file_content_align": "center"},
        },
        "attribute": _definitions3(),
        "file": {
            number: {
                "fid": number,
                "fname": annotation.film_name,
                "type": 2,
                "loc": 1,
                "src": annotation.film_name,
            }
            for number, annotation in zip(numbers, annotations, strict=True)
        },
        "metadata": metadata,
        "view": {number: {"fid_list": [number]} for number in numbers},
    }


def _csv2(entries: Mapping[str, object], version: int) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = list(_CSV_FIELDS)
    if version == 1:
        header[0] = "#" + header[0]
    writer.writerow(header)
    for entry in entries.values():
        entry = _mapping(entry, "entry")
        regions = entry["regions"]
        rows = list(regions.values()) if isinstance(regions, Mapping) else list(regions)  # type: ignore[call-overload]
        start = [entry["filename"], entry["size"], "{}", len(rows)]
        for index, region in enumerate(rows):
            shape, attributes = region["shape_attributes"], region["region_attributes"]
            writer.writerow([*start, index, json.dumps(shape), json.dumps(attributes)])
        if not rows:
            writer.writerow([*start, 0, "{}", "{}"])
    return buffer.getvalue()


def _csv3(annotations: Sequence[FilmAnnotation]) -> str:
    buffer = io.StringIO()
    shapes = {name.upper(): number for number, name in _SHAPES3.items()}
    buffer.write(f"# SHAPE_ID = {json.dumps(shapes)}\n")
    buffer.write(f"# ATTRIBUTE = {json.dumps(_definitions3())}\n")
    buffer.write(f"# CSV_HEADER = {','.join(_CSV3_FIELDS)}\n")
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for number, annotation in enumerate(annotations, start=1):
        films = json.dumps([annotation.film_name])
        items = _items3(annotation, str(number))
        for key, item in items.items():
            writer.writerow([key, films, 0, "[]", json.dumps(item["xy"]), json.dumps(item["av"])])
        if not items:  # keeps a film without outlines in the file
            writer.writerow([f"{number}_00000000", films, 0, "[]", "[]", "{}"])
    return buffer.getvalue()


def write_via(
    path: str | os.PathLike[str],
    annotations: Sequence[FilmAnnotation],
    version: int = 2,
) -> None:
    """Writes outlines as VIA polygons; reading them back gives the same numbers.

    JSON of version 1 is the export form, of 2 and 3 a project that VIA opens; a path that ends in
    ``.csv`` gives that version's CSV. VIA 1 and 2 name a film by its file name and size: the size
    is taken from the film beside the file, or -1 where there is none. The file appears whole or
    not at all.

    Args:
        path: Target, ``.json`` or ``.csv``.
        annotations: One a film.
        version: 1, 2 or 3.

    Raises:
        AnnotationError: The version is unknown, the suffix is neither, or a film stands there
            twice.
    """
    path = Path(path)
    if version not in (1, 2, 3):
        raise AnnotationError(f"VIA version {version!r} is unknown; choose 1, 2 or 3")
    if path.suffix.lower() not in (".json", ".csv"):
        raise AnnotationError(f"{path.name}: end the name in .json or .csv")
    names = [annotation.film_name for annotation in annotations]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise AnnotationError(f"film {twice!r} is given twice; give one annotation a film")
    if version == 3:
        content = (
            _csv3(annotations)
            if path.suffix.lower() == ".csv"
            else json.dumps(_project3(annotations), indent=1) + "\n"
        )
    else:
        sizes = {
            name: (path.parent / name).stat().st_size if (path.parent / name).is_file() else -1
            for name in names
        }
        entries = _entries(annotations, sizes, version)
        if path.suffix.lower() == ".csv":
            content = _csv2(entries, version)
        else:
            content = json.dumps(_project2(entries) if version == 2 else entries, indent=1) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)
