"""Checks outlines: ``make check DATA=folder``, or ``python -m spinezoo_spine.annotations.lint``.

Every finding names film, region and rule (:data:`~spinezoo_spine.annotations.rules.RULES`).
Errors stop what reads the outlines, warnings do not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError, FilmError, SpineZooError, TooLargeError
from spinezoo_contract.types import VERTEBRAE, Structure, structure_of_level

from spinezoo_spine.annotations.crossing import find_crossing
from spinezoo_spine.annotations.film_names import FilmNames
from spinezoo_spine.annotations.folder import (
    PREFERRED_ANNOTATIONS,
    find_annotations,
    find_films,
    find_films_below,
    find_pictures,
    has_text_name,
    read_annotations_raw,
)
from spinezoo_spine.annotations.limits import MAX_FILM_COVER, MAX_FILM_REGIONS
from spinezoo_spine.annotations.options import add_outline_options, outline_options
from spinezoo_spine.annotations.raster import Patch, each_patch, patches
from spinezoo_spine.annotations.regions import (
    STRUCTURE_NAMES,
    FilmAnnotation,
    RawAnnotation,
    RawRegion,
    agrees,
    level_of,
    no_class_text,
    polygon_area,
    structure_of,
)
from spinezoo_spine.annotations.rules import RULES, Finding
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.films.reader import DEFAULT_LIMITS, FilmLimits, read_film_file_size

__all__ = [
    "RULES",
    "CheckedFolder",
    "Finding",
    "check_folder",
    "find_crossing",
    "lint_annotations",
    "lint_folder",
    "main",
]

BORDER_TOLERANCE_PX = 1.0
"""How far off the film a point may lie: a click on the last pixel may read as one further."""

MIN_AREA_PX = 1.0
"""Least area of an outline, in square pixels."""

SAME_VERTEBRA_IOU = 0.8
"""Two outlines of vertebrae that overlap so much are of one: neighbours hardly touch."""

SAME_HARDWARE_IOU = 0.95
"""As for vertebrae, of one kind of hardware: rods and screws do lie on each other on such films."""

UPPER_LEFT = 0.55
"""Outlines that all end within this share of width and height may be of a film of half the size."""

MOST_COMPARISONS = 500
"""Pairs of regions of one kind on one film whose pixels are compared; usual films need none."""

READERS = 4
"""Threads that read the headers of films."""


@dataclass(frozen=True, slots=True, eq=False)
class CheckedFolder:
    """A folder of films with its annotation file, checked.

    Attributes:
        annotations_path: The annotation file.
        film_paths: Film files by name; those of sub-folders only as far as entries mean them.
        entries: The file's films under the names of their film files; without a film, their own.
        sizes: (height, width) of each film that can be read, by name.
        findings: Everything that is wrong or worth knowing.
    """

    annotations_path: Path
    film_paths: Mapping[str, Path]
    entries: tuple[RawAnnotation, ...]
    sizes: Mapping[str, tuple[int, int]]
    findings: tuple[Finding, ...]


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


def _size_text(stated: tuple[int, int], size: tuple[int, int]) -> str:
    """How a stated size differs from the film's."""
    (height, width), (rows, columns) = stated, size
    told = f"of {height} x {width} pixels (height x width), the film has {rows} x {columns}"
    if not height or not width:
        side, own = ("width", columns) if width else ("height", rows)
        return f"of {side} {height or width}, the film has {own}"
    if (height, width) == (columns, rows):
        return f"{told}: height and width are swapped"
    if height * columns == width * rows:
        return f"{told}, {rows / height:g} times as much"
    return told


def _lint_size(
    entry: RawAnnotation, size: tuple[int, int], file_bytes: int | None
) -> Iterator[tuple[str, str]]:
    """Whether the outlines were drawn on a film of this size."""
    advice = "export film and outlines at the same size"
    masks = [region.mask_size for region in entry.regions if region.mask_size is not None]
    for stated in ([entry.size] if entry.size is not None else []) + masks:
        if stated is not None and not agrees(stated, size):
            yield "wrong-size", f"is in the annotation file {_size_text(stated, size)}; {advice}"
            return
    if (entry.size is not None and all(entry.size)) or masks:
        return
    points = [region.points_xy for region in entry.regions if region.points_xy is not None]
    if not points:
        return
    every = np.concatenate(points)
    height, width = size
    beyond = bool((every - (width, height)).max() > BORDER_TOLERANCE_PX)
    small = bool((every.max(axis=0) < UPPER_LEFT * np.array([width, height])).all())
    if entry.file_bytes is not None and file_bytes is not None and entry.file_bytes != file_bytes:
        told = f"its file has {file_bytes} bytes, {entry.file_bytes} when it was outlined"
        if beyond or (small and len(points) > 1):
            where = "reach off the film" if beyond else "fill its upper left quarter only"
            yield "wrong-size", f"{told}, and the outlines {where}; {advice}"
            return
        yield "other-file", f"{told}; check that it is the same film at the same size"
    if small and len(points) > 2:
        yield (
            "maybe-scaled",
            "has all outlines in its upper left quarter; check that they were drawn at its size",
        )


def _lint_shape(
    region: RawRegion, patch: Patch | None, size: tuple[int, int] | None
) -> Iterator[tuple[str, str]]:
    points = region.points_xy
    if points is None:
        yield "no-outline", region.problem
        return
    if len(np.unique(points, axis=0)) < 3:
        yield "degenerate", "has fewer than 3 distinct points; draw it again"
        return
    crossing = find_crossing(points)
    area = polygon_area(points)
    if crossing is not None:
        x, y = points[crossing[0]]
        yield (
            "self-crossing",
            f"crosses itself between points {crossing[0]} and {crossing[1]}, near "
            f"({x:.0f}, {y:.0f}); move these points",
        )
    elif area < MIN_AREA_PX:
        yield "degenerate", f"encloses {area:.2f} square pixels; draw it again"
        return
    if size is None or patch is None:
        return
    height, width = size
    beyond = np.maximum(-points, points - np.array([width, height])).max(axis=1)
    worst = int(np.argmax(beyond))
    covered = int(np.count_nonzero(patch.pixels))
    off = f"point {worst} lies {beyond[worst]:.0f} px off the film of {height} x {width} pixels"
    if covered == 0:
        why = off if beyond[worst] > 0.0 else "it passes between the centres of pixels"
        yield "no-pixels", f"covers no pixel of the film ({why}); draw it again, or remove it"
    elif beyond[worst] > BORDER_TOLERANCE_PX:
        if crossing is None and covered < 0.5 * area:
            yield (
                "mostly-outside",
                f"{off}, and {100.0 * (1.0 - covered / area):.0f} % of the region with it; check "
                "that it was drawn on this film",
            )
        else:
            yield (
                "outside-film",
                f"{off}; move it, or check that the outlines were drawn at this size",
            )


def _lint_level(region: RawRegion, structure: Structure | None) -> Iterator[tuple[str, str]]:
    """Whether class and level go together."""
    if region.level_text and region.level is None:
        yield (
            "unknown-level",
            f"has the level {shown(region.level_text)!r}, which is not understood; write T12, L1 "
            "to L6, S1, S2 or two neighbours such as L4/L5",
        )
    of_class = level_of(region.class_name)
    if of_class is not None and region.level is not None and of_class != region.level:
        yield (
            "level-conflict",
            f"is {of_class} by its class and {region.level} by its level; correct one",
        )
    level = region.level or of_class
    if (
        level is not None
        and "/" not in level
        and structure in VERTEBRAE
        and structure is not structure_of_level(level)
    ):
        word = "sacral" if structure is Structure.SACRAL_VERTEBRA else "lumbar"
        yield "odd-level", f"is a {word} vertebra with the level {level}; correct one"


def _outline_key(points: NDArray[np.float64]) -> bytes:
    """The same for outlines of the same points, wherever they begin and whichever way they run."""
    return np.unique(np.round(points, 2) + 0.0, axis=0).tobytes()


def _iou(one: Patch, other: Patch) -> float:
    """IoU of two patches of one film."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(one.rows.stop, other.rows.stop)
    right = min(one.columns.stop, other.columns.stop)
    if bottom <= top or right <= left:
        return 0.0
    shared = [
        patch.pixels[top - patch.top : bottom - patch.top, left - patch.left : right - patch.left]
        for patch in (one, other)
    ]
    both = int(np.count_nonzero(shared[0] & shared[1]))
    either = int(np.count_nonzero(one.pixels)) + int(np.count_nonzero(other.pixels)) - both
    return both / either if either else 0.0


class _Outlined:
    """What is outlined of one kind on a film so far, to find one that is outlined twice.

    Args:
        size: (height, width) of the film, None where unknown.
        same_iou: Two that overlap so much are the same.
    """

    def __init__(self, size: tuple[int, int] | None, same_iou: float) -> None:
        self._size = size
        self._same_iou = same_iou
        self._known: list[tuple[RawRegion, tuple[slice, slice], int]] = []
        self._left = MOST_COMPARISONS

    def same_as(self, region: RawRegion, patch: Patch) -> RawRegion | None:
        """A region that covers the same pixels as this one; else takes note of it."""
        pixels = int(np.count_nonzero(patch.pixels))
        if self._size is None or not pixels:
            return None
        for other, (rows, columns), count in self._known:
            high = min(rows.stop, patch.rows.stop) - max(rows.start, patch.rows.start)
            wide = min(columns.stop, patch.columns.stop) - max(columns.start, patch.columns.start)
            # The greatest overlap that boxes and areas allow.
            both = min(max(high, 0) * max(wide, 0), count, pixels)
            if both < self._same_iou * (count + pixels - both) or not self._left:
                continue
            assert other.points_xy is not None
            self._left -= 1
            (again,) = patches([other.points_xy], *self._size)
            if _iou(again, patch) >= self._same_iou:
                return other
        self._known.append((region, (patch.rows, patch.columns), pixels))
        return None


def _lint_regions(
    entry: RawAnnotation,
    size: tuple[int, int] | None,
    classes: Mapping[str, Structure] | None,
) -> Iterator[Finding]:
    """Everything that is wrong with the regions of one film, in their order."""
    outlines: dict[tuple[Structure, bytes], RawRegion] = {}
    levels: dict[tuple[Structure, str], RawRegion] = {}
    vertebrae = _Outlined(size, SAME_VERTEBRA_IOU)
    known = {
        kind: vertebrae if kind in VERTEBRAE else _Outlined(size, SAME_HARDWARE_IOU)
        for kind in Structure
    }
    polygons = [region.points_xy for region in entry.regions if region.points_xy is not None]
    drawn = each_patch(polygons, *size) if size is not None else None
    for region in entry.regions:
        patch = None if drawn is None or region.points_xy is None else next(drawn)

        def found(rule: str, message: str, region: RawRegion = region) -> Finding:
            return Finding(entry.film_name, region.index, rule, message, region.label)

        wrong_class = no_class_text(region, classes)
        structure = None
        if wrong_class:
            yield found("unknown-class", wrong_class)
        elif region.class_name is not None:
            structure = structure_of(region.class_name, classes)
        for rule, message in (
            *_lint_shape(region, patch, size),
            *_lint_level(region, structure),
            *region.doubts,
        ):
            yield found(rule, message)
        if region.points_xy is None or structure is None:
            continue
        first = outlines.setdefault((structure, _outline_key(region.points_xy)), region)
        if first is not region:
            yield found("duplicate", f"is {first.place} again; remove one")
            continue
        if patch is not None and (same := known[structure].same_as(region, patch)) is not None:
            yield found("duplicate", f"covers the same as {same.place}; remove one")
            continue
        if structure not in VERTEBRAE:
            continue
        level = region.level or level_of(region.class_name)
        if level is not None:
            first = levels.setdefault((structure, level), region)
            if first is not region:
                yield found(
                    "same-level", f"is {level} like {first.place}; correct one of the levels"
                )


def _cover(entry: RawAnnotation, size: tuple[int, int]) -> float:
    """Pixels of the film in the boxes of all regions together, as a multiple of the film's."""
    height, width = size
    points = [region.points_xy for region in entry.regions if region.points_xy is not None]
    sides = [np.ptp(np.clip(one, 0.0, (width, height)), axis=0) for one in points]
    return float(sum(side[0] * side[1] for side in sides)) / (height * width)


def lint_annotations(
    annotations: Iterable[FilmAnnotation | RawAnnotation],
    films: Mapping[str, tuple[int, int]],
    *,
    classes: Mapping[str, Structure] | None = None,
    file_bytes: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Everything that is wrong with outlines, in the order of the file.

    Args:
        annotations: As read, raw (finds more) or judged.
        films: (height, width) of each film by name; ``{}`` makes every film missing.
        classes: Further class names.
        file_bytes: Size of each film's file in bytes by name, where known.
    """
    findings: list[Finding] = []
    for annotation in annotations:
        entry = _raw(annotation)
        size = films.get(entry.film_name)

        def film(rule: str, message: str, entry: RawAnnotation = entry) -> None:
            findings.append(Finding(entry.film_name, None, rule, message))

        if size is None:
            film("no-film", "is not there; add the film or remove its entry")
        if not entry.regions:
            film("no-region", "has no region; outline it, or leave it if nothing is to be seen")
        for rule, message in entry.doubts:
            film(rule, message)
        if len(entry.regions) > MAX_FILM_REGIONS:
            film(
                "too-many-regions",
                f"has {len(entry.regions)} regions, the limit is {MAX_FILM_REGIONS}; remove what "
                "is no single structure",
            )
            continue
        if size is not None and (cover := _cover(entry, size)) > MAX_FILM_COVER:
            film(
                "too-many-regions",
                f"has regions whose boxes are together {cover:.0f} times the film, the limit is "
                f"{MAX_FILM_COVER}; check that they were drawn on this film",
            )
            continue
        sized = size
        if size is not None:
            for rule, message in _lint_size(entry, size, (file_bytes or {}).get(entry.film_name)):
                film(rule, message)
                if rule == "wrong-size":
                    sized = None  # where the outlines lie says nothing then
        findings.extend(_lint_regions(entry, sized, classes))
    return findings


def _sizes(
    films: Mapping[str, Path], limits: FilmLimits
) -> tuple[dict[str, tuple[int, int]], list[Finding]]:
    """(height, width) of films by name, and a finding for each that cannot be read."""

    def read(name: str) -> tuple[int, int] | Finding:
        try:
            return read_film_file_size(films[name], limits=limits)
        except (FilmError, TooLargeError) as error:
            return Finding(name, None, "unreadable-film", f"cannot be read: {error}")

    sizes, unreadable = {}, []
    with ThreadPoolExecutor(READERS) as pool:
        for name, found in zip(films, pool.map(read, films), strict=True):
            if isinstance(found, Finding):
                unreadable.append(found)
            else:
                sizes[name] = found
    return sizes, unreadable


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def check_folder(
    folder: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None = None,
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
    limits: FilmLimits = DEFAULT_LIMITS,
) -> CheckedFolder:
    """Reads a folder's annotation file, matches its entries to films and checks everything.

    Args:
        folder: The films' folder.
        annotations: The annotation file; None looks for it in the folder.
        class_attribute: Attribute that holds the class; None finds it.
        classes: Further class names.
        limits: What is refused by size.

    Raises:
        FilmError: The folder is none or holds no film.
        AnnotationError: The annotation file is missing, cannot be read at all, or two of its
            entries mean one film.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FilmError(f"{folder} is not a folder; give the folder that holds the films")
    films = find_films(folder)
    path = None if annotations is None else Path(annotations)
    below: Mapping[str, Path] = {}
    if not films:
        below = find_films_below(folder)
    if not films and not below:
        raise FilmError(
            f"folder {folder.name!r} holds no film; put DICOM, PNG, JPEG or TIFF files there"
        )
    path = path or find_annotations(folder)
    raw = read_annotations_raw(path, class_attribute=class_attribute, classes=classes)
    pictures = find_pictures(folder)
    names = FilmNames(films, pictures, folder.name)
    if any(
        "/" in entry.film_name
        or "\\" in entry.film_name
        or (found := names.match(entry.film_name)).film is None
        or found.doubt
        for entry in raw
    ):
        below = below or find_films_below(folder)
        names = FilmNames([*films, *below], pictures, folder.name)
    entries: list[RawAnnotation] = []
    said: dict[str, str] = {}
    missing: dict[str, str] = {}
    for entry in raw:
        match = names.match(entry.film_name)
        if match.film is None:
            missing[entry.film_name] = match.why_not
            entries.append(entry)
            continue
        if match.film in said:
            raise AnnotationError(
                f"{path.name}: {shown(said[match.film])!r} and {shown(entry.film_name)!r} both "
                f"mean film {shown(match.film)!r}: it has two entries; keep one, or name the films "
                "with their folders"
            )
        said[match.film] = entry.film_name
        doubts = (("name-differs", match.doubt),) if match.doubt else ()
        entries.append(replace(entry, film_name=match.film, doubts=(*entry.doubts, *doubts)))
    # Of sub-folders only what is meant counts, and its neighbours.
    used = {name.rpartition("/")[0] for name in said if "/" in name}
    films |= {name: file for name, file in below.items() if name.rpartition("/")[0] in used}
    sizes, unreadable = _sizes(films, limits)
    lost = {finding.film for finding in unreadable}
    findings = []
    for finding in lint_annotations(
        entries,
        sizes,
        classes=classes,
        file_bytes={name: _bytes_of(file) for name, file in films.items()},
    ):
        if finding.rule == "no-film":
            if finding.film in lost:
                continue
            finding = replace(finding, message=missing[finding.film])
        findings.append(finding)
    findings += [
        Finding(
            name, None, "no-entry", f"has no entry in {path.name}; outline it, or it is left out"
        )
        for name in films
        if name not in said
    ]
    findings += [
        Finding(
            name,
            None,
            "not-taken",
            "is of a kind that is not taken; save it as PNG or DICOM"
            if has_text_name(name)
            else "has a name that is no Unicode text; rename it",
        )
        for name in pictures
    ]
    order = {name: place for place, name in enumerate(films)}
    unreadable.sort(key=lambda finding: order[finding.film])
    return CheckedFolder(path, films, tuple(entries), sizes, (*unreadable, *findings))


def lint_folder(
    folder: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None = None,
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
    limits: FilmLimits = DEFAULT_LIMITS,
) -> list[Finding]:
    """Everything that is wrong in a folder; see :func:`check_folder` for arguments and errors."""
    checked = check_folder(
        folder, annotations, class_attribute=class_attribute, classes=classes, limits=limits
    )
    return list(checked.findings)


def _what_was_read(checked: CheckedFolder) -> str:
    """The file, what it holds, and which other files of outlines beside it were not looked at."""
    path, outlines = checked.annotations_path, sum(len(entry.regions) for entry in checked.entries)
    beside = (path.with_name(name) for name in PREFERRED_ANNOTATIONS if name != path.name)
    others = ", ".join(other.name for other in beside if other.is_file())
    unread = f" ({others} not read)" if others else ""
    return f"{path.name}{unread}, films {len(checked.entries)}, outlines {outlines}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0 without errors, 1 with some, 2 if nothing can be read."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_spine.annotations.lint",
        description="Checks the outlines of a folder of films with a VIA or COCO file.",
    )
    parser.add_argument("folder", help="folder that holds the films")
    parser.add_argument("--annotations", help="VIA or COCO file; found in the folder by itself")
    add_outline_options(parser, skip=False)
    arguments = parser.parse_args(argv)
    options = outline_options(arguments)
    try:
        checked = check_folder(
            arguments.folder,
            arguments.annotations,
            class_attribute=options.class_attribute,
            classes=options.classes,
        )
    except SpineZooError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    findings = checked.findings
    errors = sum(finding.is_error for finding in findings)
    for finding in findings:
        sys.stdout.write(f"{RULES[finding.rule].weight.value}: {finding}\n")
    warnings = len(findings) - errors
    told = f"{errors} errors, {warnings} warnings" if findings else "nothing is wrong"
    sys.stdout.write(f"{_what_was_read(checked)}: {told}\n")
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
