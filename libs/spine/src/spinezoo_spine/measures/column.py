"""The measured column that measures are taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Measure, MeasureKind, MeasureUnit, WithheldReason

from spinezoo_spine.measures.uncertainty import half_width, name_of

Array = NDArray[np.float64]
Levels = tuple[str, ...]

MOST_HALF_WIDTH = {MeasureUnit.DEGREE: 25.0, MeasureUnit.PERCENT: 60.0}
"""An interval wider than this to either side says nothing: the measure is withheld."""


@dataclass(slots=True)
class Column:
    """The measured column: landmarks by level, the patient turned to look to the right.

    Attributes:
        corners: (S, 4, 2) by level: back upper, front upper, front lower, back lower, in mm.
        middles: (S, 2, 2) by level: middle of the upper and of the lower endplate.
        index: Place of each level's outline in the labelling.
        unit_mm: Depth of the usual body.
        scaled: Whether the film states the distance of its pixels.
        missing: Why a level cannot be measured.
        order: Measured levels from above.
        mirrored: Whether the film was turned, and its width in mm.
        refined: Whether the refiner looked at the film: intervals are narrower then.
    """

    corners: dict[str, Array] = field(default_factory=dict)
    middles: dict[str, Array] = field(default_factory=dict)
    index: dict[str, int] = field(default_factory=dict)
    unit_mm: float = 1.0
    scaled: bool = True
    missing: dict[str, WithheldReason] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    mirrored: bool = False
    refined: bool = False
    overall: WithheldReason | None = None

    def reason(self, levels: Sequence[str]) -> WithheldReason | None:
        """Why nothing can be said about these levels; None: it can."""
        if self.overall is not None:
            return self.overall
        for level in levels:
            if level in self.missing:
                return self.missing[level]
            if level not in self.corners:
                return WithheldReason.NO_VERTEBRA
        return None

    def said(self, kind: MeasureKind, levels: Levels, unit: MeasureUnit, samples: Array) -> Measure:
        """A measure from its samples (S,), the first of which is the estimate."""
        return self.said_of_all(kind, [levels], unit, samples[:, None])[0]

    def said_of_all(
        self, kind: MeasureKind, levels: Sequence[Levels], unit: MeasureUnit, samples: Array
    ) -> list[Measure]:
        """One measure of several levels or discs, from samples (S, N)."""
        spreads = samples[1:].std(axis=0) if len(samples) > 1 else np.zeros(len(levels))
        return [
            self._told(kind, each, unit, value, spread)
            for each, value, spread in zip(
                levels, samples[0].tolist(), spreads.tolist(), strict=True
            )
        ]

    def _told(
        self, kind: MeasureKind, levels: Levels, unit: MeasureUnit, value: float, spread: float
    ) -> Measure:
        if unit is MeasureUnit.MILLIMETRE and not self.scaled:
            return self.withheld(kind, levels, unit, WithheldReason.NO_SPACING)
        if not isfinite(value):
            return self.withheld(kind, levels, unit, WithheldReason.CUT_BY_FILM)
        half = self.half_width(
            name_of(kind, levels), spread, self.unit_mm if unit is MeasureUnit.MILLIMETRE else 1.0
        )
        if half > MOST_HALF_WIDTH.get(unit, inf):
            return self.withheld(kind, levels, unit, WithheldReason.TOO_UNSURE)
        sources = tuple(self.index[level] for level in levels)
        low, high = value - half, value + half
        return Measure(kind, levels, unit, value, low, high, None, None, sources)

    def half_width(self, name: str, spread: float, unit: float) -> float:
        """Half the 90 % interval; see :func:`spinezoo_spine.measures.uncertainty.half_width`."""
        return half_width(name, spread, unit, refined=self.refined)

    def withheld(
        self, kind: MeasureKind, levels: Levels, unit: MeasureUnit, reason: WithheldReason
    ) -> Measure:
        """A measure without a value."""
        sources = tuple(self.index[level] for level in levels if level in self.index)
        return Measure(kind, levels, unit, withheld_reason=reason, vertebra_indices=sources)
