"""Where cages, screws and rods lie in the measured column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import (
    FusedImplant,
    Measure,
    MeasureKind,
    MeasureUnit,
    Structure,
)

from spinezoo_spine.column.bodies import ColumnRuns, column_runs, shape_of_runs
from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.column import Column

Array = NDArray[np.float64]


def implant_measures(
    column: Column,
    implants: Sequence[FusedImplant],
    spacing_mm: tuple[float, float],
    scale: float,
) -> list[Measure]:
    """Measures of the implants that touch measured vertebrae.

    Args:
        column: The measured column.
        implants: Of the same film.
        spacing_mm: Distance of rows and of columns.
        scale: What lengths are divided by.
    """
    measures: list[Measure] = []
    screws: dict[str, int] = {}
    for index, implant in enumerate(implants):
        levels = tuple(level for level in implant.touches if level in column.corners)
        structure = implant.segment.structure
        if not levels:
            continue
        runs = column_runs(implant.segment.mask)
        points = _points(runs, column, spacing_mm, scale)
        if len(points) < 6:
            continue
        if structure is Structure.CAGE and len(levels) == 2:
            measures += _cage(column, index, levels[0], levels[1], points)
        elif structure is Structure.SCREW:
            level = levels[0]
            screws[level] = screws.get(level, 0) + 1
            measures += _screw(column, index, level, runs, points, spacing_mm)
        elif structure is Structure.ROD:
            count = float(len(implant.touches))
            measures.append(_counted(column, MeasureKind.ROD_LEVELS, levels, count, index))
    for level, count in screws.items():
        measures.append(_counted(column, MeasureKind.SCREW_COUNT, (level,), float(count), None))
    return measures


def _counted(
    column: Column, kind: MeasureKind, levels: tuple[str, ...], value: float, index: int | None
) -> Measure:
    sources = tuple(column.index[level] for level in levels)
    unit = MeasureUnit.COUNT
    return Measure(kind, levels, unit, value, vertebra_indices=sources, implant_index=index)


def _points(
    runs: ColumnRuns, column: Column, spacing_mm: tuple[float, float], scale: float
) -> Array:
    """(N, 2) ends of an outline's strokes in the column's plane, front to the right."""
    row_mm, column_mm = spacing_mm
    x = np.concatenate([runs.column, runs.column]) + 0.5
    y = np.concatenate([runs.top, runs.bottom]).astype(np.float64)
    side = -1.0 if column.mirrored else 1.0
    return np.stack([side * x * column_mm, y * row_mm], axis=1) / scale


def _quantile(values: Array, share: float) -> Array:
    """(S,) quantile of samples (S, N), between neighbours in proportion."""
    at = share * (values.shape[1] - 1)
    low = min(int(at), values.shape[1] - 2)
    ordered = np.partition(values, (low, low + 1), axis=1)
    return np.asarray(ordered[:, low] + (at - low) * (ordered[:, low + 1] - ordered[:, low]))


def _deepest(values: Array) -> Array:
    """(S,) how deep all but the outermost 2 % of the points lie at most, of (S, N); 0 or more."""
    beyond = np.count_nonzero(values > 0.0, axis=1).max()
    if beyond <= values.shape[1] - 2 - int(0.98 * (values.shape[1] - 1)):
        return np.zeros(len(values))
    return np.maximum(_quantile(values, 0.98), 0.0)


def _ahead(points: Array, start: Array, unit: Array) -> Array:
    """(S, N) how far points lie ahead of S places, along S unit vectors."""
    return np.asarray(unit @ points.T - (start * unit).sum(axis=1)[:, None])


def _along(corners: Array, *, upper: bool) -> tuple[Array, Array, Array]:
    """Back end (S, 2), unit vector to the front (S, 2) and length (S,) of an endplate."""
    vector = formulas.upper_plate(corners) if upper else formulas.lower_plate(corners)
    start = corners[:, formulas.BACK_UPPER if upper else formulas.BACK_LOWER]
    size = formulas.length(vector)
    return start, vector / np.maximum(size, 1e-9)[:, None], size


def _turned(unit: Array) -> Array:
    """(S, 2) unit vectors square to others: of those to the front, to the feet."""
    return np.stack([-unit[:, 1], unit[:, 0]], axis=1)


def _cage(column: Column, index: int, above: str, below: str, points: Array) -> list[Measure]:
    levels = (above, below)
    start, along, depth = _along(column.corners[below], upper=True)
    reach = _ahead(points, start, along)
    first, last = _quantile(reach, 0.02), _quantile(reach, 0.98)
    position = 100.0 * (first + last) / 2.0 / depth
    # Beyond an endplate: square to it, towards the body, between its ends.
    sunk = np.zeros((2, len(start)))
    for side, (corners, upper) in enumerate(
        ((column.corners[below], True), (column.corners[above], False))
    ):
        origin, unit, size = _along(corners, upper=upper)
        across = _ahead(points, origin, _turned(unit))
        deep = across if upper else -across
        share = _ahead(points, origin, unit) / size[:, None]
        deep = np.where((share > 0) & (share < 1), deep, 0.0)
        sunk[side] = _deepest(deep)
    millimetre = MeasureUnit.MILLIMETRE
    return [
        column.said(MeasureKind.CAGE_POSITION, levels, MeasureUnit.PERCENT, position, index),
        column.said(MeasureKind.CAGE_TO_POSTERIOR_WALL, levels, millimetre, first, index),
        column.said(MeasureKind.CAGE_SUBSIDENCE, levels, millimetre, sunk.max(axis=0), index),
    ]


def _screw(
    column: Column,
    index: int,
    level: str,
    runs: ColumnRuns,
    points: Array,
    spacing_mm: tuple[float, float],
) -> list[Measure]:
    shape = shape_of_runs(runs)
    if shape is None:
        return []
    row_mm, column_mm = spacing_mm
    side = -1.0 if column.mirrored else 1.0
    axis = np.array([side * shape.direction_xy[0] * column_mm, shape.direction_xy[1] * row_mm])
    if axis[0] < 0:
        axis = -axis
    start, along, size = _along(column.corners[level], upper=True)
    angle = formulas.slope_deg(axis[None]) - formulas.slope_deg(along)
    above = -_ahead(points, start, _turned(along))
    share = _ahead(points, start, along) / size[:, None]
    beyond = np.where((share > 0.05) & (share < 1.0), above, 0.0)
    breach = _deepest(beyond)
    return [
        column.said(MeasureKind.SCREW_ANGLE, (level,), MeasureUnit.DEGREE, angle, index),
        column.said(MeasureKind.SCREW_BREACH, (level,), MeasureUnit.MILLIMETRE, breach, index),
    ]
