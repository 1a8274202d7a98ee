"""Rods as ribbons: bands of one breadth along the straight edges that metal shows on a film.

Networks see where rods are, but two that lie on each other are one blob to them, and their borders
are ragged. On the film each rod has two long edges, brighter between them, as far from each other
as those of every other rod of the film. So:

1. each connected piece of the construct is unrolled along its bent axis (:func:`unrolled`): rows
   go along the rods, columns across them, one column a tenth of a rod;
2. the breadth that rods have in common is that at which most rising edges have a falling one
   (:func:`common_breadth`);
3. the best path along the strip is a rod: at each row the mean of its two edges counts, and the
   share of votes that networks give what lies between; beneath a screw's head neither edge is seen,
   and votes alone carry on. Its edges are taken away, and the next path is looked for
   (:func:`paths_of`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from spinezoo_spine.components import components
from spinezoo_spine.implant_pairs import percentile_of_sorted
from spinezoo_spine.strips import Axis, StripPlaces

CELLS = 10
"""Columns of a strip that a rod is broad."""

ROWS = 2
"""Rows of a strip on the breadth of a rod."""

_FINE = 3
"""Places along the strip that a row is the mean of: noise goes, edges across stay."""

BLUR_CELLS = 0.5
"""How far the film is smoothed across, as the deviation of a Gaussian."""

BEYOND = 2.0
"""How far a strip goes on at both ends of what networks see, in breadths."""

BESIDE = 1.2
"""How far a strip goes on at both sides, in breadths."""

LEAST_STRETCH = 4.0
"""Least variance along the axis over that across it: what is less is no rod from the side."""

MOST_CELLS = (1000, 200)
"""Rows and columns of a strip that are looked at."""

SEEN_SHARE = 0.35
"""Share of votes from which a pixel is looked at: two members of five."""

LEAST_PIXELS = 50
"""Least size of a piece, in pixels of the grid that it is looked at on."""

MOST_PIECES = 32
"""Pieces that are looked at, the largest."""

BREADTHS = (0.45, 1.15)
"""Breadths that are tried, as shares of the mean breadth of what networks see: two in one blob are
twice as broad as one."""

BREADTHS_MM = (4.5, 9.4)
"""Breadths that are tried where pixels have a size: rods are 4.5 to 6.4 mm thick and shown up to
half as large again (5.4 to 9.1 mm on 80 phantom films). Thinner than
:data:`THIN` times the first is a plate from its side, and twice the second a plate from the front.
"""

THIN = 1.35
"""See :data:`BREADTHS_MM`."""

_PARTS = 4
"""Parts of a column to which breadths are told."""

_NEARLY = 0.93
"""Of breadths that explain so much of what the best one does, the smallest: outer edges of two
parallel rods are as steady as their own."""

EDGE = 0.45
"""Mean strength of its two edges from which a row speaks for a rod: 1 as strong as usual there."""

VOTES_WEIGHT, LEAST_VOTES, MOST_VOTES = 0.5, 0.5, 0.8
"""What votes count beside edges: the weight, the share at which they speak neither for nor against,
and the share that is as good as all."""

HIDDEN = 0.03
"""What a row counts where neither edge can be seen."""

METAL_WEIGHT, LEAST_METAL = 0.6, 0.6
"""What it loses where less than this share is metal."""

SLOPE = 0.15
"""What a step of a column a row costs; more than one, 11 degrees against the axis, is none."""

CONTRAST = 1.25
"""An edge of 1 / 1.25 of the usual contrast of its rows is a full one."""

FIRST, FURTHER = 2.0, 3.0
"""Least sum of a path; the further ones have to say more."""

OWN_EDGES = 2.0
"""Least sum that edges of its own give a further path: two full ones on three rows, for instance.
"""

_WEAK = 0.3
"""Strength that an edge of its own has to be above to count there."""

TAKEN = 0.2
"""How far from a found rod's edge others are its own, in breadths."""

LEAST_ROWS = 4
"""Least length of a path, in rows."""

MOST_RODS = 3
"""Paths that are looked for in a strip."""

_SMOOTHED = 7
"""Rows that a path is smoothed over."""

DRAWN = 1.1
"""Breadth of a rod over the distance of its steepest edges: a cylinder's are within its border."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is looked at: a window of a film.

    Attributes:
        film: (rows, columns) ``float32`` pixels of the window, bright means dense.
        said: (rows / step, columns / step, 2) ``float32`` share of votes for a rod, 0 to 1, and 1
            where a screw lies.
        step: Pixels from one place of that grid to the next.
        pixel_mm: Size of a pixel; None: unknown.
    """

    film: NDArray[np.float32]
    said: NDArray[np.float32]
    step: int
    pixel_mm: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Ribbon:
    """A rod.

    Attributes:
        outline_xy: (N, 2) its corners, in pixels of the window.
        share: Mean share of votes in it, 0 to 1.
    """

    outline_xy: NDArray[np.float64]
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A connected piece of a construct: where its rods are seen.

    Attributes:
        points: (N, 2) x and y of what networks call a rod, a grid's step apart.
        breadth_px: Its mean breadth.
        axis: Its straight axis; None where it is not stretched.
        bends: By degree, how the axis bends, and how far the piece reaches to both sides of it.
    """

    points: NDArray[np.float64]
    breadth_px: float
    axis: Axis | None
    bends: dict[int, tuple[Polynomial, float, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, points: NDArray[np.float64], breadth_px: float) -> _Piece:
        """The piece of (N, 2) points."""
        axis = Axis.of(points)
        thin, long = axis.spread * len(points)
        stretched = long >= LEAST_STRETCH * max(float(thin), 1e-6)
        return cls(points, breadth_px, axis if stretched else None)

    def bent(self, axis: Axis, degree: int) -> tuple[Polynomial, float, float]:
        """The bend of a degree, and the first and last place across; worked out once."""
        if degree not in self.bends:
            bend = _bend(axis.far, axis.aside, degree)
            beside = np.sort(axis.aside - bend(axis.far))
            first, last = (percentile_of_sorted(beside, percent) for percent in (0.5, 99.5))
            self.bends[degree] = bend, first, last
        return self.bends[degree]


@dataclass(frozen=True, slots=True, eq=False)
class _Strip:
    """A piece, unrolled: (rows, columns) arrays.

    Attributes:
        first: (rows, 2) x and y of each row's first cell.
        across: (2,) unit vector along the columns.
        cell_px: Distance of columns.
        edges: Slope of the film from one column to the next, 1: as steep as usual; -1 to 1.
        seen: 1 where an edge could be seen, 0 at a screw.
        votes: Share of votes for a rod.
        metal: The same, and 1 at a screw.
        spoken: (rows,) whether edges of rods can be seen there.
    """

    first: NDArray[np.float64]
    across: NDArray[np.float64]
    cell_px: float
    edges: NDArray[np.float32]
    seen: NDArray[np.float32]
    votes: NDArray[np.float32]
    metal: NDArray[np.float32]
    spoken: NDArray[np.bool_]


def ribbons_of(scene: Scene) -> list[Ribbon]:
    """The rods of a window; those that the film does not show are left out."""
    pieces = _pieces(scene)
    if not pieces:
        return []
    sizes = [len(piece.points) for piece in pieces]
    rough_px = float(np.average([piece.breadth_px for piece in pieces], weights=sizes))
    strips = [s for s in (unrolled(scene, piece, rough_px) for piece in pieces) if s is not None]
    breadth_px = common_breadth(strips, rough_px, scene.pixel_mm)
    if breadth_px is None:
        return []
    found = []
    for piece in pieces:
        strip = unrolled(scene, piece, breadth_px)
        if strip is not None:
            for path in paths_of(strip):
                found.append(_ribbon(strip, path, DRAWN * breadth_px))
    return found


def _pieces(scene: Scene) -> list[_Piece]:
    """Connected pieces of rods and screws, as far as they are called rods."""
    rods = (scene.said[..., 0] >= SEEN_SHARE).view(np.uint8)
    metal = rods | (scene.said[..., 1] > 0.0).view(np.uint8)
    _, labels, statistics = components(metal)
    found = []
    areas = statistics[1:, cv2.CC_STAT_AREA]
    large = np.flatnonzero(areas * scene.step**2 >= LEAST_PIXELS)
    large = large[np.argsort(-areas[large], kind="stable")][:MOST_PIECES]
    for label in sorted((large + 1).tolist()):
        left, top, across, down = (int(value) for value in statistics[label, :4])
        box = slice(top, top + down), slice(left, left + across)
        own = (labels[box] == label).view(np.uint8) & rods[box]
        places: Any = cv2.findNonZero(own)
        if places is None or len(places) * scene.step**2 < LEAST_PIXELS:
            continue
        x, y, across, down = cv2.boundingRect(own)
        # Rods alone, with a border: screws reach far beside them.
        own = cv2.copyMakeBorder(
            own[y : y + down, x : x + across], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
        )
        away: Any = cv2.distanceTransform(own, cv2.DIST_L2, cv2.DIST_MASK_5)
        # Across a band the distance to its border is a quarter of its breadth in the mean.
        breadth = 4.0 * scene.step * float(away[own > 0].mean())
        points = (places.reshape(-1, 2) + np.array([left, top], dtype=np.float64)) * scene.step
        found.append(_Piece.of(points, breadth))
    return found


def unrolled(scene: Scene, piece: _Piece, breadth_px: float) -> _Strip | None:
    """A piece along its axis; None where it has none, or no edge can be seen.

    Args:
        scene: The window.
        piece: The piece.
        breadth_px: Of a rod: :data:`CELLS` columns.
    """
    axis = piece.axis
    if axis is None:
        return None
    middle, along, across, low, high = axis.middle, axis.along, axis.across, axis.low, axis.high
    bend, first, last = piece.bent(axis, axis.degree(breadth_px))
    cell = breadth_px / CELLS
    columns = np.arange(first - BESIDE * breadth_px, last + BESIDE * breadth_px + cell, cell)
    spacing = breadth_px / ROWS / _FINE
    margin = BEYOND * breadth_px
    rows = np.arange(low - margin, high + margin + spacing * _FINE, spacing)
    rows = rows[: len(rows) // _FINE * _FINE]
    if len(rows) > MOST_CELLS[0] * _FINE or len(columns) > MOST_CELLS[1]:
        return None
    aside_of = bend(np.clip(rows, low, high))
    start = middle + rows[:, None] * along + aside_of[:, None] * across
    places = StripPlaces.of(start, across, columns)
    film = _rows_of(places.sampled(scene.film, cv2.BORDER_REPLICATE))
    seen_by = _rows_of(places.sampled(scene.said, cv2.BORDER_CONSTANT, 1.0 / scene.step))
    votes, screws = np.ascontiguousarray(np.moveaxis(seen_by, -1, 0))
    smooth: Any = cv2.GaussianBlur(film, (0, 0), sigmaX=BLUR_CELLS, sigmaY=0.01)
    slope = np.zeros_like(film)
    slope[:, 1:-1] = smooth[:, 2:] - smooth[:, :-2]
    seen = (_widest(screws, 5) < 0.25).astype(np.float32)
    near = (_widest(votes, 7) > SEEN_SHARE) & (seen > 0.0)
    spoken = np.count_nonzero(near, axis=1) >= LEAST_ROWS
    if np.count_nonzero(spoken) < LEAST_ROWS:
        return None
    steepest = np.where(near, np.abs(slope), 0.0).max(axis=1)
    usual = float(np.median(steepest[spoken]))
    if usual <= 0.0:
        return None
    local: Any = cv2.blur(np.where(spoken, steepest, usual)[:, None].astype(np.float32), (1, 7))
    edges = np.clip(slope * (CONTRAST / np.maximum(local, 0.5 * usual)), -1.0, 1.0)
    return _Strip(
        start[_FINE // 2 :: _FINE] + columns[0] * across,
        across,
        cell,
        edges.astype(np.float32),
        seen,
        votes,
        np.maximum(votes, screws),
        spoken,
    )


def _bend(far: NDArray[np.float64], aside: NDArray[np.float64], degree: int) -> Polynomial:
    """How points lie aside of a straight axis, by how far along it they lie."""
    place = (far - far.min()).astype(np.intp)
    count = np.bincount(place)
    held = count > 0
    count = count[held]
    # Least squares on the means of each pixel's length, with their numbers: as on all points.
    mean_far = np.bincount(place, weights=far)[held] / count
    mean_aside = np.bincount(place, weights=aside)[held] / count
    return Polynomial.fit(mean_far, mean_aside, degree, w=np.sqrt(count))


def _rows_of(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """A strip, each row the mean of :data:`_FINE`."""
    mean: NDArray[np.float32] = found[0::_FINE].copy()
    for row in range(1, _FINE):
        mean += found[row::_FINE]
    mean /= np.float32(_FINE)
    return mean


def _widest(values: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """The highest value within so many columns."""
    return np.asarray(cv2.dilate(values, np.ones((1, columns), dtype=np.uint8)), dtype=np.float32)


def common_breadth(
    strips: Sequence[_Strip], rough_px: float, pixel_mm: float | None
) -> float | None:
    """The distance of rods' edges, in pixels; None where none stands out.

    Args:
        strips: Unrolled with ``rough_px``.
        rough_px: Mean breadth of what networks see.
        pixel_mm: Size of a pixel; None: unknown.
    """
    low, high = (factor * rough_px for factor in BREADTHS)
    if pixel_mm is not None:
        least, most = (each / pixel_mm for each in BREADTHS_MM)
        if rough_px > THIN * least:
            low = max(low, least)
        if rough_px < 2.0 * most < 2.0 * high:
            high = min(high, max(most, low + 2.0))
    cell = rough_px / CELLS
    step = cell / _PARTS
    distances = np.arange(max(2 * _PARTS, int(low / step) - 2), int(high / step) + 4)
    explained = np.zeros(len(distances))
    for strip in strips:
        # Columns first in memory: the strongest of a row is then found row by row at once.
        edges, seen = strip.edges.T, strip.seen.T
        rising = np.ascontiguousarray(np.maximum(edges, 0.0) * seen)
        falling = np.ascontiguousarray(np.maximum(-edges, 0.0) * seen)
        between = np.diff(falling, axis=0)
        shifted = [falling[:-1] + between * np.float32(part / _PARTS) for part in range(_PARTS)]
        width = len(rising)
        for place, distance in enumerate(distances.tolist()):
            whole, part = divmod(distance, _PARTS)
            if whole + 1 < width:
                both = np.minimum(rising[: width - whole - 1], shifted[part][whole:])
                explained[place] += float(np.maximum.reduce(both, axis=0).sum())
    explained = np.convolve(np.pad(explained, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    inner = explained[1:-1]
    tops = np.flatnonzero((inner >= explained[:-2]) & (inner > explained[2:])) + 1
    if not len(tops) or explained[tops].max() <= 0.0:
        return None
    return float(distances[tops[explained[tops] >= _NEARLY * explained[tops].max()][0]]) * step


def paths_of(strip: _Strip) -> Iterator[NDArray[np.intp]]:
    """(rows, 2) row and column of each cell of a rod's middle, one rod after the other."""
    half = CELLS // 2
    near = np.arange(-round(TAKEN * CELLS), round(TAKEN * CELLS) + 1)
    seen = strip.seen.copy()
    cover = _mean(strip.votes)
    hidden = HIDDEN + METAL_WEIGHT * np.minimum(0.0, _mean(strip.metal) - LEAST_METAL)
    voted = VOTES_WEIGHT * (np.minimum(cover, MOST_VOTES) - LEAST_VOTES)
    columns = strip.votes.shape[1]
    was_seen = _beside(seen, half) > 0.0
    for number in range(MOST_RODS):
        both = _beside(seen, half)
        strength = _shifted(strip.edges * seen, half) - _shifted(strip.edges * seen, -half)
        mean = strength / np.maximum(both, 1.0)
        gain = np.where(both > 0.0, (mean - EDGE) * both / 2.0 + voted, hidden)
        if number:
            gain[(both <= 0.0) & was_seen] = HIDDEN
        least = FURTHER if number else FIRST
        if _most(gain) < least:
            return
        total, path = best_path(gain)
        if total < least or len(path) < LEAST_ROWS:
            return
        row, column = path[:, 0], path[:, 1]
        own = strength[row, column] - _WEAK * both[row, column]
        if number and float(own.sum()) < 2.0 * OWN_EDGES:
            return
        yield path
        taken = np.concatenate([column - half, column + half])[:, None] + near
        seen[np.tile(row, 2)[:, None], np.clip(taken, 0, columns - 1)] = 0.0


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over the breadth of a rod."""
    size = (CELLS + 1, 1)
    return np.asarray(cv2.blur(values, size, borderType=cv2.BORDER_CONSTANT), dtype=np.float32)


def _shifted(values: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """Values so many columns before each place, 0 beyond the strip."""
    moved = np.zeros_like(values)
    if columns > 0:
        moved[:, columns:] = values[:, :-columns]
    else:
        moved[:, :columns] = values[:, -columns:]
    return moved


def _beside(seen: NDArray[np.float32], half: int) -> NDArray[np.float32]:
    """How many of a rod's two edges could be seen, by its middle."""
    return _shifted(seen, half) + _shifted(seen, -half)


def _most(gain: NDArray[np.floating[Any]]) -> float:
    """More than any path down an array gives: the best of each row, whatever lies between."""
    best = np.cumsum(gain.max(axis=1), dtype=np.float64)
    before = np.minimum.accumulate(np.concatenate([np.zeros(1), best[:-1]]))
    return float((best - before).max()) + 1e-6


def best_path(gain: NDArray[np.floating[Any]]) -> tuple[float, NDArray[np.intp]]:
    """The path down an array with the highest sum, from any cell to any other.

    Args:
        gain: (rows, columns) what each cell gives.

    Returns:
        The sum, and (cells, 2) row and column. Moving aside costs :data:`SLOPE` a column.
    """
    rows, columns = gain.shape
    # Every call costs more than the numbers of a row: few calls, and every view made beforehand.
    gain = np.asarray(gain, dtype=np.float64)
    sums = np.empty((rows, columns))
    worth = np.zeros(columns + 2)  # of going on from each cell, 0 where nothing is worth it
    left, here, right = worth[:-2], worth[1:-1], worth[2:]
    best = np.empty(columns)
    maximum, subtract, add = np.maximum, np.subtract, np.add
    zero, slope = np.zeros(columns), np.full(columns, SLOPE)
    for gained, total_here in zip(list(gain), list(sums), strict=True):
        maximum(left, right, out=best)
        subtract(best, slope, out=best)
        maximum(best, here, out=best)
        add(best, gained, out=total_here)
        maximum(total_here, zero, out=here)
    row, column = divmod(int(sums.argmax()), columns)
    total = float(sums[row, column])
    path = [(row, column)]
    while row > 0:
        row -= 1
        first = max(0, column - 1)
        above = sums[row, first : column + 2].tolist()
        # Straight on where it is as good as a step aside, and left before right.
        chosen, most = column, above[column - first]
        if column > 0 and above[0] - SLOPE > most:
            chosen, most = column - 1, above[0] - SLOPE
        if column + 1 < columns and above[-1] - SLOPE > most:
            chosen, most = column + 1, above[-1] - SLOPE
        if most <= 0.0:
            break
        column = chosen
        path.append((row, column))
    return total, np.array(path[::-1], dtype=np.intp)


def _ribbon(strip: _Strip, path: NDArray[np.intp], breadth_px: float) -> Ribbon:
    """A path as the outline of a rod."""
    row = path[:, 0]
    column = path[:, 1].astype(np.float64)
    size = min(_SMOOTHED, (len(column) - 1) | 1)
    if size > 1:
        more = size // 2
        # Beyond its ends it goes on as it came.
        before = 2.0 * column[0] - column[more:0:-1]
        after = 2.0 * column[-1] - column[-2 : -more - 2 : -1]
        wide = np.concatenate([before, column, after])
        column = np.convolve(wide, np.full(size, 1.0 / size), mode="valid")
    middle = strip.first[row] + column[:, None] * strip.cell_px * strip.across
    ahead = np.empty_like(middle)
    ahead[1:-1] = (middle[2:] - middle[:-2]) / 2.0
    ahead[0], ahead[-1] = middle[1] - middle[0], middle[-1] - middle[-2]
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    # A path joins the middles of its rows: half a row more at both ends.
    half_row = 0.5 * strip.cell_px * CELLS / ROWS
    middle[0] -= half_row * ahead[0]
    middle[-1] += half_row * ahead[-1]
    side = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * (breadth_px / 2.0)
    share = float(_mean(strip.votes)[row, path[:, 1]].mean())
    return Ribbon(np.concatenate([middle + side, (middle - side)[::-1]]), share)
