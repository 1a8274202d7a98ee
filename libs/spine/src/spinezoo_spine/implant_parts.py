"""Implants of whole-class regions as objects: rods joined, and what lies on a part given back.

A label map shows one structure at each pixel. What that hides is undone here:

1. a rod is cut by the heads of its screws: its pieces are joined where one goes on in the
   direction of another and only other metal lies between, and get the band between them;
2. a screw is cut by another one that lies on it. Networks are taught a line of background there
   (``spinezoo_training.targets``), so that both are components of their own; what crosses below
   is joined like a rod and gets back the metal within its convex hull;
3. where no line is seen, two screws in one blob are told by its breadth, see
   :mod:`spinezoo_spine.implant_pairs`; two that cover each other wholly stay one;
4. specks at borders are no implants.

How much that brings back: ``docs/implants.md``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Structure

from spinezoo_spine.components import components
from spinezoo_spine.implant_pairs import middle_of, parted_pairs

IMPLANTS = (Structure.CAGE, Structure.SCREW, Structure.ROD)
"""Structures that are implants."""

_TURN_COSINE = math.cos(math.radians(40.0))
"""Most that a rod turns between two of its pieces, and from a piece to the gap."""

_REACH = 6.0
"""Longest gap in a rod that is bridged, in widths of the rod: a head of 12 mm on 5.5 mm, aslant."""

_LONG = 2.0
"""A piece that is so many times as long as its object is wide has a direction."""

_METAL_SHARE = 0.6
"""Share of the line across a gap that has to be metal."""

_HULL_FACTOR = 1.8
"""Two pieces of a cage have a hull of at most so many times their area; cages of two discs more."""

_SEEN_SHARE = 0.25
"""Least part of an implant that is looked at, as a share of the least object."""


_MOST_PIECES = 64
"""Components of a region that are looked at, the largest: each is compared with each other, and a
network that answers noise has thousands. No film has so many pieces of metal."""


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A component of a region.

    Attributes:
        ends: (2, 2) x and y of its two ends; of a piece without direction its middle, twice.
        outward: (2, 2) unit vectors in which it goes on at its ends.
        is_long: Whether it has a direction.
    """

    ends: NDArray[np.float64]
    outward: NDArray[np.float64]
    is_long: bool


def implants_apart(
    regions: Mapping[Structure, NDArray[np.bool_]],
    least_px: int,
    wanted: Collection[Structure] = IMPLANTS,
) -> dict[Structure, list[NDArray[np.bool_]]]:
    """The implants of one source's regions, each as a mask of the same size.

    Args:
        regions: (h, w) mask of each implant's structure, all of one size, at least one.
        least_px: Implants with fewer pixels are left out.
        wanted: Structures that are asked for; the others are metal all the same.

    Returns:
        Masks by structure, for each structure that was given and is wanted; implants may overlap.
    """
    found: dict[Structure, list[NDArray[np.bool_]]] = {}
    metal = np.any(np.stack(list(regions.values())), axis=0)
    for structure, region in regions.items():
        if structure not in wanted:
            continue
        if structure is Structure.ROD:
            masks = _joined(region, _closed(metal), least_px)
        elif structure is Structure.SCREW:
            closed = _closed(region)
            masks = _joined(region, closed, least_px)
            if len(masks) > 1:
                # Only screws are given back: a rod beside a shaft lies in its hull too.
                masks = [_filled(mask, closed) for mask in masks]
            masks = parted_pairs([mask for mask in masks if np.count_nonzero(mask) >= least_px])
        else:
            masks = _blocks(region, least_px)
        found[structure] = [mask for mask in masks if np.count_nonzero(mask) >= least_px]
    return found


def _closed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with the lines between its parts: they are metal as well."""
    closed: Any = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), dtype=np.uint8)
    )
    return np.asarray(closed > 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Component:
    """A connected part of a region.

    Attributes:
        pixels: (h, w) its pixels, within its box.
        left: First column of the box.
        top: First row of the box.
        points: (N, 2) x and y of its pixels, row by row.
    """

    pixels: NDArray[np.bool_]
    left: int
    top: int
    points: NDArray[np.int64]

    def painted(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """It as a mask."""
        mask = np.zeros(shape, dtype=bool)
        height, width = self.pixels.shape
        mask[self.top : self.top + height, self.left : self.left + width] = self.pixels
        return mask


def _components(region: NDArray[np.bool_], least_px: int) -> list[_Component]:
    """The largest components of a region, 8-connected, from left to right."""
    count, labels, statistics = components(np.ascontiguousarray(region).view(np.uint8))
    areas, lefts = statistics[:, cv2.CC_STAT_AREA].tolist(), statistics[:, cv2.CC_STAT_LEFT]
    kept = [n for n in range(1, count) if areas[n] >= least_px]
    kept = sorted(kept, key=lambda n: -areas[n])[:_MOST_PIECES]
    kept.sort(key=lambda n: (int(lefts[n]), n))
    found = []
    for label in kept:
        left, top, width, height = statistics[label, :4].tolist()
        part = labels[top : top + height, left : left + width] == label
        places: Any = cv2.findNonZero(part.view(np.uint8))
        points = places.reshape(-1, 2) + np.array([left, top])
        found.append(_Component(part, left, top, points))
    return found


def _mask(points: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, dtype=bool)
    mask[points[:, 1], points[:, 0]] = True
    return mask


def _hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of a mask."""
    hull = np.zeros(mask.shape, dtype=bool)
    box, drawn = _hull_in_box(mask)
    hull[box] = drawn
    return hull


def _hull_in_box(mask: NDArray[np.bool_]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Where a mask lies, as rows and columns, and its convex hull there."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = slice(top, top + height), slice(left, left + width)
    drawn = np.zeros((height, width), dtype=np.uint8)
    if drawn.size:
        lines = mask[box]
        rows = np.flatnonzero(lines.any(axis=1))
        # The first and the last pixel of each row: the hull needs no others.
        lines = lines[rows]
        first = lines.argmax(axis=1)
        last = width - 1 - lines[:, ::-1].argmax(axis=1)
        edge = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1)
        cv2.fillConvexPoly(drawn, cv2.convexHull(edge.astype(np.int32)), 1)
    return box, drawn > 0


def _filled(mask: NDArray[np.bool_], metal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with the metal within its convex hull."""
    filled = mask.copy()
    box, hull = _hull_in_box(mask)
    filled[box] |= hull & metal[box]
    return filled


def _corners(points: NDArray[Any]) -> NDArray[np.int32]:
    """(n, 2) corners of the convex hull of points."""
    hull: Any = cv2.convexHull(points.astype(np.int32))
    return np.asarray(hull).reshape(-1, 2)


def _blocks(region: NDArray[np.bool_], least_px: int) -> list[NDArray[np.bool_]]:
    """The cages of a region: pieces that fill one hull are one, and filled."""
    least = max(3, round(_SEEN_SHARE * least_px))
    parts = [component.points for component in _components(region, least)]
    areas = [len(part) for part in parts]
    # The hull of two is that of their hulls, which have few points.
    hulls = [_corners(part) for part in parts]
    joined = True
    while joined:
        joined = False
        for i, j in itertools.combinations(range(len(parts)), 2):
            hull = _corners(np.concatenate([hulls[i], hulls[j]]))
            area = float(cv2.contourArea(hull))
            if area <= _HULL_FACTOR * (areas[i] + areas[j]):
                parts[i] = np.concatenate([parts[i], parts[j]])
                areas[i], hulls[i] = max(areas[i] + areas[j], round(area)), hull
                del parts[j], areas[j], hulls[j]
                joined = True
                break
    masks = [_mask(part, region.shape) for part in parts]
    whole = [np.count_nonzero(mask) == area for mask, area in zip(masks, areas, strict=True)]
    return [mask if one else _hull(mask) for mask, one in zip(masks, whole, strict=True)]


def _piece(pixels: NDArray[np.int64], width: float) -> _Piece:
    """A component with its ends; `width` is that of the objects it may be a piece of."""
    points = pixels.astype(np.float64)
    middle = middle_of(points)
    away = points - middle
    _, axes = np.linalg.eigh(away.T @ away)
    along = away @ axes[:, 1]
    low, high = float(along.min()), float(along.max())
    length = high - low + 1.0
    if length <= _LONG * width:
        return _Piece(np.stack([middle, middle]), np.zeros((2, 2)), False)
    x, y = np.ascontiguousarray(points.T)
    # The middle of the last tenth: a bent rod ends beside its axis.
    part = max(1.0, 0.1 * length)
    first, last = along <= low + part, along >= high - part
    ends = [(_mean(x[those]), _mean(y[those])) for those in (first, last)]
    outward = []
    for (end_x, end_y), other in zip(ends, ends[::-1], strict=True):
        beside, below = x - end_x, y - end_y
        near = beside * beside + below * below < max(2.5 * width, 4.0) ** 2
        from_x, from_y = other
        if np.count_nonzero(near) >= 6:
            from_x, from_y = _mean(x[near]), _mean(y[near])
        ahead_x, ahead_y = end_x - from_x, end_y - from_y
        distance = max(math.sqrt(ahead_x * ahead_x + ahead_y * ahead_y), 1e-9)
        outward.append((ahead_x / distance, ahead_y / distance))
    return _Piece(np.array(ends), np.array(outward), True)


def _mean(values: NDArray[np.float64]) -> float:
    """Their mean, as NumPy's method gives it, in a third of its time."""
    return float(np.add.reduce(values)) / len(values)


def _joined(
    region: NDArray[np.bool_], other: NDArray[np.bool_], least_px: int
) -> list[NDArray[np.bool_]]:
    """The rods or screws of a region, joined under the other metal."""
    parts = _components(region, max(3, round(_SEEN_SHARE * least_px)))
    if not parts:
        return []
    thickness = [2.0 * _depth(each.pixels) - 1.0 for each in parts]
    width = float(np.average(thickness, weights=[len(each.points) for each in parts]))
    pieces = [_piece(each.points, width) for each in parts]
    metal = region | other
    bridges = []
    ends = np.stack([piece.ends for piece in pieces])
    gaps = ends[:, None, :, None] - ends[None, :, None, :]
    near = np.hypot(gaps[..., 0], gaps[..., 1]) <= _REACH * width + 1e-6
    costs: dict[tuple[int, int, int, int], float | None] = {}
    for i, j, end, start in np.argwhere(near).tolist():
        if i < j:
            # Both ends of a piece without direction are one place.
            places = i, end * pieces[i].is_long, j, start * pieces[j].is_long
            if places not in costs:
                costs[places] = _bridge_cost(pieces[i], end, pieces[j], start, width, metal)
            cost = costs[places]
            if cost is not None:
                bridges.append((cost, i, end, j, start))
    group = list(range(len(pieces)))
    taken: dict[tuple[int, int], NDArray[np.float64]] = {}

    def is_free(number: int, end: int, way: NDArray[np.float64]) -> bool:
        """Whether a piece goes on at an end; one without direction only straight through."""
        if (number, end) in taken:
            return False
        through = taken.get((number, 1 - end))
        if through is None or pieces[number].is_long:
            return True
        return float(through @ way) <= -_TURN_COSINE

    masks = [each.painted(region.shape) for each in parts]
    for _, i, end, j, start in sorted(bridges):
        way = pieces[j].ends[start] - pieces[i].ends[end]
        way = way / max(float(np.linalg.norm(way)), 1e-9)
        if group[i] == group[j] or not is_free(i, end, way) or not is_free(j, start, -way):
            continue
        taken[i, end], taken[j, start] = way, -way
        band = _band(pieces[i].ends[end], pieces[j].ends[start], width, region.shape)
        into, gone = group[i], group[j]
        masks[into] = masks[into] | masks[gone] | (band & other)
        group = [into if each == gone else each for each in group]
    return [masks[number] for number in sorted(set(group))]


def _depth(pixels: NDArray[np.bool_]) -> float:
    """How far a component's innermost pixel lies from what is not of it, in pixels.

    Args:
        pixels: (h, w) the component within its box.
    """
    # A border of background around it: the next other pixel is never farther than that.
    framed: Any = cv2.copyMakeBorder(
        pixels.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
    )
    away: Any = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(away.max())


def _bridge_cost(
    one: _Piece, end: int, two: _Piece, start: int, width: float, metal: NDArray[np.bool_]
) -> float | None:
    """How far and how bent the way from one piece's end to another's is; None: no way."""
    (from_x, from_y), (to_x, to_y) = one.ends[end].tolist(), two.ends[start].tolist()
    gap_x, gap_y = to_x - from_x, to_y - from_y
    distance = math.sqrt(gap_x * gap_x + gap_y * gap_y)
    if distance > _REACH * width:
        return None
    ahead_x, ahead_y = gap_x / max(distance, 1e-9), gap_y / max(distance, 1e-9)
    (out_x, out_y), (in_x, in_y) = one.outward[end].tolist(), two.outward[start].tolist()
    cosines = []
    if one.is_long:
        cosines.append(out_x * ahead_x + out_y * ahead_y)
    if two.is_long:
        cosines.append(-in_x * ahead_x - in_y * ahead_y)
    if one.is_long and two.is_long:
        cosines.append(-out_x * in_x - out_y * in_y)
    if cosines and min(cosines) < _TURN_COSINE:
        return None
    count = max(3, round(distance) + 1)
    steps = np.arange(1, count - 1) * (1.0 / (count - 1))
    x = np.rint(from_x + steps * gap_x).astype(np.int64)
    y = np.rint(from_y + steps * gap_y).astype(np.int64)
    if np.count_nonzero(metal[y, x]) / (count - 2) < _METAL_SHARE:
        return None
    straight = sum(cosines) / len(cosines) if cosines else 0.5
    return distance * (2.0 - straight)


def _band(
    start: NDArray[np.float64], end: NDArray[np.float64], width: float, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """A straight band between two places."""
    drawn = np.zeros(shape, dtype=np.uint8)
    ahead = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    first, last = (np.rint(place).astype(int).tolist() for place in
                   (start - ahead * width / 2.0, end + ahead * width / 2.0))  # fmt: skip
    cv2.line(drawn, tuple(first), tuple(last), 1, max(1, round(width)))
    return drawn > 0
