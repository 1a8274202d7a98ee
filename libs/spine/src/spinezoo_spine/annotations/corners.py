"""Corner truth: vertebrae as four corners with their levels, as COCO files of such sets hold it.

Categories are levels (``T12``, ``L1``, ...), outlines are the four corners in the order upper back,
upper front, lower front, lower back, and an image may carry the two ends of the upper endplate of
S1, back and front, as ``s1_endplate``; without them the upper corners of an S1 are its endplate.
There is no class of the study in it, so it is read here and not by
:mod:`spinezoo_spine.annotations.coco`.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Segment, structure_of_level
from spinezoo_contract.words import counted

from spinezoo_spine.annotations.coco import (
    id_of,
    is_coco,
    parts_of,
    polygon_of,
    read_categories,
    read_images,
)
from spinezoo_spine.annotations.film_names import FilmNames
from spinezoo_spine.annotations.folder import find_films, find_films_below
from spinezoo_spine.annotations.limits import MAX_COORDINATE_PX
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import (
    Region,
    as_polygon,
    coordinates_of,
    level_of,
    place_of,
    polygon_area,
)
from spinezoo_spine.annotations.text import read_json, shown

_ORDER = "give its four corners: upper back, upper front, lower front, lower back"


@dataclass(frozen=True, slots=True, eq=False)
class CornerFilm:
    """The corner truth of one film.

    Attributes:
        name: The film's file.
        height: Rows in pixels.
        width: Columns in pixels.
        quads: (4, 2) corners x, y by level: upper back, upper front, lower front, lower back.
        s1_endplate: (2, 2) back and front end of the upper endplate of S1, None where it is not in
            view.
    """

    name: str
    height: int
    width: int
    quads: Mapping[str, NDArray[np.float64]]
    s1_endplate: NDArray[np.float64] | None

    def segments(self) -> tuple[Segment, ...]:
        """The outlines as instances with levels, score 1."""
        regions = [
            Region(structure_of_level(level), quad, level) for level, quad in self.quads.items()
        ]
        return segments_from_regions(regions, self.height, self.width)

    def mirrored(self) -> CornerFilm:
        """The truth of the film that looks the other way."""
        flip, shift = np.array([-1.0, 1.0]), np.array([float(self.width), 0.0])
        return self._moved(flip, shift, self.height, self.width)

    def scaled(self, height: int, width: int) -> CornerFilm:
        """The truth of the film resized to (height, width) pixels."""
        factor = np.array([width / self.width, height / self.height])
        return self._moved(factor, np.zeros(2), height, width)

    def _moved(
        self, factor: NDArray[np.float64], shift: NDArray[np.float64], height: int, width: int
    ) -> CornerFilm:
        endplate = self.s1_endplate
        return CornerFilm(
            self.name,
            height,
            width,
            {level: quad * factor + shift for level, quad in self.quads.items()},
            None if endplate is None else endplate * factor + shift,
        )


def read_corners(path: str | os.PathLike[str]) -> tuple[CornerFilm, ...]:
    """The films of a corner file, in its order.

    Raises:
        AnnotationError: It is no COCO file whose categories are levels, or an entry is wrong; the
            message names it.
    """
    path = Path(path)
    value = read_json(path)
    if not is_coco(value):
        raise AnnotationError(f"{path.name}: is no COCO file; give images and annotations")
    try:
        names = read_categories(value["categories"])  # an id twice, or a film twice, is an error
        images = read_images(value["images"])
        quads: dict[str, dict[str, NDArray[np.float64]]] = {key: {} for key in images}
        for number, entry in enumerate(value["annotations"]):
            if not isinstance(entry, Mapping):
                raise AnnotationError(f"annotation {number} is no object; export again")
            name = names.get(
                id_of(entry.get("category_id"), f"annotation {number}: category_id"), ""
            )
            level = level_of(name)
            if level is None or "/" in level:
                raise AnnotationError(
                    f"annotation {number}: its category is no level; name categories T12, L1, ..."
                )
            image_id = id_of(entry.get("image_id"), f"annotation {number}: image_id")
            if image_id not in images:
                raise AnnotationError(f"annotation {number}: its image is not listed")
            own = quads[image_id]
            if level in own:
                raise AnnotationError(f"annotation {number}: {level} is there twice; keep one")
            own[level] = _corners(
                entry.get("segmentation"), images[image_id].size, f"annotation {number} ({level})"
            )
        endplates = [entry.get("s1_endplate") for entry in value["images"]]
        return tuple(
            _film(image.name, image.size, quads[key], endplate)
            for (key, image), endplate in zip(images.items(), endplates, strict=True)
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(
            f"{path.name}: a field is missing or of the wrong kind ({type(error).__name__})"
        ) from error
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error


def read_corner_folder(
    folder: Path, path: Path | None = None
) -> tuple[tuple[CornerFilm, ...], dict[str, str]]:
    """The films of a folder's corner file under the names of their film files.

    Args:
        folder: Of the films.
        path: The corner file; None looks for it in the folder.

    Returns:
        The films, in the file's order; and by the name of each that is not there, why.

    Raises:
        AnnotationError: The corner file is wrong, or two of its images mean one film.
        FilmError: The folder cannot be read.
    """
    path = path or find_corner_file(folder)
    films: dict[str, CornerFilm] = {}
    missing: dict[str, str] = {}
    names = FilmNames(find_films(folder), folder=folder.name)
    read = read_corners(path)
    if any(names.match(film.name).film is None or "/" in film.name for film in read):
        names = FilmNames({**find_films_below(folder), **find_films(folder)}, folder=folder.name)
    for film in read:
        match = names.match(film.name)
        name = match.film
        if name is None or match.doubt:
            name = film.name
            missing[name] = match.why_not or f"{match.doubt}: name both alike"
        if name in films:
            raise AnnotationError(
                f"{path.name}: two of its images mean film {shown(name)!r}; keep one"
            )
        films[name] = dataclasses.replace(film, name=name)
    return tuple(films.values()), missing


def _film(
    name: str,
    size: tuple[int, int] | None,
    quads: Mapping[str, NDArray[np.float64]],
    endplate: object,
) -> CornerFilm:
    """The truth of one film, everything in its order.

    Raises:
        AnnotationError: Its size is not stated, or corners contradict each other.
    """
    if size is None or not all(size):
        raise AnnotationError(f"{name}: height or width is not stated; give both")
    ordered = _in_order(quads, name)
    ends = _endplate(endplate, size, name)
    if ends is None and "S1" in ordered:
        ends = ordered["S1"][:2]
    _check_course(ordered, ends, name)
    if ends is not None and ordered:
        lowest = ordered[max(ordered, key=place_of)]
        front = lowest[1] - lowest[0] + lowest[2] - lowest[3]
        if float((ends[1] - ends[0]) @ front) < 0.0:
            ends = ends[::-1]
    return CornerFilm(name, *size, ordered, ends)


def _check_course(
    quads: Mapping[str, NDArray[np.float64]], endplate: NDArray[np.float64] | None, name: str
) -> None:
    """Refuses levels that do not follow each other along the column.

    Raises:
        AnnotationError: A vertebra does not lie below the next higher one.
    """
    middles = {level: quads[level].mean(axis=0) for level in sorted(quads, key=place_of)}
    if len(middles) < 2:  # nothing tells which way the column runs
        return
    highest, *_, lowest = middles
    course = middles[lowest] - middles[highest]
    if endplate is not None:
        middles.setdefault("S1", endplate.mean(axis=0))
    for above, below in itertools.pairwise(sorted(middles, key=place_of)):
        if float((middles[below] - middles[above]) @ course) <= 0.0:
            raise AnnotationError(
                f"{name}: {below} does not lie below {above} along the column; correct the levels"
            )


def _check_on_film(points: NDArray[np.float64], size: tuple[int, int] | None, name: str) -> None:
    """Refuses what lies off the film, as it does on a film of another size."""
    height, width = size or (0, 0)
    x, y = points.mean(axis=0)
    if (width and not 0.0 <= x <= width) or (height and not 0.0 <= y <= height):
        raise AnnotationError(
            f"{name}: lies off the film; check that it was drawn on this film and at its size"
        )


def _corners(outlines: object, size: tuple[int, int] | None, name: str) -> NDArray[np.float64]:
    """The (4, 2) corners of one vertebra.

    Raises:
        AnnotationError: They are not four, enclose nothing, or lie off the film.
    """
    if not isinstance(outlines, list) or not outlines:
        raise AnnotationError(f"{name}: has no outline; {_ORDER}")
    parts = parts_of(outlines)
    if len(parts) != 1:
        raise AnnotationError(f"{name}: has {counted(len(parts), 'outline')}; {_ORDER}")
    (part,) = parts
    try:
        quad = as_polygon(polygon_of(part))
    except AnnotationError as error:
        raise AnnotationError(f"{name}: {error}") from error
    if len(quad) != 4:
        raise AnnotationError(f"{name}: has {counted(len(quad), 'point')}; {_ORDER}")
    around = quad - quad.mean(axis=0)
    ring = quad[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
    if polygon_area(ring) < 1.0 or len(np.unique(quad, axis=0)) < 4:
        raise AnnotationError(
            f"{name}: two of its corners are one, or it encloses nothing; {_ORDER}"
        )
    _check_on_film(quad, size, name)
    return quad


def _in_order(
    quads: Mapping[str, NDArray[np.float64]], name: str
) -> dict[str, NDArray[np.float64]]:
    """A film's corners (4, 2) by level, each from the upper back one on.

    Most of a film's vertebrae tell where its front is. A vertebra whose corners stand in another
    order is put in order by that and by the course of the column: a slip of the hand in one
    outline costs no film.

    Raises:
        AnnotationError: As many vertebrae look to one side as to the other.
    """
    levels = sorted(quads, key=place_of)
    if not levels:
        return {}
    stated = np.stack([quads[level] for level in levels])
    downs = _downs(stated)
    feet = np.gradient(stated.mean(axis=1), axis=0) if len(levels) > 1 else downs
    fits = (downs * feet).sum(axis=1) > 0.5 * _lengths(downs) * _lengths(feet)
    sides = np.where(fits, _sides(stated, feet), 0.0)
    front = np.sign(sides.sum())
    if front == 0.0:
        raise AnnotationError(f"{name}: its vertebrae look to both sides; {_ORDER}")
    found = dict(zip(levels, stated, strict=True))
    for place in np.flatnonzero(sides != front).tolist():
        quad = stated[place]
        around = quad - quad.mean(axis=0)
        ring = quad[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
        orders = np.stack(
            [np.roll(each, turn, axis=0) for each in (ring, ring[::-1]) for turn in range(4)]
        )
        facing = _sides(orders, feet[place]) == front
        along = np.where(facing, _downs(orders) @ feet[place], -np.inf)
        found[levels[place]] = orders[along.argmax()]
    return {level: found[level] for level in quads}


def _downs(quads: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) from the middle of the first two corners to that of the last two."""
    return np.asarray((quads[:, 2:] - quads[:, :2]).mean(axis=1))


def _sides(quads: NDArray[np.float64], feet: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) 1 where a patient whose feet lie that way looks to the right, -1 to the left."""
    fronts = quads[:, 1] - quads[:, 0] + quads[:, 2] - quads[:, 3]
    return np.sign(fronts[:, 0] * feet[..., 1] - fronts[:, 1] * feet[..., 0])


def _lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hypot(vectors[..., 0], vectors[..., 1])


def _endplate(value: object, size: tuple[int, int], name: str) -> NDArray[np.float64] | None:
    if value is None or value == []:
        return None
    wrong = f"{name}: s1_endplate is not two points; give [[x, y], [x, y]]"
    if not isinstance(value, list):
        raise AnnotationError(wrong)
    pairs = all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    flat = [number for pair in value for number in pair] if pairs else value
    ends = coordinates_of(flat, f"{name}: s1_endplate")
    if ends.shape != (4,) or not (np.abs(ends) <= MAX_COORDINATE_PX).all():
        raise AnnotationError(wrong)
    ends = ends.reshape(2, 2)
    if (ends[0] == ends[1]).all():
        raise AnnotationError(wrong)
    _check_on_film(ends, size, f"{name}: s1_endplate")
    return ends


def find_corner_file(folder: Path) -> Path:
    """The corner file of a folder: ``corners_coco.json``, else the only JSON file there.

    Raises:
        AnnotationError: There is none, or several.
    """
    preferred = folder / "corners_coco.json"
    if preferred.is_file():
        return preferred
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == ".json" and not path.name.startswith(".")
    ]
    if len(found) != 1:
        raise AnnotationError(
            f"folder {folder.name!r} holds {len(found)} JSON files; "
            "put the corner truth there as corners_coco.json"
        )
    return found[0]
