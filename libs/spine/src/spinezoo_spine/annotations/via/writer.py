"""Writes outlines as VIA polygons of the versions 1, 2 and 3, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_serving.disk import replace_file

from spinezoo_spine.annotations.regions import (
    PROVENANCE,
    STRUCTURE_NAMES,
    FilmAnnotation,
    Region,
)
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.annotations.via.fields import CSV3_FIELDS, CSV_FIELDS, SHAPES3
from spinezoo_spine.annotations.via.reader import _mapping


def _region_attributes(region: Region) -> dict[str, str]:
    attributes = {"structure": STRUCTURE_NAMES[region.structure]}
    if region.level is not None:
        attributes["level"] = region.level
    return {**attributes, **region.provenance}


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
                "region_attributes": _region_attributes(region),
            }
            for region in annotation.regions
        ]
        entry: dict[str, object] = {"filename": name, "size": size, "file_attributes": {}}
        if version == 1:
            numbered = {str(index): region for index, region in enumerate(regions)}
            entry |= {"fileref": "", "base64_img_data": "", "regions": numbered}
        else:
            entry["regions"] = regions
        key = f"{name}{size}"
        while key in entries:  # "IM1" of 15000 bytes and "IM11" of 5000
            key += " "
        entries[key] = entry
    return entries


def _bytes_beside(path: Path) -> int:
    """Size of a film's file, -1 where there is none."""
    try:
        return path.stat().st_size if path.is_file() else -1
    except OSError:  # a name that no file can have
        return -1


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


_NUMBERS3 = {
    name: str(number) for number, name in enumerate(("structure", "level", *PROVENANCE), start=1)
}
"""Numbers by which VIA 3 calls the attributes."""


def _definitions3() -> dict[str, object]:
    shared = {"anchor_id": "FILE1_Z0_XY1", "desc": "", "default_option_id": ""}
    options = {name: name for name in STRUCTURE_NAMES.values()}
    texts = {
        number: {"aname": name, "type": 1, "options": {}, **shared}
        for name, number in _NUMBERS3.items()
    }
    return {**texts, "1": {"aname": "structure", "type": 4, "options": options, **shared}}


def _items3(annotation: FilmAnnotation, view_id: str) -> dict[str, dict[str, object]]:
    items = {}
    for index, region in enumerate(annotation.regions):
        attributes = _region_attributes(region)
        values = {
            number: attributes[name] for name, number in _NUMBERS3.items() if name in attributes
        }
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
    header = list(CSV_FIELDS)
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
    shapes = {name.upper(): number for number, name in SHAPES3.items()}
    buffer.write(f"# SHAPE_ID = {json.dumps(shapes)}\n")
    buffer.write(f"# ATTRIBUTE = {json.dumps(_definitions3())}\n")
    buffer.write(f"# CSV_HEADER = {','.join(CSV3_FIELDS)}\n")
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
        AnnotationError: The version is unknown, the suffix is neither, a film stands there twice,
            or a name is no text.
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
        sizes = {name: _bytes_beside(path.parent / name) for name in names}
        entries = _entries(annotations, sizes, version)
        if path.suffix.lower() == ".csv":
            content = _csv2(entries, version)
        else:
            content = json.dumps(_project2(entries) if version == 2 else entries, indent=1) + "\n"
    try:
        data = content.encode()
    except UnicodeEncodeError as error:
        text = shown(content[max(0, error.start - 20) : error.end + 20])
        raise AnnotationError(
            f"{path.name}: {text!r} is no Unicode text; correct it, or write JSON"
        ) from error
    replace_file(path, data)
