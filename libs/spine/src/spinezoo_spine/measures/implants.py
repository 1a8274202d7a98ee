"""Where cages, screws and rods lie in the measured column."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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

LEAST_STROKES = 3
"""An implant of fewer film columns is not measured."""


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
    found: dict[int, list[Measure]] = {}
    screws: dict[int, tuple[str, ColumnRuns]] = {}
    for index, implant in enumerate(implants):
        levels = tuple(level for level in implant.touches if level in column.corners)
        structure = implant.segment.structure
        if not levels or column.reason(levels) is not None:
            continue
        runs = column_runs(implant.segment.mask)
        if len(runs.column) < LEAST_STROKES:
            continue
        if structure is Structure.CAGE and len(levels) == 2:
            points = _points(runs, column, spacing_mm, scale)
            found[index] = _cage(column, index, levels[0], levels[1], points)
        elif structure is Structure.SCREW:
            screws[index] = levels[0], runs
        elif structure is Structure.ROD:
            count = float(len(implant.touches))
            found[index] = [_counted(column, MeasureKind.ROD_LEVELS, levels, count, index)]
    if screws:
        found |= _screws(column, screws, spacing_mm, scale)
    measures = [measure for index in sorted(found) for measure in found[index]]
    for level, times in Counter(level for level, _ in screws.values()).items():
        measures.append(_counted(column, MeasureKind.SCREW_COUNT, (level,), float(times), None))
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
    count = len(runs.column)
    points = np.empty((2 * count, 2))
    points[:count, 0] = points[count:, 0] = runs.column + 0.5
    points[:count, 1], points[count:, 1] = runs.top, runs.bottom
    points *= (-column_mm / scale if column.mirrored else column_mm / scale, row_mm / scale)
    return points


def _quantile(values: Array, share: float) -> Array:
    """(S,) quantile of samples (S, N), between neighbours in proportion."""
    at = share * (values.shape[1] - 1)
    low = min(int(at), values.shape[1] - 2)
    ordered = np.partition(values, (low, low + 1), axis=1)
    return np.asarray(ordered[:, low] + (at - low) * (ordered[:, low + 1] - ordered[:, low]))


def _deepest(deep: Array, within: NDArray[np.bool_]) -> Array:
    """(S,) how deep all but the outermost 2 % of points lie at most, 0 or more.

    Args:
        deep: (S, N) how deep each point lies.
        within: (S, N) whether it counts; one that does not has no depth.
    """
    count = deep.shape[1]
    beyond = within & (deep > 0.0)
    if np.count_nonzero(beyond, axis=1).max() <= count - 2 - int(0.98 * (count - 1)):
        return np.zeros(len(deep))
    return np.maximum(_quantile(np.where(beyond, deep, 0.0), 0.98), 0.0)


@dataclass(frozen=True, slots=True)
class _Plate:
    """An endplate in S samples.

    Attributes:
        start: (S, 2) its back end.
        along: (S, 2) unit vector to the front.
        size: (S,) its length; NaN: it is not in view.
    """

    start: Array
    along: Array
    size: Array

    @classmethod
    def of(cls, corners: Array, *, upper: bool) -> _Plate:
        """Of a body."""
        vector = formulas.upper_plate(corners) if upper else formulas.lower_plate(corners)
        start = corners[:, formulas.BACK_UPPER if upper else formulas.BACK_LOWER]
        size = formulas.length(vector)
        return cls(start, vector / np.maximum(size, 1e-9)[:, None], size)

    @property
    def slope_deg(self) -> Array:
        """(S,) how far its front points down from level, in degrees."""
        return formulas.slope_deg(self.along)

    def places(self, points: Array) -> tuple[Array, Array]:
        """(S, N) how far points lie in front of its back end, and how far below it."""
        units = np.concatenate([self.along, self.along[:, ::-1] * (-1.0, 1.0)])
        count = len(self.along)
        starts = np.concatenate([self.start, self.start])
        values = units @ points.T - (starts * units).sum(axis=1)[:, None]
        return values[:count], values[count:]


def _cage(column: Column, index: int, above: str, below: str, points: Array) -> list[Measure]:
    levels = (above, below)
    lower = _Plate.of(column.corners[below], upper=True)
    upper = _Plate.of(column.corners[above], upper=False)
    reach, deep = lower.places(points)
    first, last = _quantile(reach, 0.02), _quantile(reach, 0.98)
    position = 100.0 * (first + last) / 2.0 / lower.size
    # Beyond an endplate: square to it, towards the body, between its ends.
    into_lower = _deepest(deep, (reach > 0) & (reach < lower.size[:, None]))
    reach, deep = upper.places(points)
    into_upper = _deepest(-deep, (reach > 0) & (reach < upper.size[:, None]))
    sunk = np.maximum(into_lower, into_upper) + 0.0 * (lower.size + upper.size)  # NaN: unseen
    millimetre = MeasureUnit.MILLIMETRE
    return [
        column.said(MeasureKind.CAGE_POSITION, levels, MeasureUnit.PERCENT, position, index),
        column.said(MeasureKind.CAGE_TO_POSTERIOR_WALL, levels, millimetre, first, index),
        column.said(MeasureKind.CAGE_SUBSIDENCE, levels, millimetre, sunk, index),
    ]


_SCREW_KINDS = (
    (MeasureKind.SCREW_ANGLE, MeasureUnit.DEGREE),
    (MeasureKind.SCREW_BREACH, MeasureUnit.MILLIMETRE),
)


def _screws(
    column: Column,
    screws: Mapping[int, tuple[str, ColumnRuns]],
    spacing_mm: tuple[float, float],
    scale: float,
) -> dict[int, list[Measure]]:
    """Angle and breach of screws by their place among the implants."""
    row_mm, column_mm = spacing_mm
    side = -1.0 if column.mirrored else 1.0
    angles, breaches = [], []
    for level, runs in screws.values():
        shape = shape_of_runs(runs)
        x, y = (0.0, 0.0) if shape is None else shape.direction_xy
        slope = math.degrees(math.atan2(side * y * row_mm, x * column_mm))
        upper = _Plate.of(column.corners[level], upper=True)
        # A line has no sense: of its two angles to the endplate the acute one.
        angles.append((slope - upper.slope_deg + 90.0) % 180.0 - 90.0)
        reach, below = upper.places(_points(runs, column, spacing_mm, scale))
        within = (reach > 0.05 * upper.size[:, None]) & (reach < upper.size[:, None])
        breaches.append(_deepest(-below, within) + 0.0 * upper.size)  # NaN: not in view
    samples = np.stack(angles, axis=1), np.stack(breaches, axis=1)
    levels = [(level,) for level, _ in screws.values()]
    told = column.said_of_all(_SCREW_KINDS, levels, samples, implants=list(screws))
    return dict(zip(screws, told, strict=True))
