"""Reads VIA's files of the versions 1, 2 and 3, JSON and CSV."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure
from spinezoo_contract.words import counted

from spinezoo_spine.annotations.limits import MAX_FILE_FILMS, MAX_FILE_REGIONS
from spinezoo_spine.annotations.regions import (
    FilmAnnotation,
    RawAnnotation,
    RawRegion,
    as_polygon,
    judge,
    structure_of,
)
from spinezoo_spine.annotations.text import (
    check_count,
    csv_rows,
    foreign_form,
    is_table,
    json_cell,
    parse_json,
    read_text,
    separator_of,
    shown,
    whole_number,
)
from spinezoo_spine.annotations.via.classes import (
    class_attribute_of,
    has_attribute,
    text_of,
    with_class,
)
from spinezoo_spine.annotations.via.fields import (
    CSV3_FIELDS,
    CSV_FIELDS,
    HEIGHT_ATTRIBUTES,
    SHAPES3,
    WIDTH_ATTRIBUTES,
)
from spinezoo_spine.annotations.via.shapes import _SHAPE_ARGUMENTS, outline_of_shape

_UNSET = object()


@dataclass(slots=True)
class Entry:
    """One film of a VIA file while it is read.

    Attributes:
        key: What the file calls the entry, for messages.
        name: File name of the film.
        regions: So far, without classes.
        size: (height, width) that the file states, or None.
        file_bytes: Size of the film's file that the file states, or None.
        doubts: What a reader should know.
    """

    key: str
    name: str
    regions: list[RawRegion] = field(default_factory=list)
    size: tuple[int, int] | None = None
    file_bytes: int | None = None
    doubts: list[tuple[str, str]] = field(default_factory=list)

    def add(
        self, shape: Mapping[str, object], attributes: Mapping[str, object], label: str = ""
    ) -> None:
        """Adds a region; a shape that encloses nothing stays in with the reason."""
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
        self._append(name, points, problem, attributes, label)

    def add_broken(self, problem: str, label: str = "") -> None:
        """Adds a region of which nothing can be read."""
        self._append("", None, problem, {}, label)

    def _append(
        self,
        name: str,
        points: NDArray[np.float64] | None,
        problem: str,
        attributes: Mapping[str, object],
        label: str,
    ) -> None:
        self.regions.append(
            RawRegion(len(self.regions), name, points, None, None, problem, attributes, label=label)
        )


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise AnnotationError(f"{what} is not an object; export the annotations from VIA again")
    return value


def _file_bytes(value: object) -> int | None:
    """VIA's ``size``, which is in bytes and -1 where VIA did not know it."""
    try:
        size = whole_number(value, "size")
    except AnnotationError:
        return None
    return size if size > 0 else None


def _stated_size(place: str, *attributes: Mapping[str, object]) -> tuple[int, int] | None:
    """(height, width) in pixels that attributes of a film state, 0 for a side that they do not.

    None where they state none.

    Raises:
        AnnotationError: One of the two is no whole number above 0.
    """
    sides = []
    for names in (HEIGHT_ATTRIBUTES, WIDTH_ATTRIBUTES):
        values = [
            value
            for own in attributes
            for key, value in own.items()
            if str(key).strip().lower() in names and value not in ("", None, 0, "0")
        ]
        if not values:
            sides.append(0)
            continue
        side = whole_number(values[0], f"{place}: {names[0]}")
        if side < 1:
            raise AnnotationError(f"{place}: {names[0]} is {side}; state it in pixels or remove it")
        sides.append(side)
    return (sides[0], sides[1]) if any(sides) else None


# ------------------------------------------------------------------------------ versions 1 and 2


def _attributes_of(value: object) -> Mapping[str, object] | None:
    """Attributes as an object, also one that was written as text."""
    if isinstance(value, str) and value.strip().startswith("{"):
        try:
            value = parse_json(value)
        except AnnotationError:
            return None
    if value is None or value == "" or value == []:
        return {}
    return value if isinstance(value, Mapping) else None


def _options2(project: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """The options of a project's drop-down lists: by attribute, description by option."""
    definitions = project.get("_via_attributes")
    region = definitions.get("region") if isinstance(definitions, Mapping) else None
    found = {}
    for name, definition in region.items() if isinstance(region, Mapping) else ():
        options = definition.get("options") if isinstance(definition, Mapping) else None
        if isinstance(options, Mapping):
            found[str(name)] = options
    return found


def _described(
    attributes: Mapping[str, object], options: Mapping[str, Mapping[str, object]]
) -> Mapping[str, object]:
    """Attributes whose option is a bare number get its description where that is a class."""
    changed = dict(attributes)
    for name, own in options.items():
        value = attributes.get(name)
        if isinstance(value, str) and structure_of(value) is None:
            description = own.get(value)
            if isinstance(description, str) and structure_of(description) is not None:
                changed[name] = description
    return changed


def _films_of_json2(
    entries: Mapping[str, object], options: Mapping[str, Mapping[str, object]]
) -> list[Entry]:
    films = []
    total = 0
    check_count("films", len(entries), MAX_FILE_FILMS)
    for key, item in entries.items():
        item = _mapping(item, f"entry {shown(key)!r}")
        name = item.get("filename")
        name = str(name) if isinstance(name, (str, int)) else ""
        if not name.strip():
            raise AnnotationError(f"entry {shown(key)!r} has no filename; export from VIA again")
        place = f"film {shown(name)!r}"
        own = _attributes_of(item.get("file_attributes")) or {}
        film = Entry(
            key,
            name,
            size=_stated_size(place, own, item),
            file_bytes=_file_bytes(item.get("size")),
        )
        regions = item.get("regions") or []
        labels: list[str] = []
        if isinstance(regions, Mapping):  # VIA 1 numbers them
            order = sorted(regions, key=_number_key)
            labels = [
                "" if number == str(index) else f"number {shown(number)}"
                for index, number in enumerate(order)
            ]
            regions = [regions[number] for number in order]
        if not isinstance(regions, list):
            raise AnnotationError(f"{place}: regions is neither a list nor an object")
        total += len(regions)
        check_count("regions", total, MAX_FILE_REGIONS)
        for index, region in enumerate(regions):
            label = labels[index] if labels else ""
            if not isinstance(region, Mapping):
                film.add_broken("is no object; draw it again, or remove it", label)
                continue
            shape = _attributes_of(region.get("shape_attributes"))
            attributes = _attributes_of(region.get("region_attributes"))
            if shape is None or attributes is None:
                film.add_broken("has attributes that are no object; draw it again", label)
                continue
            film.add(shape, _described(attributes, options), label)
        films.append(film)
    return films


def _number_key(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdecimal() and len(key) < 10 else (10**9, key)


def _films_of_csv2(text: str, first_line: int, separator: str) -> list[Entry]:
    rows = csv_rows(text, separator, first_line)
    _, header = next(rows)
    header = [cell.strip().lstrip("#").strip().lower() for cell in header]
    columns: dict[str, int] = {}
    for name in CSV_FIELDS:
        if header.count(name) > 1:
            raise AnnotationError(
                f"CSV has {header.count(name)} columns {name!r}; keep the right one"
            )
        if name in header:
            columns[name] = header.index(name)
    for name in ("filename", "region_shape_attributes", "region_attributes"):
        if name not in columns:
            raise AnnotationError(f"CSV has no column {name!r}; export it from VIA again")
    films: dict[tuple[str, str], Entry] = {}
    counts: dict[tuple[str, str], str] = {}
    for number, (line, row) in enumerate(rows):
        check_count("rows", number, MAX_FILE_REGIONS)
        if [cell.strip().lstrip("#").strip().lower() for cell in row] == header:
            continue  # two exports, one behind the other
        if len(row) != len(header) and any(cell.strip() for cell in row[len(header) :]):
            raise AnnotationError(
                f"line {line}: has {counted(len(row), 'cell')}, the header {len(header)}; cells "
                f"that hold {separator!r} stand in quotes, and their own quotes twice"
            )
        if len(row) < len(header):
            raise AnnotationError(
                f"line {line}: has {counted(len(row), 'cell')}; {len(header)} are needed"
            )
        cells = {name: row[column] for name, column in columns.items()}
        name, size = cells["filename"].strip(), cells.get("file_size", "").strip()
        if not name:
            raise AnnotationError(f"line {line}: has no filename; export it from VIA again")
        place = f"line {line}, film {shown(name)!r}"
        values = {}
        for column in ("file_attributes", "region_shape_attributes", "region_attributes"):
            value = json_cell(cells.get(column, ""), f"{place}, column {column}")
            values[column] = _mapping(value, f"{place}, column {column}: the cell")
        film = films.get((name, size))
        stated = _stated_size(place, values["file_attributes"])
        if film is None:
            film = films[name, size] = Entry(
                f"{name} of {size} bytes (line {line})",
                name,
                size=stated,
                file_bytes=_file_bytes(size),
            )
        film.size = film.size or stated
        if stated is not None and film.size != stated:
            raise AnnotationError(
                f"{place}: states another width or height than an earlier line; correct one"
            )
        count = cells.get("region_count", "").strip()
        counts.setdefault((name, size), count)
        none = count in ("0", "0.0") or (not count and not values["region_attributes"])
        if none and not values["region_shape_attributes"]:
            continue  # a film without regions has one empty row
        film.add(values["region_shape_attributes"], values["region_attributes"], f"line {line}")
    for key, film in films.items():
        count = counts[key]
        if count.isdecimal() and int(count) != len(film.regions):
            film.doubts.append(
                (
                    "region-count",
                    f"has {counted(len(film.regions), 'row')}, its region_count says "
                    f"{shown(count, 12)}; check that the file is whole",
                )
            )
    return list(films.values())


# ------------------------------------------------------------------------------------ version 3


def _shape3(xy: object) -> Mapping[str, object]:
    """The VIA 2 form of a VIA 3 shape ``[shape id, coordinates ...]``.

    Raises:
        AnnotationError: VIA knows no such shape.
    """
    if not isinstance(xy, list) or not xy:
        return {}
    number, *values = xy
    try:
        name = SHAPES3.get(whole_number(number, "shape number"))
    except AnnotationError:
        name = None
    if name is None:
        raise AnnotationError(f"shape number {shown(number, 20)} is unknown to VIA 3")
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
        # A text has no options, and may have commas.
        if isinstance(options, Mapping) and options and isinstance(value, (str, int)):
            parts = [part.strip() for part in str(value).split(",")]
            chosen = [options.get(part, part) for part in parts]
            value = chosen[0] if len(chosen) == 1 else {str(part): True for part in chosen}
        named[str(definition.get("aname", number))] = value
    return named


def _add3(
    film: Entry, xy: object, values: object, definitions: Mapping[str, object], label: str
) -> None:
    try:
        shape = _shape3(xy)
    except AnnotationError as error:
        film.add_broken(str(error), label)
        return
    if not shape:
        return  # an attribute of the whole film
    if values is not None and not isinstance(values, Mapping):
        film.add_broken("has attributes that are no object; draw it again", label)
        return
    film.add(shape, _attributes3(values or {}, definitions), label)


def _films_of_json3(project: Mapping[str, object]) -> list[Entry]:
    files = _mapping(project.get("file") or {}, "file")
    views = _mapping(project.get("view") or {}, "view")
    definitions = _mapping(project.get("attribute") or {}, "attribute")
    metadata = _mapping(project.get("metadata") or {}, "metadata")
    films: dict[str, Entry] = {}
    check_count("films", len(views), MAX_FILE_FILMS)
    check_count("regions", len(metadata), MAX_FILE_REGIONS)
    for view_id, view in views.items():
        file_ids = _mapping(view, f"view {shown(view_id)!r}").get("fid_list") or []
        if not isinstance(file_ids, list) or len(file_ids) != 1:
            raise AnnotationError(
                f"VIA 3 view {shown(view_id)!r} shows "
                f"{len(file_ids) if isinstance(file_ids, list) else 0} files; one film a view is "
                "understood"
            )
        file = _mapping(files.get(str(file_ids[0])) or {}, f"file of view {shown(view_id)!r}")
        name = file.get("fname") or file.get("src")
        if not isinstance(name, str) or not name.strip():
            raise AnnotationError(f"VIA 3 view {shown(view_id)!r} has no file name; save it again")
        size = _stated_size(f"film {shown(name)!r}", file)
        films[view_id] = Entry(f"view {view_id}", name, size=size)
    for key, item in metadata.items():
        item = _mapping(item, f"metadata {shown(key)!r}")
        view_id = str(item.get("vid", ""))
        if view_id not in films:
            raise AnnotationError(
                f"VIA 3 metadata {shown(key)!r} is of view {shown(view_id)!r}, which is not "
                "listed; save the project again"
            )
        label = f"metadata {shown(key, 24)}"
        _add3(films[view_id], item.get("xy"), item.get("av"), definitions, label)
    return list(films.values())


def _films_of_csv3(text: str) -> list[Entry]:
    definitions: Mapping[str, object] = {}
    lines = text.split("\n")
    count, separator = 0, ","
    while count < len(lines) and lines[count].strip()[:2] in ("", "#", "# ", '"#'):
        line = lines[count].strip()
        if "CSV_HEADER" in line:
            separator = separator_of(line.partition("=")[2])
        count += 1
    for number, line in enumerate(lines[:count], start=1):
        if line.startswith('"'):  # saved by a program for tables
            line = ",".join(next(csv_rows(line, separator))[1]).rstrip(",")
        head, _, rest = line.strip().partition("=")
        if head.strip(" #") in ("ATTRIBUTE", "ATTRIBUTES"):
            value = json_cell(rest.strip().rstrip(separator), f"line {number}, ATTRIBUTE")
            definitions = _mapping(value, f"line {number}, ATTRIBUTE")
    films: dict[str, Entry] = {}
    rows = csv_rows("\n".join(lines[count:]), separator, count + 1)
    for number, (line_number, row) in enumerate(rows):
        check_count("rows", number, MAX_FILE_REGIONS)
        place = f"line {line_number}"
        if row[0].strip() == CSV3_FIELDS[0]:
            continue
        if len(row) < len(CSV3_FIELDS):
            raise AnnotationError(
                f"{place}: has {counted(len(row), 'cell')}; {len(CSV3_FIELDS)} are needed"
            )
        names, xy, values = (
            json_cell(row[column], f"{place}, column {CSV3_FIELDS[column]}") for column in (1, 4, 5)
        )
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise AnnotationError(f"{place}: names no single file; one film a view is understood")
        film = films.setdefault(names[0], Entry(place, names[0]))
        _add3(film, xy, values, definitions, place)
    return list(films.values())


# ---------------------------------------------------------------------------------- whole files


def films_of_json(value: object) -> list[Entry] | None:
    """Films of a parsed JSON file, or None where it is no VIA file of any version.

    Raises:
        AnnotationError: It is meant as a VIA file, and wrong.
    """
    if isinstance(value, list):  # some programs write a list of VIA's entries
        value = {str(number): entry for number, entry in enumerate(value)}
    if not isinstance(value, Mapping):
        return None
    if "_via_img_metadata" in value:
        entries = _mapping(value["_via_img_metadata"], "_via_img_metadata")
        return _films_of_json2(entries, _options2(value))
    if {"file", "view", "metadata"} <= set(value):
        return _films_of_json3(value)
    if any(
        isinstance(entry, Mapping)
        and "filename" in entry
        and ("regions" in entry or "file_attributes" in entry)
        for entry in value.values()
    ):
        return _films_of_json2(value, {})
    return None


def _films_of_csv(text: str) -> list[Entry] | None:
    if "\r" in text:  # line ends of other systems
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    first_line = 1
    head, _, rest = text.lstrip("\n").partition("\n")
    if head.strip().lower().startswith("sep="):  # a hint for programs for tables
        text, first_line = rest, 2
        head = rest.partition("\n")[0]
    comments = []
    for line in text.lstrip("\n").split("\n"):
        if not line.lstrip('"').startswith("#"):
            break
        comments.append(line)
    if any("CSV_HEADER" in line and "metadata_id" in line for line in comments):
        return _films_of_csv3(text)
    if "filename" not in head.lower() or "region_shape_attributes" not in head.lower():
        return None
    return _films_of_csv2(text, first_line, separator_of(head))


def _with_classes(
    films: list[Entry], class_attribute: str | None, classes: Mapping[str, Structure] | None
) -> tuple[RawAnnotation, ...]:
    every = [region for film in films for region in film.regions]
    common = class_attribute_of(every, classes)

    def attribute_of(region: RawRegion) -> str | None:
        """Where a region's class stands: as in the others, unless it has another attribute only."""
        if class_attribute is not None:
            return class_attribute
        if common is not None and not has_attribute(region, common):
            own = class_attribute_of([region], classes)
            if own is not None and structure_of(text_of(region, own) or "", classes) is not None:
                return own
        return common

    keys: dict[str, str] = {}
    annotations = []
    for film in films:
        if film.name in keys:
            raise AnnotationError(
                f"film {shown(film.name)!r} stands in the file twice, as "
                f"{shown(keys[film.name])!r} and as {shown(film.key)!r}; keep one entry a film name"
            )
        keys[film.name] = film.key
        annotations.append(
            RawAnnotation(
                film.name,
                tuple(
                    with_class(
                        region, attribute_of(region), classes, named=class_attribute is not None
                    )
                    for region in film.regions
                ),
                film.size,
                film.file_bytes,
                tuple(film.doubts),
            )
        )
    return tuple(annotations)


def read_via_raw(
    path: str | os.PathLike[str],
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
    value: object = _UNSET,
) -> tuple[RawAnnotation, ...]:
    """Everything in a VIA file, unjudged: unknown classes and shapes without area stay in.

    Args:
        path: VIA file of version 1, 2 or 3, JSON or CSV.
        class_attribute: Region attribute that holds the class; found by itself where None.
        classes: Further class names, for finding the attribute.
        value: The file's content where it has been parsed already.

    Raises:
        AnnotationError: The file cannot be read or is no VIA file.
    """
    path = Path(path)
    text = read_text(path) if value is _UNSET else ""
    try:
        if value is _UNSET and is_table(path, text):
            films = _films_of_csv(text)
        else:
            value = parse_json(text) if value is _UNSET else value
            films = films_of_json(value)
        if films is None:
            raise AnnotationError(
                f"is {foreign_form(value)}not a VIA file of version 1, 2 or 3; export the "
                "annotations from VIA, or as COCO"
            )
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
