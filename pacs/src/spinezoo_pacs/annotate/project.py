"""VIA 2 projects whose regions say where they come from and how far a person has looked at them.

Beside structure and level each region has a ``status`` (``predicted``, ``corrected``,
``approved``), and where it comes from: ``source``, ``source_version``, ``made_at``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import NAMED_LEVELS, Structure
from spinezoo_spine.annotations.regions import STRUCTURE_NAMES, as_polygon
from spinezoo_spine.annotations.text import read_json, shown
from spinezoo_spine.annotations.via.classes import choice_of
from spinezoo_spine.annotations.via.shapes import outline_of_shape

PREDICTED, CORRECTED, APPROVED = "predicted", "corrected", "approved"
DAMAGED = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What a file that is not as it should be raises where it is read."""

STATUSES = (PREDICTED, CORRECTED, APPROVED)

NAME = "SpineZoo first outlines"
"""Name of the projects that are written here."""

LEVELS = ("", *NAMED_LEVELS)


@dataclass(frozen=True, slots=True)
class Outline:
    """One region of a project.

    Attributes:
        points_xy: (N, 2), pixels of the film.
        attributes: Of the region, as VIA holds them; unknown ones stay.
    """

    points_xy: NDArray[np.float64]
    attributes: Mapping[str, Any]

    @property
    def status(self) -> str:
        """How far a person has looked at it; what a person drew has none and is corrected.

        One of :data:`STATUSES`, or what else stands there.
        """
        return _said(self.attributes.get("status")) or CORRECTED


@dataclass(frozen=True, slots=True)
class Picture:
    """One film of a project.

    Attributes:
        film_name: The film's file in the set.
        picture: Path of the picture that VIA shows, relative to the project.
        size_bytes: Of that picture.
        outlines: The regions.
        attributes: Of the file, as VIA holds them.
    """

    film_name: str
    picture: str
    size_bytes: int
    outlines: tuple[Outline, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether a person has looked at every outline, or said that none belongs there."""
        if not self.outlines:
            return _said(self.attributes.get("film_status")) == "finished"
        return all(each.status in (CORRECTED, APPROVED) for each in self.outlines)


def _said(value: object) -> str:
    """What a list or a box says in lower case; empty where nothing is chosen."""
    text, why = choice_of(value)
    if text is None and isinstance(value, (Mapping, list)) and value:
        return why  # two boxes are ticked
    return (text or "").casefold()


def _options(names: Sequence[str], default: str) -> dict[str, Any]:
    return {
        "type": "dropdown",
        "description": "",
        "options": {name: name for name in names if name},
        "default_options": {default: True} if default else {},
    }


def project(pictures: Sequence[Picture]) -> dict[str, Any]:
    """A VIA 2 project with the pictures in their order."""
    metadata = {}
    for picture in pictures:
        metadata[f"{picture.picture}{picture.size_bytes}"] = {
            "filename": picture.picture,
            "size": picture.size_bytes,
            "regions": [
                {
                    "shape_attributes": {
                        "name": "polygon",
                        "all_points_x": each.points_xy[:, 0].tolist(),
                        "all_points_y": each.points_xy[:, 1].tolist(),
                    },
                    "region_attributes": dict(each.attributes),
                }
                for each in picture.outlines
            ],
            "file_attributes": {"film": picture.film_name, **picture.attributes},
        }
    text = {"type": "text", "description": "", "default_value": ""}
    return {
        "_via_settings": {
            "ui": {
                "annotation_editor_height": 25,
                "annotation_editor_fontsize": 0.8,
                "leftsidebar_width": 18,
                "image_grid": {"img_height": 80, "rshape_fill": "none", "rshape_fill_opacity": 0.3,
                               "rshape_stroke": "yellow", "rshape_stroke_width": 2,
                               "show_region_shape": True, "show_image_policy": "all"},
                "image": {"region_label": "level", "region_color": "status",
                          "region_label_font": "10px Sans", "on_image_annotation_editor_placement":
                          "NEAR_REGION"},
            },
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
            "project": {"name": NAME},
        },
        "_via_img_metadata": metadata,
        "_via_attributes": {
            "region": {
                "structure": _options(list(STRUCTURE_NAMES.values()), ""),
                "level": _options(LEVELS, ""),
                "status": _options(STATUSES, CORRECTED),
                "source": text, "source_version": text, "made_at": text, "confidence": text,
            },
            "file": {"film": text, "film_status": _options(("open", "finished"), "open"),
                     "dispute": text},
        },
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(metadata),
    }  # fmt: skip


def read_project(path: Path) -> list[Picture]:
    """The pictures of a project that this module wrote and a person changed.

    Raises:
        AnnotationError: The file is no such project; the message says where.
    """
    if not path.is_file():
        raise AnnotationError(f"there is no {path}; `make annotate` makes it from the films")
    document = read_json(path)
    try:
        return _pictures(document, path.name)
    except DAMAGED as error:
        raise AnnotationError(
            f"{path.name} is no VIA 2 project ({type(error).__name__}); save it by Project, Save"
        ) from None


def is_ours(path: Path) -> bool:
    """Whether a file of outlines was written by this module.

    Raises:
        AnnotationError: It cannot be read.
    """
    document = read_json(path)
    settings = document.get("_via_settings") if isinstance(document, Mapping) else None
    own = settings.get("project") if isinstance(settings, Mapping) else None
    return isinstance(own, Mapping) and own.get("name") == NAME


def _pictures(document: Any, name: str) -> list[Picture]:
    """The pictures of a parsed project; whatever is not as it should be raises anything."""
    entries = document["_via_img_metadata"]
    order = dict.fromkeys([*(document.get("_via_image_id_list") or ()), *entries])
    found: dict[str, Picture] = {}
    for key in order:
        if key not in entries:
            continue
        entry = entries[key]
        of_file = dict(entry.get("file_attributes") or {})
        film = str(of_file.pop("film", "") or entry["filename"])
        outlines = []
        for number, region in enumerate(entry.get("regions") or []):
            shape = region.get("shape_attributes") or {}
            try:
                points = as_polygon(outline_of_shape(str(shape.get("name")), shape))
            except AnnotationError as error:
                raise AnnotationError(
                    f"{name}, film {shown(film)!r}, region {number}: {error}"
                ) from error
            outlines.append(Outline(points, dict(region.get("region_attributes") or {})))
        if film in found:
            raise AnnotationError(
                f"{name}: film {shown(film)!r} stands there twice, with the pictures "
                f"{shown(found[film].picture)!r} and {shown(entry['filename'])!r}; remove one"
            )
        found[film] = Picture(
            film, str(entry["filename"]), int(entry["size"]), tuple(outlines), of_file
        )
    return list(found.values())


def structure_name(structure: Structure) -> str:
    """How a structure is called in files."""
    return STRUCTURE_NAMES[structure]
