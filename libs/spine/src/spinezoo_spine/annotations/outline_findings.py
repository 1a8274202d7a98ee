"""What is wrong with outlines: each by itself, and those of one film together.

Every finding names film, region and rule (:data:`~spinezoo_spine.annotations.rules.RULES`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import VERTEBRAE, Structure, structure_of_level
from spinezoo_contract.words import counted

from spinezoo_spine.annotations.crossing import find_crossing
from spinezoo_spine.annotations.limits import MAX_FILM_COVER, MAX_FILM_REGIONS
from spinezoo_spine.annotations.raster import Patch, each_patch, patches
from spinezoo_spine.annotations.regions import (
    STRUCTURE_NAMES,
    FilmAnnotation,
    RawAnnotation,
    RawRegion,
    agrees,
    level_of,
    no_class_text,
    place_of,
    polygon_area,
    structure_of,
)
from spinezoo_spine.annotations.rules import Finding
from spinezoo_spine.annotations.text import shown

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

_ANY_LEVEL = {Structure.LUMBAR_VERTEBRA: "T12/L6", Structure.SACRAL_VERTEBRA: "S1/S5"}
"""What a vertebra without a level may be."""

MOST_COMPARISONS = 500
"""Pairs of regions of one kind on one film whose pixels are compared; usual films need none."""


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
    points = [region.points_xy for region in entry.regions if region.points_xy is not None]
    if masks or not points:
        return
    every = np.concatenate(points)
    if every.min() >= 0.0 and every.max() <= 1.0:
        told = "has outlines from 0 to 1, as shares of the film's sides"
        yield "wrong-size", f"{told}; export them in pixels"
        return
    height, width = size
    beyond = bool((every - (width, height)).max() > BORDER_TOLERANCE_PX)
    small = bool((every.max(axis=0) < UPPER_LEFT * np.array([width, height])).all())
    # A file that states the film's size need not state its bytes.
    outlined = None if entry.size is not None and all(entry.size) else entry.file_bytes
    if outlined is not None and file_bytes is not None and outlined != file_bytes:
        told = f"its file has {counted(file_bytes, 'byte')}, {outlined} when it was outlined"
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
    if _runs_twice(points):
        yield (
            "degenerate",
            "runs around twice, so that by the even-odd rule nothing lies inside; remove the "
            "second round",
        )
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


def _runs_twice(points: NDArray[np.float64]) -> bool:
    """Whether the second half of an outline is its first half again."""
    moved = (points != np.roll(points, 1, axis=0)).any(axis=1)  # a double click adds no point
    first, second = np.array_split(points[moved], 2)
    return np.array_equal(first, second)


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


def _lint_order(
    entry: RawAnnotation, classes: Mapping[str, Structure] | None
) -> Iterator[tuple[str, str]]:
    """Whether vertebrae lie one below the other as their levels, or classes, say."""
    names, places, middles = [], [], []
    for region in entry.regions:
        structure = structure_of(region.class_name or "", classes)
        if region.points_xy is None or structure is None or structure not in VERTEBRAE:
            continue
        level = region.level or level_of(region.class_name)
        names.append(f"{region.place} ({level or STRUCTURE_NAMES[structure]})")
        ends = (level or _ANY_LEVEL[structure]).split("/")
        places.append((place_of(ends[0]), place_of(ends[-1])))
        middles.append(region.points_xy[:, 1].min() + region.points_xy[:, 1].max())
    first, last = np.array(places).reshape(-1, 2).T
    down = np.array(middles)
    nearer, further = np.nonzero((last[:, None] < first) & (down[:, None] > down))
    if len(nearer):
        more = f" and {counted(len(nearer) - 1, 'more such pair')}" if len(nearer) > 1 else ""
        yield (
            "level-order",
            f"has {names[further[0]]} above {names[nearer[0]]}{more}; correct the levels, or check "
            "that the head is at the top and that y runs down",
        )


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
        for rule, message in _lint_order(entry, classes):
            film(rule, message)
        findings.extend(_lint_regions(entry, sized, classes))
    return findings
