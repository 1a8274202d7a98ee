"""From the bootstrap's spread to an interval that holds the true value on nine films of ten.

The bootstrap knows how far members and borders differ, not what all members have in common:
networks trained on the same films err together. So the spread is joined with a floor and stretched,
both fitted by kind of measure on phantoms of other seeds than the tests'.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import MeasureKind

FILE = Path(__file__).with_name("calibration.json")
"""Floor and factor by kind of measure: ``half = factor * sqrt(spread ** 2 + floor ** 2)``. Floors
of lengths are shares of the depth of the usual body. Apart for measures by outlines alone
(``outlines``) and for films that the refiner looked at (``refined``)."""


LIKE = {
    "CAGE_POSITION": "SLIP_PERCENT",
    "CAGE_TO_POSTERIOR_WALL": "SLIP",
    "CAGE_SUBSIDENCE": "DISC_HEIGHT_MIDDLE",
    "SCREW_ANGLE": "DISC_ANGLE",
    "SCREW_BREACH": "DISC_HEIGHT_MIDDLE",
}
"""Kinds without a truth of their own, and the kind whose interval they take: they rest on the same
landmarks."""


def name_of(kind: MeasureKind, levels: Sequence[str]) -> str:
    """Under which a measure's interval is fitted: lordoses apart, by their levels."""
    if kind is MeasureKind.LORDOSIS:
        return f"{kind.name} {levels[0]}-{levels[-1]}"
    return kind.name


@cache
def calibration(*, refined: bool = False) -> dict[str, tuple[float, float]]:
    """Floor and factor by name of the kind, and of ``CORNER``."""
    read = json.loads(FILE.read_text(encoding="utf-8"))["refined" if refined else "outlines"]
    return {name: (float(floor), float(factor)) for name, (floor, factor) in read.items()}


UNFITTED = (0.0, 1.645)
"""Of a kind that was not fitted: the bootstrap alone."""

Spread = TypeVar("Spread", float, NDArray[np.float64])


def half_width(
    intervals: Mapping[str, tuple[float, float]], name: str, spread: Spread, unit: float = 1.0
) -> Spread:
    """Half the 90 % interval.

    Args:
        intervals: Floor and factor by name, see :func:`calibration`.
        name: Of the measure, see :func:`name_of`, or "CORNER".
        spread: Standard deviation over the bootstrap, of one measure or of several.
        unit: What a floor is a share of: the usual body's depth for lengths, else 1.
    """
    floor, factor = intervals.get(LIKE.get(name, name), UNFITTED)
    half: Spread = factor * (spread**2 + (floor * unit) ** 2) ** 0.5
    return half
