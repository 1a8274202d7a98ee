"""Outlines as networks, their fusion and people make them, from true ones.

The reader sees places, never the truth: jittered, missing, cut, merged, split and false ones, S1
called lumbar, and chains that begin and end anywhere. How often each happens is set wide on
purpose; nothing here was fitted to real films.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_spine.column.bodies import Shape, shape_of_moments
from spinezoo_spine.column.places import Place

from spinezoo_namer.store import Body


@dataclass(frozen=True, slots=True, eq=False)
class TrueBody:
    """A body and where it counts from S1.

    Attributes:
        position: S1 is 0, the vertebra above it 1, S2 -1, what is below -2.
        shape: Its true shape.
        cut_off: Whether the film's border cuts it.
    """

    position: int
    shape: Shape
    cut_off: bool


LEAST_AREA_PX = 1.0
"""Of a body that is on a film: what the border leaves of others may have no area at all."""


def shape_of_polygon(polygon: NDArray[np.float64]) -> Shape | None:
    """The shape of a closed polygon (N, 2).

    None where it has next to no area, or crosses itself so that its parts cancel out.
    """
    origin = polygon.min(axis=0)
    moments = cv2.moments((polygon - origin).astype(np.float32).reshape(-1, 1, 2))
    area = moments["m00"]
    if area < LEAST_AREA_PX or min(moments["mu20"], moments["mu02"]) <= 0.0:
        return None
    return shape_of_moments(
        area,
        moments["m10"] / area + float(origin[0]),
        moments["m01"] / area + float(origin[1]),
        moments["mu20"] / area,
        moments["mu02"] / area,
        moments["mu11"] / area,
    )


def position_of(level: str, lumbar_count: int) -> int:
    """Where a level counts from S1."""
    number = int(level[1:])
    if level[0] == "S":
        return 1 - number
    if level[0] == "L":
        return lumbar_count + 1 - number
    return lumbar_count + 1 + 12 - number


def true_bodies(
    bodies: Sequence[Body], lumbar_count: int, height: int, width: int
) -> list[TrueBody]:
    """The bodies of a film from below, with a guess at the one below S2."""
    found = []
    for body in bodies:
        low, high = body.outline.min(axis=0), body.outline.max(axis=0)
        cut = bool((low < 0.7).any() or high[0] > width - 0.7 or high[1] > height - 0.7)
        position = position_of(body.level, lumbar_count)
        shape = shape_of_polygon(body.outline)
        if shape is not None:
            found.append(TrueBody(position, shape, cut))
    found.sort(key=lambda body: body.position)
    if len(found) > 1 and found[0].position == -1 and found[1].position == 0:
        second, first = found[0].shape, found[1].shape
        step = np.subtract(second.centre_xy, first.centre_xy) * 0.85
        x, y = np.add(second.centre_xy, step).tolist()
        if 0 < x < width and 0 < y < height:
            found.insert(0, TrueBody(-2, _changed(second, (x, y), 0.82, 1.0, 0.0), False))
    return found


def _changed(
    shape: Shape, centre: tuple[float, float], scale: float, stretch: float, turn: float
) -> Shape:
    dx, dy = shape.direction_xy
    cosine, sine = math.cos(turn), math.sin(turn)
    dx, dy = cosine * dx - sine * dy, sine * dx + cosine * dy
    if dy > 0.0:
        dx, dy = -dx, -dy
    return Shape(
        shape.area_px * scale * scale,
        centre,
        shape.length_px * scale * stretch,
        shape.breadth_px * scale / stretch,
        (dx, dy),
    )


_OFTEN_MISSED = {-1: 0.4, 0: 0.25, 1: 0.1, 6: 0.3, 7: 0.3}
"""Share of vertebrae that a careless network misses, by position; of others 0.04."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """One outline: its place, and the position of the body that it is; None: of none or several."""

    place: Place
    position: int | None


def outlines_of(
    bodies: Sequence[TrueBody],
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    whole: bool = False,
    rough: bool = False,
) -> list[Outline]:
    """Outlines of one film as some network might make them.

    Args:
        bodies: Of :func:`true_bodies`.
        height: Rows of the film.
        width: Columns of the film.
        rng: Source of chance.
        whole: Whether columns are outlined from end to end, as networks do, with their faults;
            else some are a part of the column only.
        rough: Whether the column's ends are often missing and the sacrum is often outlined wrongly,
            as single networks do.
    """
    by_position = {body.position: body for body in bodies}
    kept = _outlined(by_position, rng, whole=whole)
    if rough and rng.random() < 0.4:
        kept = [p for p in kept if rng.random() > _OFTEN_MISSED.get(p, 0.04)]
    sacral = _sacral_positions(rng)
    doubt = float(rng.choice([0.05, 0.2, 0.45]))
    found: list[Outline] = []
    jitter = float(rng.choice([0.02, 0.05, 0.1]))
    for position in kept:
        body = by_position[position]
        size = body.shape.size_px
        x, y = np.add(body.shape.centre_xy, rng.normal(0, jitter, 2) * size).tolist()
        scale = float(np.exp(rng.normal(0, 1.2 * jitter)))
        stretch = float(np.exp(rng.normal(0, jitter)))
        shape = _changed(body.shape, (x, y), scale, stretch, rng.normal(0, jitter))
        found.append(Outline(_place(shape, position in sacral, doubt, body.cut_off, rng), position))
    if len(found) > 2 and rng.random() < 0.08:
        _merge(found, int(rng.integers(0, len(found) - 1)))
    if found and rng.random() < 0.04:
        _split(found, int(rng.integers(0, len(found))))
    if rough and {-1, 0} <= by_position.keys() and rng.random() < 0.2:
        found = [each for each in found if each.position is None or each.position > 0]
        found = [*_sacrum_cut_anew(by_position, rng), *found]
    if found and rough and rng.random() < 0.1:
        found.append(_false_sacral(found[0].place.shape, rng))
    if found and rng.random() < 0.2:
        usual = float(np.median([each.place.shape.size_px for each in found]))
        for _ in range(int(rng.integers(1, 3))):
            found.append(_false(found, usual, height, width, rng))
    for index, each in enumerate(found):
        each.place.index = index
    return found


def _outlined(
    by_position: dict[int, TrueBody], rng: np.random.Generator, *, whole: bool
) -> list[int]:
    """Positions that are outlined."""
    positions = sorted(by_position)
    chance = rng.random()
    if chance < 0.15:  # someone who outlines all
        kept = [position for position in positions if position >= -1]
    elif chance < 0.4 and len(positions) > 3 and not whole:  # some part of the column
        low = int(rng.integers(0, len(positions) - 2))
        high = int(rng.integers(low + 3, len(positions) + 1))
        kept = [position for position in positions[low:high] if position >= -1]
    else:
        shares = {-2: 0.12, -1: 0.8, 0: 0.95, 6: 0.92, 7: 0.5, 8: 0.3, 9: 0.2, 10: 0.15}
        kept = [p for p in positions if rng.random() < shares.get(p, 0.98 if p < 6 else 0.15)]
        if rng.random() < 0.5:  # nothing above the first gap at the top
            for position in range(6, 12):
                if position not in kept:
                    kept = [each for each in kept if each < position]
    if len(kept) > 4 and rng.random() < 0.12:
        gap = int(rng.integers(0, len(kept)))
        kept = [position for place, position in enumerate(kept) if place != gap]
    return kept


def _sacral_positions(rng: np.random.Generator) -> set[int]:
    """Positions that are called sacral."""
    chance = rng.random()
    if chance < 0.55:
        return {-2, -1, 0}
    if chance < 0.85:
        return {-2, -1}
    if chance < 0.90:
        return {-2, -1, 0, 1}
    if chance < 0.94:
        return {-2}
    return set()


def _place(
    shape: Shape, sacral: bool, doubt: float, cut_off: bool, rng: np.random.Generator
) -> Place:
    score = float(1.0 - doubt * rng.beta(1.5, 1.5) * 1.6)
    score = min(1.0, max(0.05, score))
    if rng.random() < 0.5 * doubt:
        score *= float(rng.uniform(0.3, 0.9))
    if rng.random() < 0.03:
        sacral = not sacral
    place = Place(0, shape, 0.0 if sacral else score, score if sacral else 0.0, score)
    if rng.random() < 0.06:  # a duplicate of the other class
        other = score * float(rng.uniform(0.2, 0.95))
        place.lumbar, place.sacral = max(place.lumbar, other), max(place.sacral, other)
        place.lumbar, place.sacral = (other, score) if sacral else (score, other)
    place.cut_off = cut_off
    return place


def _merge(found: list[Outline], at: int) -> None:
    """One outline over two neighbours."""
    low, high = found[at].place.shape, found[at + 1].place.shape
    middle = np.add(low.centre_xy, high.centre_xy) / 2.0
    away = np.subtract(high.centre_xy, low.centre_xy)
    distance = float(np.linalg.norm(away))
    unit = away / max(distance, 1e-6)
    if unit[1] > 0:
        unit = -unit
    size = (low.size_px + high.size_px) / 2.0
    shape = Shape(
        (low.area_px + high.area_px) * 1.08,
        (float(middle[0]), float(middle[1])),
        distance + size,
        size,
        (float(unit[0]), float(unit[1])),
    )
    place = found[at].place
    place.shape = shape
    found[at : at + 2] = [Outline(place, None)]


def _split(found: list[Outline], at: int) -> None:
    """Two outlines over one body, of which none is a vertebra."""
    place = found[at].place
    shape = place.shape
    # Cut across the column: the parts lie above each other.
    up = np.array([0.0, -1.0]) * shape.size_px * 0.25
    parts = []
    for side in (-1.0, 1.0):
        x, y = np.add(shape.centre_xy, side * up).tolist()
        part = Shape(shape.area_px / 2, (x, y), shape.size_px * 1.05, shape.size_px * 0.45, (1, 0))
        parts.append(Outline(Place(0, part, place.lumbar, place.sacral, place.score * 0.9), None))
    found[at : at + 1] = parts


def _sacrum_cut_anew(by_position: dict[int, TrueBody], rng: np.random.Generator) -> list[Outline]:
    """Two to four outlines along the sacrum that follow none of its remnant discs.

    One that lies on S1 or S2, and is no larger or smaller, is that vertebra; the others are none.
    """
    first, second = by_position[0].shape, by_position[-1].shape
    down = np.subtract(second.centre_xy, first.centre_xy)
    distance = max(float(np.linalg.norm(down)), 1e-6)
    down = down / distance
    at = float(rng.uniform(-0.45, 0.3)) * distance
    step = float(rng.uniform(0.5, 1.0)) * distance
    sacral_share = float(rng.choice([1.0, 0.9, 0.5]))
    found: list[Outline] = []
    for _ in range(int(rng.integers(2, 5))):
        x, y = np.add(first.centre_xy, at * down).tolist()
        x += float(rng.normal(0, 0.08)) * distance
        near, position = (first, 0) if at < 0.5 * distance else (second, -1)
        scale = float(np.clip(step / distance * np.exp(rng.normal(0, 0.12)), 0.5, 1.1))
        shape = _changed(near, (x, y), scale, float(np.exp(rng.normal(0, 0.12))), 0.0)
        away = math.dist((x, y), near.centre_xy) / near.size_px
        score = float(rng.uniform(0.3, 1.0))
        sacral = bool(rng.random() < sacral_share)
        place = Place(0, shape, 0.0 if sacral else score, score if sacral else 0.0, score)
        taken = {each.position for each in found}
        alike = away < 0.3 and scale > 0.75 and position not in taken
        found.append(Outline(place, position if alike else None))
        at += step
    return found


def _false_sacral(lowest: Shape, rng: np.random.Generator) -> Outline:
    """An outline below the lowest one where no single vertebra is: over a part of the sacrum."""
    side = lowest.size_px
    x, y = np.add(lowest.centre_xy, [rng.normal(0, 0.5) * side, rng.uniform(0.6, 1.6) * side])
    scale = float(rng.uniform(0.6, 1.2))
    stretch = float(np.exp(rng.normal(0, 0.3)))
    shape = _changed(lowest, (float(x), float(y)), scale, stretch, rng.normal(0, 0.5))
    score = float(rng.uniform(0.2, 1.0))
    sacral = bool(rng.random() < 0.7)
    return Outline(Place(0, shape, 0.0 if sacral else score, score if sacral else 0.0, score), None)


def _false(
    found: Sequence[Outline], usual: float, height: int, width: int, rng: np.random.Generator
) -> Outline:
    """An outline where no body is: beside the column or anywhere."""
    near = found[int(rng.integers(0, len(found)))].place.shape.centre_xy
    side = float(rng.choice([-1.0, 1.0]))
    x = near[0] + side * usual * float(rng.uniform(0.9, 3.0))
    y = near[1] + usual * float(rng.normal(0, 1.5))
    if rng.random() < 0.3:
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
    size = usual * float(rng.uniform(0.45, 1.2))
    stretch = float(np.exp(rng.normal(0.1, 0.15)))
    shape = Shape(size * size, (x, y), size * stretch, size / stretch, (1.0, 0.0))
    score = float(rng.uniform(0.1, 0.9))
    sacral = bool(rng.random() < 0.3)
    return Outline(Place(0, shape, 0.0 if sacral else score, score if sacral else 0.0, score), None)
