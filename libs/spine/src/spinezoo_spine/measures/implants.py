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
    Segment,
    Structure,
)

from spinezoo_spine.column.bodies import column_runs, shape_of_runs
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
        points = _points(implant.segment, column, spacing_mm, scale)
        if len(points) < 6:
            continue
        if structure is Structure.CAGE and len(levels) == 2:
            measures += _cage(column, index, levels[0], levels[1], points)
        elif structure is Structure.SCREW:
            level = levels[0]
            screws[level] = screws.get(level, 0) + 1
            measures += _screw(column, index, level, implant.segment, points, spacing_mm)
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
    segment: Segment, column: Column, spacing_mm: tuple[float, float], scale: float
) -> Array:
    """(N, 2) ends of an outline's strokes in the column's plane, front to the right."""
    row_mm, column_mm = spacing_mm
    runs = column_runs(segment.mask)
    x = np.concatenate([runs.column, runs.column]) + 0.5
    y = np.concatenate([runs.top, runs.bottom]).astype(np.float64)
    side = -1.0 if column.mirrored else 1.0
    return np.stack([side * x * column_mm, y * row_mm], axis=1) / scale


def _said(
    column: Column,
    kind: MeasureKind,
    levels: tuple[str, ...],
    unit: MeasureUnit,
    samples: Array,
    index: int,
) -> Measure:
    measure = column.said(kind, levels, unit, samples)
    return Measure(
        measure.kind,
        measure.levels,
        measure.unit,
        measure.value,
        measure.low,
        measure.high,
        measure.grade,
        measure.withheld_reason,
        measure.vertebra_indices,
        index,
    )


def _along(corners: Array, *, upper: bool) -> tuple[Array, Array, Array]:
    """Back end (S, 2), unit vector to the front (S, 2) and length (S,) of an endplate."""
    vector = formulas.upper_plate(corners) if upper else formulas.lower_plate(corners)
    start = corners[:, formulas.BACK_UPPER if upper else formulas.BACK_LOWER]
    size = formulas.length(vector)
    return start, vector / np.maximum(size, 1e-9)[:, None], size


def _cage(column: Column, index: int, above: str, below: str, points: Array) -> list[Measure]:
    levels = (above, below)
    start, along, depth = _along(column.corners[below], upper=True)
    reach = np.einsum("snk,sk->sn", points[None] - start[:, None], along)
    first, last = np.percentile(reach, 2, axis=1), np.percentile(reach, 98, axis=1)
    position = 100.0 * (first + last) / 2.0 / depth
    # Beyond an endplate: square to it, towards the body, between its ends.
    sunk = np.zeros((2, len(start)))
    for side, (corners, upper) in enumerate(
        ((column.corners[below], True), (column.corners[above], False))
    ):
        origin, unit, size = _along(corners, upper=upper)
        step = points[None] - origin[:, None]
        across = step[..., 1] * unit[:, None, 0] - step[..., 0] * unit[:, None, 1]
        deep = across if upper else -across
        share = np.einsum("snk,sk->sn", step, unit) / size[:, None]
        deep = np.where((share > 0) & (share < 1), deep, 0.0)
        sunk[side] = np.maximum(np.percentile(deep, 98, axis=1), 0.0)
    millimetre = MeasureUnit.MILLIMETRE
    return [
        _said(column, MeasureKind.CAGE_POSITION, levels, MeasureUnit.PERCENT, position, index),
        _said(column, MeasureKind.CAGE_TO_POSTERIOR_WALL, levels, millimetre, first, index),
        _said(column, MeasureKind.CAGE_SUBSIDENCE, levels, millimetre, sunk.max(axis=0), index),
    ]


def _screw(
    column: Column,
    index: int,
    level: str,
    segment: Segment,
    points: Array,
    spacing_mm: tuple[float, float],
) -> list[Measure]:
    shape = shape_of_runs(column_runs(segment.mask))
    if shape is None:
        return []
    row_mm, column_mm = spacing_mm
    side = -1.0 if column.mirrored else 1.0
    axis = np.array([side * shape.direction_xy[0] * column_mm, shape.direction_xy[1] * row_mm])
    if axis[0] < 0:
        axis = -axis
    start, along, size = _along(column.corners[level], upper=True)
    angle = formulas.slope_deg(axis[None]) - formulas.slope_deg(along)
    step = points[None] - start[:, None]
    above = step[..., 0] * along[:, None, 1] - step[..., 1] * along[:, None, 0]
    share = np.einsum("snk,sk->sn", step, along) / size[:, None]
    beyond = np.where((share > 0.05) & (share < 1.0), above, 0.0)
    breach = np.maximum(np.percentile(beyond, 98, axis=1), 0.0)
    return [
        _said(column, MeasureKind.SCREW_ANGLE, (level,), MeasureUnit.DEGREE, angle, index),
        _said(column, MeasureKind.SCREW_BREACH, (level,), MeasureUnit.MILLIMETRE, breach, index),
    ]
