"""From the bootstrap's spread to an interval that holds the true value on nine films of ten.

The bootstrap knows how far members and borders differ, not what all members have in common: networks
trained on the same films err together. So the spread is joined with a floor and stretched, both
fitted by kind of measure on phantoms of other seeds than the tests'.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from spinezoo_contract.types import MeasureKind

FILE = Path(__file__).with_name("calibration.json")
"""Floor and factor by kind of measure: ``half = factor * sqrt(spread ** 2 + floor ** 2)``. Floors of
lengths are shares of the depth of the usual body."""


@cache
def calibration() -> dict[str, tuple[float, float]]:
    """Floor and factor by name of the kind, and of ``CORNER``."""
    read = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: (float(floor), float(factor)) for name, (floor, factor) in read.items()}


def half_width(kind: MeasureKind | str, spread: float, unit: float = 1.0) -> float:
    """Half the 90 % interval.

    Args:
        kind: Of the measure, or "CORNER".
        spread: Standard deviation over the bootstrap.
        unit: What a floor is a share of: the usual body's depth for lengths, else 1.
    """
    name = kind if isinstance(kind, str) else kind.name
    floor, factor = calibration().get(name, (0.0, 1.645))
    return float(factor * (spread**2 + (floor * unit) ** 2) ** 0.5)
