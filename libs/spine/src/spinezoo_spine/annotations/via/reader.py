"""Reads VIA's files of the versions 1, 2 and 3, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure

from spinezoo_spine.annotations.regions import (
    FilmAnnotation,
    RawAnnotation,
    RawRegion,
    as_polygon,
    judge,
    level_of,
    structure_of,
)
from spinezoo_spine.annotations.via.fields import (
    CLASS_ATTRIBUTES,
    CSV3_FIELDS,
    CSV_FIELDS,
    LEVEL_ATTRIBUTES,
    SHAPES3,
)
from spinezoo_spine.annotations.via.shapes import _SHAPE_ARGUMENTS, outline_of_shape


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
            points = as_polygon(outline_of_shape(name, shape))
        except AnnotationError as error:
            problem = str(error)
    return RawRegion(index, name, points, None, None, problem, attributes)


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
    columns = {name: header.index(name) for name in CSV_FIELDS if name in header}
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


def _shape3(xy: object, place: str) -> Mapping[str, object]:
    """The VIA 2 form of a VIA 3 shape ``[shape id, coordinates ...]``."""
    if not isinstance(xy, list) or not xy:
        return {}
    number, *values = xy
    name = SHAPES3.get(number if isinstance(number, int) else -1)
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
        if len(row) < len(CSV3_FIELDS):
            raise AnnotationError(f"{place} has {len(row)} cells; {len(CSV3_FIELDS)} are needed")
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
