"""Finds wrong outlines and names film and region.

The command: ``python -m spinezoo_spine.annotations.lint FOLDER``.

Rules
    ``no-film``         the annotation file names a film that is not there
    ``unreadable-film`` the film is there and cannot be read
    ``no-outline``      a film, or a region, has no outline that encloses anything
    ``unknown-class``   the class is missing or stands for none of the structures
    ``degenerate``      fewer than three distinct points, or an area below one pixel
    ``self-crossing``   the outline crosses itself, so that inside and outside are unclear
    ``outside-film``    a point lies more than one pixel off the film
    ``duplicate``       the same outline or the same vertebra twice on one film
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import FilmError, SpineZooError, TooLargeError
from spinezoo_contract.types import VERTEBRAE, Structure

from spinezoo_spine.annotations.film_set import (
    find_annotations,
    find_films,
    match_film,
    read_annotations_raw,
)
from spinezoo_spine.annotations.regions import (
    STRUCTURE_NAMES,
    FilmAnnotation,
    RawAnnotation,
    RawRegion,
    known_classes_text,
    polygon_area,
    structure_of,
)
from spinezoo_spine.films.reader import DEFAULT_LIMITS, FilmLimits, read_film_file_size

BORDER_TOLERANCE_PX = 1.0
"""How far off the film a point may lie: a click on the last pixel may read as one further."""

MIN_AREA_PX = 1.0
"""Least area of an outline, in square pixels."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        film: Name of the film.
        region_index: Position of the region within the film, from 0; None for the whole film.
        rule: Name of the rule; they are listed above.
        message: What is wrong and what to do.
    """

    film: str
    region_index: int | None
    rule: str
    message: str

    def __str__(self) -> str:
        """One line for a terminal."""
        place = "" if self.region_index is None else f", region {self.region_index}"
        return f"{self.film}{place}: {self.rule}: {self.message}"


def find_crossing(polygon_xy: NDArray[np.float64]) -> tuple[int, int] | None:
    """Two edges (by the index of their first point) of a closed polygon that cross, or None.

    Edges that merely touch in a point are not counted; edges that lie on each other are.
    """
    distinct = np.abs(polygon_xy - np.roll(polygon_xy, -1, axis=0)).sum(axis=1) > 0
    numbers = np.flatnonzero(distinct)
    start = polygon_xy[numbers]
    end = np.roll(start, -1, axis=0)
    count = len(start)
    index = np.arange(count)
    for first in range(0, count, 256):  # in pieces: memory grows with the square otherwise
        a, b = start[first : first + 256, None], end[first : first + 256, None]
        c, d = start[None], end[None]
        side_c, side_d = _side(a, b, c), _side(a, b, d)
        side_a, side_b = _side(c, d, a), _side(c, d, b)
        crossing = (side_c * side_d < 0) & (side_a * side_b < 0)
        on_one_line = (side_c == 0) & (side_d == 0)
        if on_one_line.any():
            along = b - a
            length = (along * along).sum(axis=-1)
            from_c = ((c - a) * along).sum(axis=-1) / length
            from_d = ((d - a) * along).sum(axis=-1) / length
            shared = np.minimum(np.maximum(from_c, from_d), 1.0) - np.maximum(
                np.minimum(from_c, from_d), 0.0
            )
            crossing |= on_one_line & (shared > 1e-9)
        crossing[np.arange(len(a)), index[first : first + 256]] = False
        if crossing.any():
            row, column = np.argwhere(crossing)[0]
            return int(numbers[first + row]), int(numbers[column])
    return None


def _side(
    a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]
) -> NDArray[np.float64]:
    """On which side of the line from a to b the point c lies."""
    ahead, aside = b - a, c - a
    return np.sign(ahead[..., 0] * aside[..., 1] - ahead[..., 1] * aside[..., 0])


def _raw(annotation: FilmAnnotation | RawAnnotation) -> RawAnnotation:
    if isinstance(annotation, RawAnnotation):
        return annotation
    return RawAnnotation(
        annotation.film_name,
        tuple(
            RawRegion(
                index,
                "polygon",
                region.polygon_xy,
                STRUCTURE_NAMES[region.structure],
                region.level,
            )
            for index, region in enumerate(annotation.regions)
        ),
    )


def _lint_shape(film: str, region: RawRegion, size: tuple[int, int] | None) -> Iterable[Finding]:
    points = region.points_xy
    if points is None:
        yield Finding(film, region.index, "no-outline", region.problem)
        return
    if len(np.unique(points, axis=0)) < 3:
        yield Finding(
            film, region.index, "degenerate", "has fewer than 3 distinct points; draw it again"
        )
        return
    crossing = find_crossing(points)
    if crossing is not None:
        x, y = points[crossing[0]]
        yield Finding(
            film,
            region.index,
            "self-crossing",
            f"crosses itself between points {crossing[0]} and {crossing[1]}, near "
            f"({x:.0f}, {y:.0f}); move these points",
        )
    elif (area := polygon_area(points)) < MIN_AREA_PX:
        yield Finding(
            film, region.index, "degenerate", f"encloses {area:.2f} square pixels; draw it again"
        )
    if size is not None:
        height, width = size
        beyond = np.maximum(-points, points - np.array([width, height])).max(axis=1)
        worst = int(np.argmax(beyond))
        if beyond[worst] > BORDER_TOLERANCE_PX:
            yield Finding(
                film,
                region.index,
                "outside-film",
                f"point {worst} lies {beyond[worst]:.0f} px off the film of {height} x {width} "
                "pixels; move it, or check that the outlines were drawn at this size",
            )


def _outline_key(points: NDArray[np.float64]) -> bytes:
    """The same for outlines of the same points, wherever they begin and whichever way they run."""
    return np.unique(np.round(points, 2), axis=0).tobytes()


def _lint_regions(
    annotation: RawAnnotation,
    size: tuple[int, int] | None,
    classes: Mapping[str, Structure] | None,
) -> Iterable[Finding]:
    film = annotation.film_name
    outlines: dict[tuple[Structure | None, bytes], int] = {}
    levels: dict[tuple[Structure, str], int] = {}
    for region in annotation.regions:
        structure = None
        if region.class_name is None:
            yield Finding(
                film,
                region.index,
                "unknown-class",
                f"has no class; give it one of {known_classes_text(classes)}",
            )
        else:
            structure = structure_of(region.class_name, classes)
            if structure is None:
                yield Finding(
                    film,
                    region.index,
                    "unknown-class",
                    f"class {region.class_name!r} is unknown; known are "
                    f"{known_classes_text(classes)}",
                )
        yield from _lint_shape(film, region, size)
        if region.points_xy is not None:
            first = outlines.setdefault((structure, _outline_key(region.points_xy)), region.index)
            if first != region.index:
                yield Finding(
                    film, region.index, "duplicate", f"is region {first} again; remove one"
                )
                continue
        if structure in VERTEBRAE and region.level is not None:
            first = levels.setdefault((structure, region.level), region.index)
            if first != region.index:
                yield Finding(
                    film,
                    region.index,
                    "duplicate",
                    f"is {region.level} like region {first}; correct one of the levels",
                )


def lint_annotations(
    annotations: Iterable[FilmAnnotation | RawAnnotation],
    films: Mapping[str, tuple[int, int]],
    *,
    classes: Mapping[str, Structure] | None = None,
) -> list[Finding]:
    """Everything that is wrong with outlines, in the order of the file.

    Args:
        annotations: As read, raw (finds more) or judged.
        films: (height, width) of each film by name; ``{}`` makes every film missing.
        classes: Further class names.
    """
    findings: list[Finding] = []
    for annotation in annotations:
        raw = _raw(annotation)
        size = films.get(raw.film_name)
        if size is None:
            findings.append(
                Finding(
                    raw.film_name,
                    None,
                    "no-film",
                    "there is no such film; add the film or remove its entry",
                )
            )
        if not raw.regions:
            findings.append(
                Finding(
                    raw.film_name,
                    None,
                    "no-outline",
                    "has no region; outline it, or leave it if nothing is to be seen",
                )
            )
        findings.extend(_lint_regions(raw, size, classes))
    return findings


def lint_folder(
    folder: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None = None,
    *,
    classes: Mapping[str, Structure] | None = None,
    limits: FilmLimits = DEFAULT_LIMITS,
) -> list[Finding]:
    """Everything that is wrong in a folder of films with a VIA or COCO file.

    Args:
        folder: The films' folder.
        annotations: The annotation file; None looks for it in the folder.
        classes: Further class names.
        limits: What is refused by size.

    Raises:
        FilmError: The folder is none.
        AnnotationError: The annotation file is missing or cannot be read at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FilmError(f"{folder} is not a folder; give the folder that holds the films")
    path = Path(annotations) if annotations is not None else find_annotations(folder)
    files = find_films(folder)
    sizes: dict[str, tuple[int, int]] = {}
    unreadable: list[Finding] = []
    for name, file in files.items():
        try:
            sizes[name] = read_film_file_size(file, limits=limits)
        except (FilmError, TooLargeError) as error:
            unreadable.append(Finding(name, None, "unreadable-film", str(error)))
    wrong = {finding.film for finding in unreadable}
    entries = []
    for entry in read_annotations_raw(path, classes=classes):
        film_name = match_film(entry.film_name, files)
        entries.append(RawAnnotation(film_name or entry.film_name, entry.regions))
    findings = lint_annotations(entries, sizes, classes=classes)
    findings = [item for item in findings if item.rule != "no-film" or item.film not in wrong]
    named = {entry.film_name for entry in entries}
    findings += [
        Finding(name, None, "no-outline", f"has no entry in {path.name}; outline it or remove it")
        for name in files
        if name not in named
    ]
    return unreadable + findings


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0 where nothing is wrong, 1 with findings, 2 if nothing can be read."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_spine.annotations.lint",
        description="Finds wrong outlines in a folder of films with a VIA or COCO file.",
    )
    parser.add_argument("folder", help="folder that holds the films")
    parser.add_argument("--annotations", help="VIA or COCO file; found in the folder by itself")
    arguments = parser.parse_args(argv)
    try:
        findings = lint_folder(arguments.folder, arguments.annotations)
    except SpineZooError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{len(findings)} findings\n" if findings else "nothing is wrong\n")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
