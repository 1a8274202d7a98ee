"""What the reader is shown of a film: spots along the column, and the film as a whole.

A spot is an outlined place of the chain, or a place one or two steps beyond its ends, where the
sacrum, the ribs and the pelvis may be seen though no network outlined a vertebra there. Training
and serving call the same functions.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spinezoo_spine.column.anatomy import USUAL_STEP
from spinezoo_spine.column.chain import steps_between
from spinezoo_spine.column.places import Place
from spinezoo_spine.films.grey import unit_grey

VIEW_PX = 48
"""Side of a view of a spot, in pixels."""

HALF_SIDES = (1.1, 2.0, 3.6)
"""Half the side of each view of a spot, in usual bodies of the film."""

FILM_PX = 96
"""Side of the view of the whole film, in pixels."""

BEYOND = 2
"""Spots beyond each end of the chain."""

RIBS_PX = 96
"""Side of the view in which ribs are looked for, in pixels."""

RIBS_HALF_SIDE = 2.5
"""Half its side, in usual bodies of the film."""

RIB_SPOTS = slice(BEYOND + 3, BEYOND + 8)
"""Spots at which ribs are looked for: of a column outlined from S1 those from the third vertebra to
the seventh, where T12 is found under four, five and six lumbar vertebrae."""

RIBS_LEVELLED_PX = 33
"""Side of the square whose mean is taken from each pixel of that view: ribs are faint before the
diaphragm's shadow."""

FACTS = 11
"""Numbers that go with a spot."""

PAIR_FACTS = 6
"""Numbers that go with two spots."""

HALVED_TO = 0.25
"""A film that is to be shrunk to this share or less is halved first: means of 2 x 2 pixels take
OpenCV a fiftieth of the time that means of other areas do. Grey values move by less than one of 255
in the mean, on a film of noise by three at most, and probabilities of names by less than 0.01."""

LEAST_HALVED_PX = 64
"""Films with a side shorter than this are not halved."""

VIEWS_ID = "column-views-2"
"""Name of the way from film and chain to the reader's input; changes with anything in here that
moves more than that."""


@dataclass(frozen=True, slots=True, eq=False)
class Spot:
    """A place that the reader looks at.

    Attributes:
        centre_xy: In pixels of the film.
        up_xy: Unit vector along the column, towards the head.
        turn_rad: How much the column bends here, 0 or more.
        place: The outlined place; None beyond the ends of the chain.
    """

    centre_xy: tuple[float, float]
    up_xy: tuple[float, float]
    turn_rad: float
    place: Place | None


@dataclass(frozen=True, slots=True, eq=False)
class ReaderInput:
    """What the reader's network is given of one film with N spots.

    Attributes:
        views: (N, 3, 48, 48) ``float32``, each normalised by itself.
        facts: (N, 11) ``float32``.
        pairs: (N, N, 6) ``float32``; of [low, high], 0 where low is not below high.
        outlined: (N,) ``float32``, 1 for outlined spots.
        film: (1, 1, 96, 96) ``float32``.
        ribs: (M, 1, 96, 96) ``float32``, of :data:`RIB_SPOTS`; one that is 0 where there are none.
    """

    views: NDArray[np.float32]
    facts: NDArray[np.float32]
    pairs: NDArray[np.float32]
    outlined: NDArray[np.float32]
    film: NDArray[np.float32]
    ribs: NDArray[np.float32]


def own_step(chain: Sequence[Place]) -> float:
    """The column's own step in body sizes: the median of its single steps with the usual one."""
    steps = [steps_between(low, high, 1.0) for low, high in itertools.pairwise(chain)]
    single = [step for step in steps if 0.8 <= step <= 1.6]
    return statistics.median([*single, USUAL_STEP, USUAL_STEP])


def spots_of(chain: Sequence[Place], size_px: float) -> list[Spot]:
    """The chain from below with the spots beyond its ends.

    Args:
        chain: Of :func:`spinezoo_spine.column.chain.longest_chain`.
        size_px: Side of the film's usual body.
    """
    if not chain:
        return []
    centres = np.array([place.shape.centre_xy for place in chain])
    reach = own_step(chain) * size_px
    steps = np.diff(centres, axis=0)
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    units = steps / np.maximum(lengths, 1e-6)
    if not len(units):
        units = np.array([[0.0, -1.0]])
    spots = []
    for number in range(BEYOND, 0, -1):
        spots.append(_beyond(centres[0], units[0], -number * reach))
    for index, place in enumerate(chain):
        before, after = units[max(0, index - 1)], units[min(len(units) - 1, index)]
        along = before + after
        along /= max(float(np.linalg.norm(along)), 1e-6)
        turn = math.acos(min(1.0, max(-1.0, float(before @ after))))
        spots.append(Spot(_pair(centres[index]), _pair(along), turn, place))
    for number in range(1, BEYOND + 1):
        spots.append(_beyond(centres[-1], units[-1], number * reach))
    return spots


def _beyond(centre: NDArray[np.float64], along: NDArray[np.float64], distance_px: float) -> Spot:
    return Spot(_pair(centre + distance_px * along), _pair(along), 0.0, None)


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def reader_input(
    pixels: NDArray[Any], spots: Sequence[Spot], size_px: float, step: float
) -> ReaderInput:
    """Everything that the network is given.

    Args:
        pixels: (height, width) film, bright means dense.
        spots: Of :func:`spots_of`; may be empty.
        size_px: Side of the film's usual body.
        step: Of :func:`own_step`.
    """
    grey, scale = scaled_film(pixels, size_px)
    views, seen = views_of(grey, scale, spots, size_px)
    return ReaderInput(
        views,
        np.concatenate([_facts(spots, size_px), seen], axis=1),
        _pair_facts(spots, size_px, step),
        np.array([spot.place is not None for spot in spots], np.float32),
        film_view(grey),
        ribs_of(grey, scale, spots[RIB_SPOTS], size_px),
    )


def blank_input(pixels: NDArray[Any]) -> ReaderInput:
    """What the network is given where nothing is outlined: one blank spot that counts nothing.

    Args:
        pixels: (height, width) film, bright means dense.
    """
    factor = min(1.0, 4.0 * FILM_PX / max(pixels.shape))
    grey, _ = scaled_film(pixels, VIEW_PX / (2 * HALF_SIDES[0] * factor))
    return ReaderInput(
        np.zeros((1, len(HALF_SIDES), VIEW_PX, VIEW_PX), np.float32),
        np.zeros((1, FACTS), np.float32),
        np.zeros((1, 1, PAIR_FACTS), np.float32),
        np.zeros(1, np.float32),
        film_view(grey),
        ribs_of(grey, 1.0, [], 1.0),
    )


def scaled_film(pixels: NDArray[Any], size_px: float) -> tuple[NDArray[np.float32], float]:
    """The film in unit grey at the finest view's scale or coarser, and that scale.

    Args:
        pixels: (height, width) film, bright means dense.
        size_px: Side of the film's usual body.
    """
    height, width = pixels.shape
    scale = min(1.0, VIEW_PX / (2 * HALF_SIDES[0] * max(size_px, 1.0)))
    left = scale
    while left <= HALVED_TO and min(height, width) >= LEAST_HALVED_PX:
        # Of an odd number of rows or columns the last one is left out.
        height, width, left = height // 2, width // 2, 2.0 * left
        even = pixels[: 2 * height, : 2 * width]
        pixels = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    if left < 1.0:
        rows, columns = max(8, round(height * left)), max(8, round(width * left))
        pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    return unit_grey(pixels), scale


def views_of(
    grey: NDArray[np.float32], scale: float, spots: Sequence[Spot], size_px: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, 3, 48, 48) views, and the (N, 3) shares of them that lie on the film.

    Args:
        grey: The film at ``scale``, 0 to 1.
        scale: Pixels of ``grey`` per pixel of the film.
        spots: Where to look, in pixels of the film.
        size_px: Side of the film's usual body, in pixels of the film.
    """
    views = np.empty((len(spots), len(HALF_SIDES), VIEW_PX, VIEW_PX), np.float32)
    level: Any = grey
    at = scale
    for number, half in enumerate(HALF_SIDES):
        wanted = VIEW_PX / (2 * half * size_px)
        if wanted < 0.8 * at:
            rows = max(4, round(grey.shape[0] * wanted / scale))
            columns = max(4, round(grey.shape[1] * wanted / scale))
            level = cv2.resize(level, (columns, rows), interpolation=cv2.INTER_AREA)
            at = wanted
        for place, spot in enumerate(spots):
            views[place, number] = _view(level, at, spot, VIEW_PX, at / wanted)
    return _normalised(views)


def ribs_of(
    grey: NDArray[np.float32], scale: float, spots: Sequence[Spot], size_px: float
) -> NDArray[np.float32]:
    """(M, 1, 96, 96) wider and finer views, in which ribs are looked for; 0 beside the film.

    Of no spots one view is given, which is 0.

    Args:
        grey: The film at ``scale``, 0 to 1.
        scale: Pixels of ``grey`` per pixel of the film.
        spots: Where to look, in pixels of the film.
        size_px: Side of the film's usual body, in pixels of the film.
    """
    step = scale * 2 * RIBS_HALF_SIDE * size_px / RIBS_PX
    views = np.zeros((max(1, len(spots)), 1, RIBS_PX, RIBS_PX), np.float32)
    side = (RIBS_LEVELLED_PX, RIBS_LEVELLED_PX)
    for place, spot in enumerate(spots):
        view = _view(grey, scale, spot, RIBS_PX, step)
        inside = (view >= 0.0).astype(np.float32)
        view *= inside
        around: Any = cv2.blur(view, side, borderType=cv2.BORDER_CONSTANT)
        around /= np.maximum(cv2.blur(inside, side, borderType=cv2.BORDER_CONSTANT), 1e-6)
        away = (view - around) * inside
        spread = math.sqrt(float((away * away).sum()) / max(1.0, float(inside.sum())))
        views[place, 0] = np.clip(away / (3.0 * spread + 1e-3), -1.0, 1.0)
    return views


def _view(
    level: NDArray[np.float32], at: float, spot: Spot, side_px: int, step: float
) -> NDArray[np.float32]:
    """What lies around a spot, upright along the column; -9 beside the film.

    Args:
        level: The film at a scale.
        at: That scale.
        spot: In pixels of the film.
        side_px: Of the view.
        step: Pixels of the level per pixel of the view.
    """
    (x, y), (up_x, up_y) = spot.centre_xy, spot.up_xy
    x, y, middle = x * at - 0.5, y * at - 0.5, (side_px - 1) / 2
    # A view's rows run against the column's direction, its columns to the right of it.
    across_x, across_y = -up_y * step, up_x * step
    down_x, down_y = -up_x * step, -up_y * step
    matrix = np.array(
        [
            [across_x, down_x, x - middle * (across_x + down_x)],
            [across_y, down_y, y - middle * (across_y + down_y)],
        ]
    )
    seen: Any = cv2.warpAffine(
        level,
        matrix,
        (side_px, side_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=-9.0,
    )
    return np.asarray(seen, np.float32)


def _normalised(
    views: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Views by their own mean and spread, 0 beside the film; and their shares on the film."""
    inside = views >= 0.0
    pixels = np.count_nonzero(inside, axis=(2, 3), keepdims=True)
    count = np.maximum(pixels, 1)
    shown = np.maximum(views, 0.0)
    away = shown - shown.sum(axis=(2, 3), keepdims=True) / count
    away *= inside
    spread = np.sqrt((away * away).sum(axis=(2, 3), keepdims=True) / count)
    away /= spread + 0.015
    np.clip(away, -3.0, 3.0, out=away)
    share = pixels[..., 0, 0] / float(views.shape[2] * views.shape[3])
    return away.astype(np.float32), share.astype(np.float32)


def film_view(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1, 1, 96, 96): the whole film, normalised by itself, 0 around it."""
    height, width = grey.shape
    factor = FILM_PX / max(height, width)
    rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
    kind = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_LINEAR
    small = cv2.resize(grey, (columns, rows), interpolation=kind)
    view = np.zeros((1, 1, FILM_PX, FILM_PX), np.float32)
    top, left = (FILM_PX - rows) // 2, (FILM_PX - columns) // 2
    small = (small - small.mean()) / (small.std() + 0.015)
    view[0, 0, top : top + rows, left : left + columns] = np.clip(small, -3.0, 3.0)
    return view


def _facts(spots: Sequence[Spot], size_px: float) -> NDArray[np.float32]:
    """(N, 8) what outlines say of each spot; the shares on the film are added to them."""
    rows = np.zeros((len(spots), FACTS - len(HALF_SIDES)), np.float32)
    for row, spot in zip(rows, spots, strict=True):
        place = spot.place
        row[6] = min(spot.turn_rad, 1.0)
        row[7] = math.acos(min(1.0, max(-1.0, -spot.up_xy[1]))) / 2.0
        if place is None:
            row[0] = 1.0
            continue
        along = place.shape.extent_px(spot.up_xy)
        across = place.shape.extent_px((-spot.up_xy[1], spot.up_xy[0]))
        row[1], row[2] = place.lumbar, place.sacral
        row[3] = 2.0 * math.log(max(place.shape.size_px, 1e-3) / size_px)
        row[4] = 2.0 * math.log(max(along, 1e-3) / max(across, 1e-3))
        row[5] = float(place.cut_off) + 0.5 * min(3, place.count - 1)
    return np.clip(rows, -3.0, 3.0)


def _pair_facts(spots: Sequence[Spot], size_px: float, step: float) -> NDArray[np.float32]:
    """(N, N, 6) how far apart every two spots are."""
    count = len(spots)
    pairs = np.zeros((count, count, PAIR_FACTS), np.float32)
    if not count:
        return pairs
    lower = np.array([s.centre_xy if s.place is None else s.place.lower_xy for s in spots])
    upper = np.array([s.centre_xy if s.place is None else s.place.upper_xy for s in spots])
    sizes = np.array([size_px if s.place is None else s.place.size for s in spots])
    away = lower[None, :, :] - upper[:, None, :]
    distance = np.hypot(away[..., 0], away[..., 1])
    mean = (sizes[None, :] + sizes[:, None]) / 2.0
    beyond = np.array([spot.place is None for spot in spots], np.float64)
    order = np.arange(count)
    pairs[..., 0] = distance / mean / USUAL_STEP
    pairs[..., 1] = distance / size_px / step
    pairs[..., 2] = order[None, :] - order[:, None] - 1.0
    pairs[..., 3] = np.maximum(beyond[None, :], beyond[:, None])
    pairs[..., 4] = np.minimum(beyond[None, :], beyond[:, None])
    pairs[..., 5] = np.log(sizes[None, :] / sizes[:, None])
    pairs[..., 0:3] = np.clip(pairs[..., 0:3], 0.0, 8.0)
    pairs[order[:, None] >= order[None, :]] = 0.0
    return pairs
