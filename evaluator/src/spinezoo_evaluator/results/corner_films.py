"""What the check on real films keeps of a film: counts of names by variant and network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spinezoo_evaluator.results.columns import ColumnCounts

VARIANTS = ("plain", "mirrored", "x 0.7", "x 1.3")
"""How a film is sent. All but the first say how much an answer hangs on side and size."""


@dataclass(frozen=True, slots=True)
class FilmResult:
    """One film in one variant.

    Attributes:
        film: Its name.
        variant: One of :data:`VARIANTS`.
        sacrum_in_view: By the truth.
        counts: By model.
        said: By model: sentences about the column as a whole.
        failures: By model: why there is no answer.
    """

    film: str
    variant: str
    sacrum_in_view: bool
    counts: Mapping[str, ColumnCounts]
    said: Mapping[str, str]
    failures: Mapping[str, str]
