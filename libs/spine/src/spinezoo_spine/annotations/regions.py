"""Outlines drawn on films: the records that every annotation format is read into.

Coordinates are pixels of the film, x to the right, y down, measured from the film's top-left
corner: the centre of the first pixel is (0.5, 0.5). An outline is closed by itself; its first
point is not repeated at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import NAMED_LEVELS, Structure, structure_of_level
from spinezoo_contract.words import counted

from spinezoo_spine.annotations.limits import MAX_COORDINATE_PX, MAX_OUTLINE_POINTS
from spinezoo_spine.annotations.text import shown

STRUCTURE_NAMES: Mapping[Structure, str] = {
    structure: structure.name.lower() for structure in Structure
}
"""The name of each structure in files: ``lumbar_vertebra``, ``sacral_vertebra``, ``cage``, ..."""

OUTLINED_LEVELS = NAMED_LEVELS[NAMED_LEVELS.index("T12") :]
"""Levels the study outlined: T12 and the lumbar ones as one class, S1 and S2 as another."""

CLASS_NAMES: Mapping[str, Structure] = {
    **dict.fromkeys(
        (
            "lumbar vertebra",
            "lumbar vertebrae",
            "lumbar vertebral body",
            "lumbar",
            "vertebra",
            "vertebrae",
            "vertebral body",
            "th12",
        ),
        Structure.LUMBAR_VERTEBRA,
    ),
    **dict.fromkeys(
        (
            "sacral vertebra",
            "sacral vertebrae",
            "sacral vertebral body",
            "sacral",
            "sacrum",
        ),
        Structure.SACRAL_VERTEBRA,
    ),
    **dict.fromkeys(("cage", "cages", "interbody cage", "intervertebral cage"), Structure.CAGE),
    **dict.fromkeys(("screw", "screws", "pedicle screw", "pedicle screws"), Structure.SCREW),
    **dict.fromkeys(
        (
            "rod",
            "rods",
            "plate",
            "plates",
            "rod other",
            "instrumentation",
            "other instrumentation",
            "rod other instrumentation",
        ),
        Structure.ROD,
    ),
    **{level.lower(): structure_of_level(level) for level in OUTLINED_LEVELS},
}
"""Class names that are understood, in the form of :func:`class_key`."""

LEVEL_PATTERN = re.compile(r"^(T1[0-2]|T[1-9]|L[1-6]|S[1-5])(/(T1[0-2]|T[1-9]|L[1-6]|S[1-5]))?$")
"""A level such as ``L4``, or two neighbours such as ``L4/L5`` for what lies between them."""


SEPARATORS = re.compile(r"[\s_\-./&+]+")
"""What may stand between the words of a class name."""

_SHORT_LEVELS = re.compile(r"^([TLS])(\d+)/(\d+)$")


def class_key(name: str) -> str:
    """A class name without case and separators: ``"Lumbar_Vertebra"`` is ``lumbar vertebra``."""
    return " ".join(SEPARATORS.split(name.strip().lower())).strip()


def structure_of(
    class_name: str, classes: Mapping[str, Structure] | None = None
) -> Structure | None:
    """The structure that a class name stands for, or None where it is unknown.

    Args:
        class_name: As written in the file; case and separators do not matter.
        classes: Further names; they win over :data:`CLASS_NAMES`.
    """
    key = class_key(class_name)
    for name, structure in (classes or {}).items():
        if class_key(name) == key:
            return structure
    return CLASS_NAMES.get(key)


def classes_table() -> str:
    """The class names as a Markdown table, for the page of the data format."""
    lines = ["| structure | number | other names that are understood |", "|---|---|---|"]
    for structure, name in STRUCTURE_NAMES.items():
        others = [
            each.upper() if LEVEL_PATTERN.match(each.upper()) else each
            for each, meant in CLASS_NAMES.items()
            if meant is structure and each != class_key(name)
        ]
        lines.append(f"| `{name}` | {int(structure)} | {', '.join(others)} |")
    return "\n".join(lines)


def level_of(text: object) -> str | None:
    """A level in its one spelling (``"th12"`` -> ``"T12"``), or None where the text is none."""
    if not isinstance(text, str):
        return None
    level = text.strip().upper().replace("TH", "T").replace("-", "/").replace(" ", "")
    if short := _SHORT_LEVELS.match(level):  # L4/5
        level = f"{short[1]}{short[2]}/{short[1]}{short[3]}"
    if not LEVEL_PATTERN.match(level):
        return None
    upper, _, lower = level.partition("/")
    return level if not lower or lower in _below(upper) else None


def _below(level: str) -> tuple[str, ...]:
    """The levels that may lie right below one: there are four to six lumbar vertebrae."""
    if level in ("L4", "L5", "L6"):
        return (f"L{int(level[1:]) + 1}", "S1")
    if level in ("T11", "T12"):  # and with eleven to twelve thoracic ones
        return (f"T{int(level[1:]) + 1}", "L1")
    return (f"{level[0]}{int(level[1:]) + 1}",)


def place_of(level: str) -> int:
    """The place of one level along the column, counted from above."""
    return 20 * "CTLS".find(level[0]) + int(level[1:])


def known_classes_text(classes: Mapping[str, Structure] | None = None) -> str:
    """The class names that files should use, for error messages."""
    return ", ".join([*STRUCTURE_NAMES.values(), *(classes or {})])


def agrees(stated: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether the sides that a file states are those of (height, width); 0 is not stated."""
    return all(side in (0, own) for side, own in zip(stated, size, strict=True))


def polygon_area(polygon_xy: NDArray[np.float64]) -> float:
    """Area that a simple closed polygon (N, 2) encloses, in square pixels (shoelace formula)."""
    x, y = polygon_xy[:, 0], polygon_xy[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2.0)


def coordinates_of(values: list[object], what: str) -> NDArray[np.float64]:
    """Coordinates of a file as numbers, also those written as text; they may be of any shape.

    Raises:
        AnnotationError: One is no number.
    """
    try:
        if any(isinstance(value, bool) for value in values):
            raise TypeError("true and false are no coordinates")
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"{what} has a coordinate that is no number; redraw it") from error


def as_polygon(points_xy: ArrayLike) -> NDArray[np.float64]:
    """Points as a read-only (N, 2) float64 array.

    Raises:
        AnnotationError: Not (N, 2), fewer than 3 or too many points, or a coordinate that is not
            finite.
    """
    try:
        polygon = np.array(points_xy, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError("outline is not a list of (x, y) pairs of numbers") from error
    if polygon.ndim != 2 or polygon.shape[1] != 2:
        raise AnnotationError(f"outline has shape {polygon.shape}; give (N, 2) points x, y")
    if len(polygon) < 3:
        count = len(polygon)
        raise AnnotationError(
            f"outline has {counted(count, 'point')} and encloses nothing; draw at least 3, or "
            "remove it"
        )
    if len(polygon) > MAX_OUTLINE_POINTS:
        raise AnnotationError(
            f"outline has {len(polygon)} points, the limit is {MAX_OUTLINE_POINTS}; simplify it"
        )
    if not np.isfinite(polygon).all():
        raise AnnotationError("outline has a coordinate that is not a finite number; redraw it")
    if np.abs(polygon).max() > MAX_COORDINATE_PX:
        raise AnnotationError(
            f"outline has a coordinate beyond {MAX_COORDINATE_PX:.0f} px; redraw it on the film"
        )
    polygon.setflags(write=False)
    return polygon


PROVENANCE = ("status", "source", "source_version", "made_at", "confidence")
"""Region attributes that say where an outline comes from and who has looked at it; every form of
file keeps them."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One outlined structure, valid once constructed.

    Attributes:
        structure: What it is.
        polygon_xy: (N, 2) float64, N at least 3, read-only, finite; may reach over the film.
        level: Anatomical level such as ``"L4"``, or None where unknown.
        provenance: What the file says of :data:`PROVENANCE`.

    Raises:
        AnnotationError: The outline or the level is not of that form.
    """

    structure: Structure
    polygon_xy: NDArray[np.float64]
    level: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Normalises and checks the fields."""
        object.__setattr__(self, "structure", Structure(self.structure))
        object.__setattr__(self, "polygon_xy", as_polygon(self.polygon_xy))
        if self.level is not None and not LEVEL_PATTERN.match(self.level):
            raise AnnotationError(
                f"level {self.level!r} is none; write a level such as L4, S1 or L4/L5"
            )


@dataclass(frozen=True, slots=True, eq=False)
class FilmAnnotation:
    """Every outline of one film; none is a valid answer.

    Attributes:
        film_name: File name as the annotation file gives it.
        regions: The outlines in the order of the file.
    """

    film_name: str
    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        """Checks the fields.

        Raises:
            AnnotationError: The name is empty, or a region is not a :class:`Region`.
        """
        if not self.film_name:
            raise AnnotationError("an annotation has no film name; name its film file")
        object.__setattr__(self, "regions", tuple(self.regions))
        for index, region in enumerate(self.regions):
            if not isinstance(region, Region):
                raise AnnotationError(
                    f"film {self.film_name!r}, region {index}: is a {type(region).__name__}; "
                    "construct a Region"
                )


@dataclass(frozen=True, slots=True, eq=False)
class RawRegion:
    """A region as a file holds it, before it is judged; the linter looks at these.

    Attributes:
        index: Its position within the film, from 0.
        shape: The file's name of the shape, such as ``polygon`` or ``point``.
        points_xy: (N, 2) float64 outline, or None where the shape gives none.
        class_name: The text of the class attribute, or None where there is none.
        level: Anatomical level, or None.
        problem: Why there is no outline, in words; empty where there is one.
        attributes: All attributes of the region.
        class_problem: Why there is no class, in words; empty where there is one.
        level_text: What the file says of the level, understood or not.
        label: What the file calls the region, such as ``annotation 17`` or ``line 5``.
        mask_size: (height, width) that the region itself states (run lengths), or None.
        doubts: (rule, message) of what a reader should know and that changes nothing.
    """

    index: int
    shape: str
    points_xy: NDArray[np.float64] | None
    class_name: str | None
    level: str | None = None
    problem: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    class_problem: str = ""
    level_text: str = ""
    label: str = ""
    mask_size: tuple[int, int] | None = None
    doubts: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str:
        """Which region it is, for messages: position and, where there is one, label."""
        return f"region {self.index}" + (f" ({self.label})" if self.label else "")


@dataclass(frozen=True, slots=True, eq=False)
class RawAnnotation:
    """One film of an annotation file, before it is judged.

    Attributes:
        film_name: File name as the annotation file gives it.
        regions: In the order of the file.
        size: (height, width) in pixels that the file states of the film, 0 for a side that it
            does not state, or None.
        file_bytes: Size of the film's file in bytes that the file states, or None.
        doubts: (rule, message) of what a reader should know of the entry.
    """

    film_name: str
    regions: tuple[RawRegion, ...]
    size: tuple[int, int] | None = None
    file_bytes: int | None = None
    doubts: tuple[tuple[str, str], ...] = ()


def no_class_text(region: RawRegion, classes: Mapping[str, Structure] | None = None) -> str:
    """Why a region stands for no structure, for messages; empty where it stands for one."""
    if region.class_name is None:
        return region.class_problem or (
            f"has no class; give it one of {known_classes_text(classes)}"
        )
    if structure_of(region.class_name, classes) is not None:
        return ""
    return (
        f"class {shown(region.class_name)!r} is unknown; known are {known_classes_text(classes)}; "
        f'rename it, or say what it is by --map "{shown(region.class_name)}=structure"'
    )


def provenance_of(region: RawRegion) -> dict[str, str]:
    """What a region's attributes say of where it comes from."""
    return {
        name: str(region.attributes[name])
        for name in PROVENANCE
        if isinstance(region.attributes.get(name), str | int | float)
    }


def judge(raw: RawAnnotation, classes: Mapping[str, Structure] | None = None) -> FilmAnnotation:
    """A raw annotation as a valid one.

    Args:
        raw: As read.
        classes: Further class names; they win over :data:`CLASS_NAMES`.

    Raises:
        AnnotationError: A region has no outline or no known class; the message names film,
            region, value and the known names.
    """
    regions = []
    for region in raw.regions:
        place = f"film {shown(raw.film_name)!r}, {region.place}"
        if region.points_xy is None:
            raise AnnotationError(f"{place}: {region.problem}")
        wrong = no_class_text(region, classes)
        if wrong or region.class_name is None:
            raise AnnotationError(f"{place}: {wrong}")
        structure = structure_of(region.class_name, classes)
        assert structure is not None
        level = region.level or level_of(region.class_name)
        try:
            regions.append(Region(structure, region.points_xy, level, provenance_of(region)))
        except AnnotationError as error:
            raise AnnotationError(f"{place}: {error}") from error
    return FilmAnnotation(raw.film_name, tuple(regions))
