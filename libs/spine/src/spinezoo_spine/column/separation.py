"""Touching vertebrae of a whole-class region, taken apart along the column.

A semantic network answers one region a class; where vertebrae touch, connected components are
several vertebrae in one. Here a component that is too long for one body is cut across the column
where it is narrowest, and its parts again, until each is as long as a body:

1. the region is sampled on a grid of some 300 rows, whatever the film's size, without its specks
   and with the screws and rods that divide it: a label map shows them instead of the bone behind;
2. the breadth of the column, median over its rows, gives the size of a body of this film;
3. for each component longer than a body, the mass in every straight cut across its longer axis is
   counted at several tilts (one histogram a tilt), and the cut is taken that is shortest against
   the broadest places on both of its sides; where there is no neck, as between vertebrae fused by
   a filled disc, the spacing of bodies decides;
4. the cuts are made in the run lengths, so that no film-sized array exists at any time;
5. a part gets back what hardware covers within its convex hull: a body is convex but for its
   waist.

What cannot be seen in a region stays lost: two outlines that overlap are cut along a line between
them, and the cut of a filled disc is a guess that the length of the part supports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.masks import mask_from_runs
from spinezoo_contract.types import VERTEBRAE, Box, Segment, SegmentKind, Structure

from spinezoo_spine.column.bodies import ColumnRuns, column_runs
from spinezoo_spine.components import components
from spinezoo_spine.instances import min_component_pixels, split_region

GRID_ROWS = 300
"""Rows that a region is sampled on at most: a body is then some 30 cells high."""

LEAST_PART = 0.3
"""Least area of a part, in squares of the body's size: less is a speck at a border."""

BREADTH = 1.1
"""Horizontal breadth of a column over the side of the square of a body's area.

That of true outlines is 1.21 (median of L1 to L5 of 80 phantom films; 1.27 on the real ones); in
answers hardware takes rows away. Chosen, with what follows, on answers to those phantom films; see
``docs/labelling.md``.
"""

BRIDGE = 0.45
"""Widest stretch of a screw or rod that is taken for bone between bone, in body sizes."""

_CROSSING = (Structure.SCREW, Structure.ROD)
"""Not cages: they lie between two vertebrae, not within one."""

STEP = 1.2
"""Distance of neighbouring centres, in body sizes."""

BODY_HEIGHT = 0.95
"""Height of a body, in body sizes."""

SACRAL_HEIGHT = 0.85
"""Height of a sacral body, in lumbar body sizes."""

SACRAL_STEP = 1.0
"""Distance of neighbouring centres in the sacrum; 0.81 to 1.14 on 147 phantom films."""

SACRAL_AREA = 1.05
"""Least area of S1 and S2 together; 1.10 to 2.5, median 1.4, where S1 alone has 0.7 to 1.1."""

SACRAL_SHAPE = 1.6
"""Least length of S1 and S2 over their breadth; 1.8 to 2.6. S1 alone has at most 1.5."""

LONG_SACRAL_SHAPE = 3.0
"""Length over breadth from which a sacral part may hold three: L5 was called sacral too."""

UPPER_SHARE = 0.58
"""Part of the length of S1 and S2 that is S1's: 0.53 to 0.66, nine in ten within 0.54 to 0.61."""

_TILTS_DEG = (-24.0, -16.0, -8.0, 0.0, 8.0, 16.0, 24.0)
"""Tilts of a cut against the perpendicular of the part's axis."""

_SPACING_WEIGHT = 0.8
"""What a cut half a vertebra off the usual spacing costs, in breadths: necks decide, if any."""

_TILT_WEIGHT = 0.1
"""What the steepest tilt costs, in breadths: of equal cuts the straight one."""

_MOST_PARTS = 24
"""Cuts end here, whatever the region looks like."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """A straight line; what lies on the side of the normal is above."""

    point_xy: tuple[float, float]
    normal_xy: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Measure:
    """What parts of a region are measured by.

    Attributes:
        size_px: Side of the square of a lumbar body's area.
        cell_px: Side of a cell of the grid.
        structure: The region's.
        above_xy: The middle of the body above it, if known.
    """

    size_px: float
    cell_px: float
    structure: Structure
    above_xy: tuple[float, float] | None

    @property
    def sacral(self) -> bool:
        """Whether bodies are those of a sacrum: lower, and S2 smaller than S1."""
        return self.structure is Structure.SACRAL_VERTEBRA


def separate(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Objects of every segment: vertebral regions taken apart, other regions by component.

    Instances stay as they are. Parts have the structure and the score of their region; parts of
    vertebral regions hold what hardware among ``segments`` covers of them.

    Raises:
        MaskError: The run lengths of a mask are broken.
    """
    segments = tuple(segments)
    parts = _vertebrae_by_segment(segments)
    return tuple(
        part
        for segment in segments
        for part in (parts[id(segment)] if id(segment) in parts else _components(segment))
    )


def separate_vertebrae(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """The vertebrae among the objects of :func:`separate`.

    Raises:
        MaskError: The run lengths of a mask are broken.
    """
    segments = tuple(segments)
    parts = _vertebrae_by_segment(segments)
    return tuple(part for segment in segments for part in parts.get(id(segment), ()))


def _components(segment: Segment) -> tuple[Segment, ...]:
    return (segment,) if segment.kind is SegmentKind.INSTANCE else split_region(segment)


def _vertebrae_by_segment(segments: Sequence[Segment]) -> dict[int, tuple[Segment, ...]]:
    """The vertebrae of each vertebral segment, by its ``id``."""
    lumbar = [
        s
        for s in segments
        if s.structure is Structure.LUMBAR_VERTEBRA and s.kind is SegmentKind.REGION
    ]
    # Instances are whole as they are: only regions get hardware back.
    covered = any(s.kind is SegmentKind.REGION and s.structure in VERTEBRAE for s in segments)
    hardware = _strokes_of([s for s in segments if covered and s.structure not in VERTEBRAE])
    crossing = _strokes_of([s for s in segments if covered and s.structure in _CROSSING])
    size_px: float | None = None
    above_xy: tuple[float, float] | None = None
    parts: dict[int, tuple[Segment, ...]] = {}
    # The lumbar region first: it tells the sacral one a body's size, and where S1's end is.
    for segment in (*lumbar, *(s for s in segments if not any(s is other for other in lumbar))):
        if segment.structure not in VERTEBRAE:
            continue
        if segment.kind is SegmentKind.INSTANCE:
            parts[id(segment)] = (segment,)
        else:
            found, own_px = separate_region(segment, size_px, hardware, crossing, above_xy)
            parts[id(segment)] = found
            size_px = own_px if size_px is None else size_px
            if found and segment.structure is Structure.LUMBAR_VERTEBRA:
                lowest = max((part.box for part in found), key=lambda box: box.y + box.height)
                above_xy = (lowest.x + lowest.width / 2.0, lowest.y + lowest.height / 2.0)
    return parts


def separate_region(
    region: Segment,
    size_px: float | None = None,
    hardware: ColumnRuns | None = None,
    crossing: ColumnRuns | None = None,
    above_xy: tuple[float, float] | None = None,
) -> tuple[tuple[Segment, ...], float | None]:
    """The vertebrae of one region, and the size of a body that they were told by.

    Args:
        region: A whole-class region of vertebrae.
        size_px: Side of the square of a body's area, in pixels; None: from the region itself.
        hardware: Strokes of the hardware that covers vertebrae, in any order; they may overlap.
        crossing: Those of screws and rods alone, which divide a vertebra's region in two.
        above_xy: The middle of the body above a sacral region; None: its upper end is S1's.

    Returns:
        Instances from top to bottom, and the body size in pixels (None: the region is empty).

    Raises:
        MaskError: The run lengths are broken.
    """
    given_px = size_px
    mask = region.mask
    runs = column_runs(mask)
    if len(runs.column) == 0:
        return (), size_px
    top, left = int(runs.top.min()), int(runs.column.min())
    rows, columns = int(runs.bottom.max()) - top, int(runs.column.max()) + 1 - left
    cell = max(1, -(-max(rows, columns) // GRID_ROWS))
    grid = _sample(region, top, left, rows, columns, cell)
    count, labels, statistics = components(grid)
    if count <= 1:
        # Thinner than a cell everywhere: specks only.
        return split_region(region), size_px
    if size_px is None:
        size_px = _body_size(labels, statistics, count) * cell
    if crossing is not None:
        metal = _painted(_strokes_on_grid(crossing, top, left, cell), 0, 0, *grid.shape)
        if metal.any():
            grid = _bridged(grid, metal, round(BRIDGE * size_px / cell))
            count, labels, statistics = components(grid)
            if given_px is None:
                size_px = _body_size(labels, statistics, count) * cell
    owner = _owners(labels, runs, top, left, cell)
    least = max(min_component_pixels(mask.height, mask.width), LEAST_PART * size_px**2)
    area_px = np.zeros(count, dtype=np.int64)
    np.add.at(area_px, owner, runs.bottom - runs.top)
    large = area_px >= least
    large[0] = False  # strokes of no cell
    kept = large[owner]
    if not kept.any():
        return (), size_px
    if not kept.all():
        # Without its specks: they must not set the grid, and with it every cut, elsewhere.
        rest = ColumnRuns(runs.column[kept], runs.top[kept], runs.bottom[kept])
        return separate_region(_segment_of(rest, region), given_px, hardware, crossing, above_xy)
    found: list[Segment] = []
    measure = _Measure(size_px, float(cell), region.structure, above_xy)
    for label in range(1, count):
        own = owner == label
        part = ColumnRuns(runs.column[own], runs.top[own], runs.bottom[own])
        x, y, w, h = (int(value) for value in statistics[label, :4])
        cell_rows, cell_columns = np.nonzero(labels[y : y + h, x : x + w] == label)
        cells = np.stack(
            [left + (x + cell_columns + 0.5) * cell, top + (y + cell_rows + 0.5) * cell], axis=1
        )
        for piece in _take_apart(cells, part, measure, _MOST_PARTS):
            if int((piece.bottom - piece.top).sum()) >= least:
                found.append(_segment_of(_whole(piece, hardware), region))
    found.sort(key=lambda segment: segment.box.y + segment.box.height / 2.0)
    return tuple(found), size_px


# --- Hardware ---


def _strokes_of(segments: Sequence[Segment]) -> ColumnRuns | None:
    """The strokes of several masks together, or None."""
    if not segments:
        return None
    runs = [column_runs(segment.mask) for segment in segments]
    return ColumnRuns(
        np.concatenate([part.column for part in runs]),
        np.concatenate([part.top for part in runs]),
        np.concatenate([part.bottom for part in runs]),
    )


def _whole(part: ColumnRuns, hardware: ColumnRuns | None) -> ColumnRuns:
    """A part with what hardware covers within its convex hull."""
    if hardware is None:
        return part
    top, left = int(part.top.min()), int(part.column.min())
    rows, columns = int(part.bottom.max()) - top, int(part.column.max()) + 1 - left
    bone = _painted(part, top, left, rows, columns)
    metal = _painted(hardware, top, left, rows, columns)
    if not metal.any():
        return part
    # The ends of strokes span the same hull as all of their pixels.
    ends = np.concatenate([part.top, part.bottom - 1]) - top
    points = np.column_stack([np.tile(part.column - left, 2), ends])
    hull = np.zeros_like(bone)
    cv2.fillConvexPoly(hull, cv2.convexHull(points.astype(np.int32)), 1)
    bone |= hull & metal
    # Strokes by column: padded rows make every stroke begin and end.
    padded = np.zeros((columns, rows + 2), dtype=np.int8)
    padded[:, 1:-1] = bone.T
    steps = np.diff(padded, axis=1)
    column, first = np.nonzero(steps == 1)
    _, last = np.nonzero(steps == -1)
    return ColumnRuns(column + left, first + top, last + top)


def _painted(runs: ColumnRuns, top: int, left: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """(rows, columns) 0 or 1: strokes within a box of the film."""
    seen = (runs.column >= left) & (runs.column < left + columns)
    seen &= (runs.bottom > top) & (runs.top < top + rows)
    steps = np.zeros((rows + 1, columns), dtype=np.int32)
    column = runs.column[seen] - left
    np.add.at(steps, (np.maximum(runs.top[seen] - top, 0), column), 1)
    np.add.at(steps, (np.minimum(runs.bottom[seen] - top, rows), column), -1)
    return (np.cumsum(steps[:-1], axis=0, dtype=np.int32) > 0).view(np.uint8)


# --- The grid ---


def _sample(
    region: Segment, top: int, left: int, rows: int, columns: int, cell: int
) -> NDArray[np.uint8]:
    """Whether the middle pixel of each cell of the region's box is in the mask."""
    mask = region.mask
    borders = np.cumsum(mask.runs)
    at_row = np.minimum(top + np.arange(-(-rows // cell)) * cell + cell // 2, mask.height - 1)
    at_column = np.minimum(left + np.arange(-(-columns // cell)) * cell + cell // 2, mask.width - 1)
    places = (at_column[:, None] * mask.height + at_row[None, :]).ravel()
    inside = np.searchsorted(borders, places, side="right") & 1
    return np.ascontiguousarray(inside.astype(np.uint8).reshape(len(at_column), len(at_row)).T)


def _strokes_on_grid(runs: ColumnRuns, top: int, left: int, cell: int) -> ColumnRuns:
    """Strokes in cells of the grid, by the middle pixel of each cell."""
    middle = cell // 2
    seen = (runs.column - left) % cell == middle
    return ColumnRuns(
        (runs.column[seen] - left) // cell,
        -(-(runs.top[seen] - top - middle) // cell),
        -(-(runs.bottom[seen] - top - middle) // cell),
    )


def _bridged(grid: NDArray[np.uint8], metal: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    """The region with the metal that lies between parts of it, up to ``reach`` cells wide.

    A screw through S1 leaves a sliver above it that would be a vertebra of its own, and joins the
    rest to S2 as one.
    """
    side = max(3, reach | 1)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    # Room for the disk: at the grid's border closing would else fill what lies there.
    padded = cv2.copyMakeBorder(grid, side, side, side, side, cv2.BORDER_CONSTANT)
    bridged = grid.copy()
    # What closing says of the metal depends on cells up to the disk's side away.
    x, y, w, h = cv2.boundingRect(metal)
    near = padded[y : y + h + 2 * side, x : x + w + 2 * side]
    closed = np.asarray(cv2.morphologyEx(near, cv2.MORPH_CLOSE, disk), dtype=np.uint8)
    bridged[y : y + h, x : x + w] |= closed[side:-side, side:-side] & metal[y : y + h, x : x + w]
    return bridged


def _body_size(labels: NDArray[np.int32], statistics: NDArray[np.int32], count: int) -> float:
    """Side of the square of a body's area, in cells, from the breadth of the column.

    A row's breadth is that of its longest component, so that two bodies beside each other in one
    row, as under a steep sacrum, do not add up. Specks have short rows and few of them.
    """
    breadths: list[NDArray[np.int64]] = []
    for label in range(1, count):
        x, y, w, h = (int(value) for value in statistics[label, :4])
        inside = labels[y : y + h, x : x + w] == label
        # From the first to the last cell: screws leave holes in rows.
        own = w - np.argmax(inside, axis=1) - np.argmax(inside[:, ::-1], axis=1)
        breadths.append(own[inside.any(axis=1)])
    every = np.sort(np.concatenate(breadths))
    # Half of the region's area lies in rows at least this broad.
    mass = np.cumsum(every)
    breadth = float(every[int(np.searchsorted(mass, mass[-1] / 2.0))])
    return max(1.0, breadth / BREADTH)


def _owners(
    labels: NDArray[np.int32], runs: ColumnRuns, top: int, left: int, cell: int
) -> NDArray[np.int64]:
    """The component of each stroke, by the cell at its middle or the next one; 0: none."""
    row = np.minimum(((runs.top + runs.bottom) // 2 - top) // cell, labels.shape[0] - 1)
    column = np.minimum((runs.column - left) // cell, labels.shape[1] - 1)
    owner = labels[row, column].astype(np.int64)
    for d_row, d_column in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)):
        lost = owner == 0
        if not lost.any():
            break
        near_row = np.clip(row[lost] + d_row, 0, labels.shape[0] - 1)
        near_column = np.clip(column[lost] + d_column, 0, labels.shape[1] - 1)
        owner[lost] = labels[near_row, near_column]
    return owner


# --- Cuts ---


def _take_apart(
    cells: NDArray[np.float64], runs: ColumnRuns, measure: _Measure, most: int
) -> list[ColumnRuns]:
    """Cuts a part until every piece is as long as one body."""
    cut = _best_cut(cells, measure) if most > 1 else None
    if cut is None:
        return [runs]
    side = (cells - np.array(cut.point_xy)) @ np.array(cut.normal_xy)
    above, below = cells[side >= 0.0], cells[side < 0.0]
    if not len(above) or not len(below):
        return [runs]
    runs_above, runs_below = _cut_runs(runs, cut)
    share = len(above) / len(cells)
    most_above = max(1, min(most - 1, round(most * share)))
    return [
        *_take_apart(above, runs_above, measure, most_above),
        *_take_apart(below, runs_below, measure, most - most_above),
    ]


def bodies_in(length_px: float, breadth_px: float, area_px: float, size_px: float) -> int:
    """How many bodies a part of this length, breadth and area holds, by the size of one."""
    by_length = round((length_px / size_px - BODY_HEIGHT) / STEP + 1.0)
    # A long, thin part is no column; a short, thick one is a single body with osteophytes.
    by_area = round(area_px / size_px**2 + 0.05)
    if length_px < 1.2 * breadth_px:
        return 1
    return max(1, min(by_length, by_area))


def sacral_bodies_in(length_px: float, breadth_px: float, area_px: float, size_px: float) -> int:
    """As :func:`bodies_in`, for a part of a sacral region, by the size of a lumbar body."""
    shape = length_px / breadth_px
    if area_px < SACRAL_AREA * size_px**2 or shape < SACRAL_SHAPE:
        return 1
    if shape < LONG_SACRAL_SHAPE:
        return 2  # a size that is told wrong makes no third one
    return max(2, round((length_px / size_px - SACRAL_HEIGHT) / SACRAL_STEP + 1.0))


def _best_cut(cells: NDArray[np.float64], measure: _Measure) -> _Cut | None:
    """The narrowest cut across a part's axis, or None where the part is one body."""
    size_px, cell_px = measure.size_px, measure.cell_px
    area_px = len(cells) * cell_px * cell_px
    if area_px < (SACRAL_AREA if measure.sacral else 1.4) * size_px**2:
        return None
    centre = cells.mean(axis=0)
    centred = cells - centre
    spread, axes = np.linalg.eigh(centred.T @ centred / len(cells))
    axis = axes[:, 1] if axes[1, 1] <= 0.0 else -axes[:, 1]  # points up
    if measure.sacral and measure.above_xy is not None:
        # A steep sacrum lies level on the film: the lumbar column tells which end is S1's.
        if float(axis @ (np.array(measure.above_xy) - centre)) < 0.0:
            axis = -axis
    elif abs(axis[1]) < 0.3:
        return None  # lies across the film: no column
    across = np.array([-axis[1], axis[0]])
    length_px = math.sqrt(12.0 * max(float(spread[1]), 0.0)) + cell_px
    breadth_px = math.sqrt(12.0 * max(float(spread[0]), 0.0)) + cell_px
    count = sacral_bodies_in if measure.sacral else bodies_in
    bodies = count(length_px, breadth_px, area_px, size_px)
    if bodies < 2:
        return None
    along, side = centred @ axis, centred @ across
    # The outermost parts of a rugged outline are no length: 1 % of the mass at either end.
    low, high = np.quantile(along, (0.01, 0.99))
    margin = 0.5 * (SACRAL_HEIGHT if measure.sacral else BODY_HEIGHT) * size_px
    if high - low <= 2.0 * margin + cell_px:
        return None
    bins = max(8, int((high - low) / cell_px))
    places = (np.arange(bins) + 0.5) / bins * (high - low) + low
    inner = (places > low + margin) & (places < high - margin)
    if not inner.any():
        return None
    if measure.sacral and bodies == 2:
        off = np.abs(places - low - (1.0 - UPPER_SHARE) * (high - low)) * 4.0 / (high - low)
        off = np.minimum(off, 1.0)
    else:
        # Bodies and the discs between them share the length evenly; cuts lie in the discs' middles.
        disc = (STEP - BODY_HEIGHT) * size_px
        step = (high - low + disc) / bodies
        steps = (places - low - step + disc / 2.0) / step
        off = np.minimum(2.0 * np.abs(steps - np.clip(np.rint(steps), 0, bodies - 2)), 1.0)
    best: tuple[float, float, float] | None = None
    for tilt_deg in _TILTS_DEG:
        slope = math.tan(math.radians(tilt_deg))
        place = ((along + slope * side - low) * (bins / (high - low))).astype(np.int64)
        inside = (place >= 0) & (place < bins)
        mass = np.bincount(place[inside], minlength=bins).astype(np.float64)
        # Cells in a strip of one bin, as a length, in breadths of the part.
        chord = mass * cell_px * cell_px * bins / (high - low) / max(breadth_px, cell_px)
        chord = np.convolve(chord, (0.25, 0.5, 0.25), mode="same")
        # A neck has more on both sides. Towards an end that is not square the chord falls as well:
        # cut there, a body would lose a corner.
        neck = np.minimum(np.maximum.accumulate(chord), np.maximum.accumulate(chord[::-1])[::-1])
        cost = chord - neck + _SPACING_WEIGHT * off
        cost += _TILT_WEIGHT * abs(tilt_deg) / _TILTS_DEG[-1]
        cost[~inner] = np.inf
        lowest = int(np.argmin(cost))
        if best is None or cost[lowest] < best[0]:
            best = (float(cost[lowest]), float(places[lowest]), slope)
    assert best is not None
    _, place_px, slope = best
    point = centre + axis * place_px
    normal = axis + slope * across
    normal = normal / math.hypot(float(normal[0]), float(normal[1]))
    return _Cut((float(point[0]), float(point[1])), (float(normal[0]), float(normal[1])))


def _cut_runs(runs: ColumnRuns, cut: _Cut) -> tuple[ColumnRuns, ColumnRuns]:
    """Strokes above and below a line; a stroke that it crosses becomes two."""
    (x, y), (nx, ny) = cut.point_xy, cut.normal_xy
    if abs(ny) < 1e-6:
        above = (runs.column + 0.5 - x) * nx >= 0.0
        return _chosen(runs, above), _chosen(runs, ~above)
    # The row at which a column's pixel centres change sides.
    border = np.ceil(y - (runs.column + 0.5 - x) * nx / ny - 0.5)
    border = np.clip(border, runs.top, runs.bottom).astype(np.int64)
    upper = ColumnRuns(runs.column, runs.top, border)
    lower = ColumnRuns(runs.column, border, runs.bottom)
    if ny > 0.0:  # the normal points down the film
        upper, lower = lower, upper
    return _chosen(upper, upper.bottom > upper.top), _chosen(lower, lower.bottom > lower.top)


def _chosen(runs: ColumnRuns, which: NDArray[np.bool_]) -> ColumnRuns:
    return ColumnRuns(runs.column[which], runs.top[which], runs.bottom[which])


def _segment_of(runs: ColumnRuns, region: Segment) -> Segment:
    """Strokes, sorted as they are, as an instance of the region's structure and score."""
    height, width = region.mask.height, region.mask.width
    borders = np.empty(2 * len(runs.column), dtype=np.int64)
    borders[0::2] = runs.column * height + runs.top
    borders[1::2] = runs.column * height + runs.bottom
    mask = mask_from_runs(np.diff(borders, prepend=0, append=height * width), height, width)
    left, top = int(runs.column.min()), int(runs.top.min())
    box = Box(
        float(left),
        float(top),
        float(int(runs.column.max()) + 1 - left),
        float(int(runs.bottom.max()) - top),
    )
    return Segment(region.structure, SegmentKind.INSTANCE, mask, region.score, box)
