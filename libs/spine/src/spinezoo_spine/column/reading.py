"""What is said of a column: a name or a reason for every outline, and the lumbar count."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spinezoo_contract.types import UnnamedReason

LEAST_CONFIDENCE = 0.5
"""Below this a name is withheld."""


class CountReason(StrEnum):
    """What the number of lumbar vertebrae rests on, or why it cannot be said."""

    FIVE = "six vertebrae above S1, free film above them: T12 and five lumbar vertebrae"
    SIX = "seven vertebrae above S1, free film above them: six lumbar ones, or T11 was outlined too"
    FOUR = "five vertebrae above S1, free film above them: four lumbar ones, or T12 was missed"
    TOLD = "counted from S1 to T12, which the caller says is the uppermost outline"
    NO_NAMES = "the column is not numbered"
    TOP_CUT = "the film ends above the uppermost outline, so T12 cannot be told from the others"
    OTHER = "neither five, six nor seven vertebrae are outlined above S1"
    GAP = "a vertebra was missed, or the spacing is not clear"


@dataclass(frozen=True, slots=True)
class LevelName:
    """What is said of one vertebral outline.

    Attributes:
        index: Its place among the segments that were given.
        level: ``"T10"`` to ``"S2"``, or None: withheld.
        confidence: That the name is right, given that the outline is one vertebra; 0 to 1. Of a
            withheld name too, 0 where there is none to withhold.
        reason: Why there is no name; None where there is one.
        position: Vertebrae up from S1 (S1 is 0, S2 is -1), also of a withheld name; None where the
            outline is not in the column.
        same_as: For a duplicate: index of the outline that stands for the vertebra.
    """

    index: int
    level: str | None
    confidence: float
    reason: UnnamedReason | None
    position: int | None = None
    same_as: int | None = None


@dataclass(frozen=True, slots=True)
class ColumnReading:
    """What is said of a film's column.

    Attributes:
        names: One a vertebral instance, in the order given. Whole-class regions have none.
        sacrum_in_view: Whether S1 was found in the column.
        sacrum_confidence: That the outline taken for S1 is S1; 0 where none is.
        missing: Levels between named ones that no outline covers, from below.
        lumbar_count: Number of lumbar vertebrae, or None: cannot say.
        suspected_count: 4 or 6 where the outlines look so; None else. See ``docs/labelling.md``.
        count_reason: What ``lumbar_count`` rests on, or why it is None.
    """

    names: tuple[LevelName, ...]
    sacrum_in_view: bool
    sacrum_confidence: float
    missing: tuple[str, ...]
    lumbar_count: int | None
    suspected_count: int | None
    count_reason: CountReason
