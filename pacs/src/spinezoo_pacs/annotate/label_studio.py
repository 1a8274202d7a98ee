"""First outlines as tasks of Label Studio, and what people made of them back.

Each region is a result of type ``polygonlabels`` in percent of the picture; level, status and
everything else that a region knows travel beside it (choices of the region, and its ``meta``). A
million-th of a pixel is kept. ``origin`` says what a person did: an outline that was moved or drawn
is ``corrected``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_spine.annotations.regions import as_polygon, coordinates_of
from spinezoo_spine.annotations.text import read_json, shown

from spinezoo_pacs.annotate.project import (
    CORRECTED,
    DAMAGED,
    PREDICTED,
    Outline,
    Picture,
)

PLACES = 6
"""Decimal places of a pixel that survive the way through percent."""

CHOICES = ("level", "status")
"""Attributes that a person sets as choices of a region."""

REMARKS = ("textarea", "relation", "rating", "number", "datetime", "taxonomy")
"""Types of results that are no outline and say nothing that is kept here."""

IMAGES = "/data/local-files/?d="
"""Prefix under which Label Studio serves files of its own disk."""


def tasks_of(
    pictures: Sequence[Picture], sizes: Mapping[str, tuple[int, int]], images: str = IMAGES
) -> list[dict[str, Any]]:
    """Tasks with the outlines as predictions, or as annotations where the film is finished.

    Args:
        pictures: Films of a project.
        sizes: (height, width) of each film, by name.
        images: What stands before a picture's path in Label Studio.
    """
    tasks = []
    for picture in pictures:
        height, width = sizes[picture.film_name]
        results: list[dict[str, Any]] = []
        for number, outline in enumerate(picture.outlines):
            results += _results(f"r{number}", outline, height, width)
        kind = "annotations" if picture.finished else "predictions"
        tasks.append({
            "data": {
                "image": f"{images}{picture.picture}",
                "film": picture.film_name,
                "picture": picture.picture,
                "size_bytes": picture.size_bytes,
                "attributes": dict(picture.attributes),
            },
            kind: [{"result": results}],
        })  # fmt: skip
    return tasks


def _results(region: str, outline: Outline, height: int, width: int) -> list[dict[str, Any]]:
    scale = np.array([100.0 / width, 100.0 / height])
    shared = {
        "id": region, "to_name": "image", "original_width": width, "original_height": height,
        "image_rotation": 0,
    }  # fmt: skip
    attributes = dict(outline.attributes)
    structure = str(attributes.pop("structure", ""))
    chosen = {name: str(attributes.pop(name)) for name in CHOICES if name in attributes}
    points = (outline.points_xy * scale).tolist()
    value: dict[str, Any] = {"points": points, "closed": True}
    polygon = {"polygonlabels": [structure] if structure else []}
    made = [{
        **shared, "type": "polygonlabels", "from_name": "structure",
        "value": {**value, **polygon}, "meta": {"attributes": attributes},
    }]  # fmt: skip
    for name, text in chosen.items():
        choice = {"choices": [text]}
        made.append({**shared, "type": "choices", "from_name": name, "value": {**value, **choice}})
    return made


def pictures_of(tasks: Any) -> list[Picture]:
    """Films of tasks that Label Studio exported as JSON.

    A person's last annotation counts before our prediction; tasks without either are left out.

    Raises:
        AnnotationError: It is no such file; the message says where.
    """
    if not isinstance(tasks, list):
        raise AnnotationError("no export of Label Studio; export the project as JSON")
    pictures: dict[str, Picture] = {}
    for number, task in enumerate(tasks):
        try:
            picture = _picture(task)
        except DAMAGED as error:
            raise AnnotationError(
                f"task {number} of the export cannot be read ({type(error).__name__}); export the "
                "project that `make annotate` made, as JSON"
            ) from None
        if picture is None:
            continue
        if pictures.setdefault(picture.film_name, picture) is not picture:
            raise AnnotationError(
                f"film {picture.film_name!r} has two tasks in the export; remove one in Label "
                "Studio, where tasks were imported twice"
            )
    return list(pictures.values())


def _picture(task: Mapping[str, Any]) -> Picture | None:
    """The film of a task; None where nobody says anything of it, a person who skipped it too."""
    data = task["data"]
    if not isinstance(data["film"], str) or not isinstance(data["picture"], str):
        raise TypeError("the film's name is no text")
    film, of_film = f"film {shown(data['film'])!r}", dict(data.get("attributes") or {})
    made = [each for each in task.get("annotations") or [] if not each.get("was_cancelled")]
    by_person = bool(made)
    entries = made or task.get("predictions") or []
    if not entries:
        return None
    results = [each for each in entries[-1]["result"] if each["type"] not in REMARKS]
    regions: dict[str, dict[str, Any]] = {}
    outlines: dict[str, Outline] = {}
    for result in results:
        chosen = regions.setdefault(result["id"], {})
        if result["type"] == "choices":
            choice = _only(result["value"]["choices"], f"{film}: a region's {result['from_name']}")
            if choice is not None:
                chosen[result["from_name"]] = choice
    for result in results:
        if result["type"] == "choices":
            continue
        if result["type"] != "polygonlabels":
            raise AnnotationError(
                f"{film}: a region is a {shown(result['type'])}; draw it as a polygon"
            )
        if result["id"] in outlines:
            raise AnnotationError(
                f"{film}: two regions have the id {shown(result['id'])!r}; draw one of them again"
            )
        outlines[result["id"]] = _outline(result, regions[result["id"]], by_person, of_film, film)
    return Picture(
        data["film"], data["picture"], int(data["size_bytes"]), tuple(outlines.values()), of_film
    )


def _only(values: Sequence[Any], what: str) -> Any:
    """The one value that was chosen, or None.

    Raises:
        AnnotationError: There are several.
    """
    if len(values) > 1:
        raise AnnotationError(f"{what} has {len(values)} values; choose one in Label Studio")
    return values[0] if values else None


def _points(
    result: Mapping[str, Any], of_film: Mapping[str, Any], film: str
) -> NDArray[np.float64]:
    """(N, 2) points of a region in pixels of the film.

    Raises:
        AnnotationError: They enclose nothing, or were drawn on another or a turned picture.
    """
    value, sides = result["value"], ("width", "height")
    size = [result[f"original_{side}"] for side in sides]
    known = [of_film.get(side, own) for side, own in zip(sides, size, strict=True)]
    if [float(side) for side in known] != [float(side) for side in size]:
        raise AnnotationError(
            f"{film}: a region was drawn on a picture of {size[0]} x {size[1]} pixels (width x "
            f"height), the film has {known[0]} x {known[1]}; load its own picture"
        )
    if result.get("image_rotation"):
        raise AnnotationError(
            f"{film}: a region was drawn on the turned picture; turn it back in Label Studio"
        )
    if value.get("closed") is False:
        raise AnnotationError(f"{film}: a region is an open line; close it in Label Studio")
    flat = [number for x, y in value["points"] for number in (x, y)]
    try:
        percent = coordinates_of(flat, "a region").reshape(-1, 2)
        return np.round(as_polygon(percent * (np.array(size) / 100.0)), PLACES)
    except AnnotationError as error:
        raise AnnotationError(f"{film}: {error}") from error


def _outline(
    result: Mapping[str, Any],
    chosen: Mapping[str, str],
    by_person: bool,
    of_film: Mapping[str, Any],
    film: str,
) -> Outline:
    value = result["value"]
    points = _points(result, of_film, film)
    attributes: dict[str, Any] = {}
    structure = _only(value.get("polygonlabels") or (), f"{film}: a region's structure")
    if structure is not None:
        attributes["structure"] = structure
    attributes |= dict((result.get("meta") or {}).get("attributes") or {})
    attributes |= chosen
    origin = result.get("origin", "")
    touched = origin in ("manual", "prediction-changed")
    if origin == "prediction":
        attributes.setdefault("status", PREDICTED)
    if by_person and touched and attributes.get("status", PREDICTED) == PREDICTED:
        attributes["status"] = CORRECTED
    return Outline(points, attributes)


def write_tasks(
    path: Path, pictures: Sequence[Picture], sizes: Mapping[str, tuple[int, int]]
) -> None:
    """Writes tasks as a file that Label Studio imports."""
    path.write_text(json.dumps(tasks_of(pictures, sizes), indent=1) + "\n", encoding="utf-8")


def read_tasks(path: Path) -> list[Picture]:
    """Reads what Label Studio exported.

    Raises:
        AnnotationError: It cannot be read.
    """
    return pictures_of(read_json(path))
