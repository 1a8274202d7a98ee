"""The measured column that measures are taken from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Measure, MeasureKind, MeasureUnit, WithheldReason

from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.uncertainty import Spread, half_width, name_of

Array = NDArray[np.float64]
Levels = tuple[str, ...]

MOST_HALF_WIDTH = {MeasureUnit.DEGREE: 25.0, MeasureUnit.PERCENT: 60.0}
"""An interval wider than this to either side says nothing: the measure is withheld."""


def neighbours(above: str, below: str) -> bool:
    """Whether a vertebra follows the other downward, whatever the number of lumbar ones."""
    if above[0] == below[0]:
        return int(below[1:]) == int(above[1:]) + 1
    return (above, below) == ("T12", "L1") or (below == "S1" and above in ("L4", "L5", "L6"))


FROM_ZERO = frozenset(
    {
        MeasureKind.DISC_HEIGHT_ANTERIOR,
        MeasureKind.DISC_HEIGHT_MIDDLE,
        MeasureKind.DISC_HEIGHT_POSTERIOR,
        MeasureKind.DISC_INDEX_HURXTHAL,
        MeasureKind.DISC_INDEX_FARFAN,
    }
)
"""What no disc has less than 0 of: where endplates are drawn over each other, value and interval
begin at 0."""


@dataclass(slots=True)
class Column:
    """The measured column: landmarks by level, the patient turned to look to the right.

    Attributes:
        corners: (S, 4, 2) by level: back upper, front upper, front lower, back lower, in mm.
        middles: (S, 2, 2) by level: middle of the upper and of the lower endplate.
        alone: (4, 2) corners by level before neighbours helped; empty: the same.
        index: Place of each level's outline in the labelling.
        unit_mm: Depth of the usual body.
        scaled: Whether the film states the distance of its pixels.
        missing: Why a level cannot be measured.
        order: Measured levels from above.
        doubted: Neighbours whose facing endplates cannot both be right.
        mirrored: Whether the film was turned, and its width in mm.
        intervals: How wide intervals are, see :mod:`spinezoo_spine.measures.uncertainty`.
    """

    corners: dict[str, Array] = field(default_factory=dict)
    middles: dict[str, Array] = field(default_factory=dict)
    alone: dict[str, Array] = field(default_factory=dict)
    index: dict[str, int] = field(default_factory=dict)
    unit_mm: float = 1.0
    scaled: bool = True
    missing: dict[str, WithheldReason] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    doubted: set[Levels] = field(default_factory=set)
    mirrored: bool = False
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    overall: WithheldReason | None = None

    def reason(self, levels: Sequence[str]) -> WithheldReason | None:
        """Why nothing can be said about these levels; None: it can."""
        if self.overall is not None:
            return self.overall
        if tuple(levels) in self.doubted:
            return WithheldReason.TOO_UNSURE
        for level in levels:
            if level in self.missing:
                return self.missing[level]
            if level not in self.corners:
                return WithheldReason.NO_VERTEBRA
        return None

    def doubt(self) -> None:
        """Finds neighbours whose facing endplates contradict each other.

        They are asked as they were before neighbours helped: help makes contradictions small, not
        right. Of S1 nothing but its endplate is measured: it is the one that is left out.
        """
        pairs = [pair for pair in itertools.pairwise(self.order) if neighbours(*pair)]
        if not pairs:
            return
        seen = {level: corners[0] for level, corners in self.corners.items()} | self.alone
        upper = np.stack([seen[above] for above, _ in pairs])
        lower = np.stack([seen[below] for _, below in pairs])
        wrong = formulas.contradictory(upper, lower)
        for pair, doubted in zip(pairs, wrong.tolist(), strict=True):
            if doubted:
                self.doubted.add(pair)
                if pair[1] == "S1":
                    self.missing.setdefault("S1", WithheldReason.TOO_UNSURE)

    def said(
        self,
        kind: MeasureKind,
        levels: Levels,
        unit: MeasureUnit,
        samples: Array,
        implant_index: int | None = None,
    ) -> Measure:
        """A measure from its samples (S,), the first of which is the estimate."""
        spread = float(samples[1:].std()) if len(samples) > 1 else 0.0
        scale = self.unit_mm if unit is MeasureUnit.MILLIMETRE else 1.0
        half = self.half_width(name_of(kind, levels), spread, scale)
        return self._told(kind, levels, unit, float(samples[0]), half, None, implant_index)

    def said_of_all(
        self,
        kinds: Sequence[tuple[MeasureKind, MeasureUnit]],
        levels: Sequence[Levels],
        samples: Sequence[Array],
        grades: Sequence[int | None] = (),
        implants: Sequence[int] = (),
    ) -> list[list[Measure]]:
        """Every kind of measure of several levels or discs.

        Args:
            kinds: K of them, whose intervals do not depend on the levels.
            levels: N of them.
            samples: K of (S, N), of which the first are the estimates.
            grades: N of the last kind; empty: it has none.
            implants: N implants that they are about; empty: about none.

        Returns:
            The K measures of each of the N.
        """
        every = np.stack(samples)
        spreads = every[:, 1:].std(axis=1) if every.shape[1] > 1 else np.zeros(every[:, 0].shape)
        values = every[:, 0].T.tolist()
        halves = [
            self.half_width(
                name_of(kind, ()), spread, self.unit_mm if unit is MeasureUnit.MILLIMETRE else 1.0
            ).tolist()
            for (kind, unit), spread in zip(kinds, spreads, strict=True)
        ]
        last = kinds[-1][0]
        about: Sequence[int | None] = implants or [None] * len(levels)
        return [
            [
                self._told(kind, each, unit, value, half, grade if kind is last else None, index)
                for (kind, unit), value, half in zip(kinds, said, half_of, strict=True)
            ]
            for each, said, half_of, grade, index in zip(
                levels,
                values,
                zip(*halves, strict=True),
                grades or [None] * len(levels),
                about,
                strict=True,
            )
        ]

    def _told(
        self,
        kind: MeasureKind,
        levels: Levels,
        unit: MeasureUnit,
        value: float,
        half: float,
        grade: int | None = None,
        implant_index: int | None = None,
    ) -> Measure:
        sources = tuple([self.index[level] for level in levels])
        reason = None
        if unit is MeasureUnit.MILLIMETRE and not self.scaled:
            reason = WithheldReason.NO_SPACING
        elif not isfinite(value):
            reason = WithheldReason.CUT_BY_FILM
        elif half > MOST_HALF_WIDTH.get(unit, inf):
            reason = WithheldReason.TOO_UNSURE
        if reason is not None:
            return Measure(
                kind, levels, unit, None, None, None, None, reason, sources, implant_index
            )
        low, high = value - half, value + half
        if kind in FROM_ZERO:
            low = max(low, 0.0)
        return Measure(kind, levels, unit, value, low, high, grade, None, sources, implant_index)

    def half_width(self, name: str, spread: Spread, unit: float) -> Spread:
        """Half the 90 % interval; see :func:`spinezoo_spine.measures.uncertainty.half_width`."""
        return half_width(self.intervals, name, spread, unit)

    def withheld(
        self, kind: MeasureKind, levels: Levels, unit: MeasureUnit, reason: WithheldReason
    ) -> Measure:
        """A measure without a value."""
        sources = tuple(self.index[level] for level in levels if level in self.index)
        return Measure(kind, levels, unit, withheld_reason=reason, vertebra_indices=sources)
