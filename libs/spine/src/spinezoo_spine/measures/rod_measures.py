"""Breaks of rods as measures of a film, between the vertebrae that have names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import (
    FusedImplant,
    Labelling,
    Measure,
    MeasureKind,
    MeasureUnit,
    Point,
    RodBreak,
    Structure,
    WithheldReason,
)

from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.rod_breaks import RodsSeen, SeenBreak, seen_rods

HALF_MM = 1.6
"""Half the 90 % interval of a gap, at the detector: nine of ten on development phantoms are within
1.5 mm of the true one."""


def rod_measures(
    labelling: Labelling,
    implants: Sequence[FusedImplant],
    pixels: NDArray[Any] | None,
    spacing_mm: tuple[float | None, float | None],
    scale: float,
    unfit: WithheldReason | None,
) -> tuple[list[Measure], tuple[RodBreak, ...]]:
    """Number of breaks of every rod, the gap of every break, and where breaks are.

    Args:
        labelling: The film's named column.
        implants: Fused implants of the film.
        pixels: (height, width) film, bright means dense; None: nothing can be seen.
        spacing_mm: Distance of rows and of columns at the detector; None: not known.
        scale: What lengths are divided by.
        unfit: Why the film is not looked at; None: it is.

    Raises:
        MaskError: The run lengths of a mask are broken.
    """
    rods = [n for n, one in enumerate(implants) if one.segment.structure is Structure.ROD]
    if not rods:
        return [], ()
    row_mm, column_mm = spacing_mm
    known = row_mm is not None and column_mm is not None
    plane = (column_mm or 1.0, row_mm or 1.0) if known else (1.0, 1.0)
    seen = RodsSeen()
    if pixels is not None and unfit is None:
        seen = seen_rods(implants, pixels, plane)
    breaks = tuple(_named(each, labelling, np.array(plane)) for each in seen.breaks)
    measures = []
    for index in rods:
        own = [each for each in breaks if index in each.implant_indices]
        levels = own[0].levels if len(own) == 1 else ()
        kind, unit = MeasureKind.ROD_BREAKS, MeasureUnit.COUNT
        if own or index in seen.whole:
            said = Measure(kind, levels, unit, float(len(own)), implant_index=index)
        else:
            reason = unfit or WithheldReason.NOT_SHOWN
            said = Measure(kind, (), unit, withheld_reason=reason, implant_index=index)
        measures.append(said)
    for found, told in zip(seen.breaks, breaks, strict=True):
        measures.append(_gap(found, told, scale, known=known))
    return measures, breaks


def _named(found: SeenBreak, labelling: Labelling, plane: NDArray[np.float64]) -> RodBreak:
    """A break between the named vertebrae nearest to it."""
    named = [
        (each.segment.box.y + each.segment.box.height / 2.0, each.segment)
        for each in labelling.vertebrae
        if each.segment.level is not None and each.segment.level != "S2"
    ]
    named.sort(key=lambda each: each[0])
    centres = np.array([(one.box.x + one.box.width / 2.0, y) for y, one in named]).reshape(-1, 2)
    ends = [end for end in (found.upper_xy, found.lower_xy) if end is not None]
    levels = formulas.levels_beside(
        np.mean(ends, axis=0) * plane,
        centres * plane,
        [one.level for _, one in named if one.level is not None],
    )
    upper, lower = (
        None if end is None else Point(*end) for end in (found.upper_xy, found.lower_xy)
    )
    return RodBreak(found.indices, levels, upper, lower)


def _gap(found: SeenBreak, told: RodBreak, scale: float, *, known: bool) -> Measure:
    kind, unit, index = MeasureKind.ROD_BREAK_GAP, MeasureUnit.MILLIMETRE, found.indices[0]
    reason = None
    if found.gap is None:
        reason = WithheldReason.NOT_SHOWN
    elif not known:
        reason = WithheldReason.NO_SPACING
    if found.gap is None or reason is not None:
        return Measure(kind, told.levels, unit, withheld_reason=reason, implant_index=index)
    value, half = found.gap / scale, HALF_MM / scale
    low, high = max(0.0, value - half), value + half
    return Measure(kind, told.levels, unit, value, low, high, implant_index=index)
