"""Named columns against a truth with levels: how many vertebrae are found, and named right."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinezoo_contract.types import Labelling, NamedVertebra, Segment, Structure
from spinezoo_spine.column.anatomy import USUAL_LUMBAR
from spinezoo_spine.metrics.matching import matched_pairs


@dataclass(frozen=True, slots=True)
class ColumnCounts:
    """What is counted of one model on one film, or on several films added up.

    Attributes:
        true: Outlines of the truth that are asked for, such as L1 to L5.
        recognised: Those that a predicted vertebra matches one to one at IoU >= 0.5.
        iou_sum: Sum of the IoU of those.
        predicted: Predicted vertebrae that the truth can judge.
        right: Those of ``predicted`` that match any outline of the truth.
        to_name: Recognised ones that have a level in the truth, on films with the sacrum in view.
        named_right: Of those, named as the truth says.
        named_wrong: Of those, named otherwise; the rest has no name.
        named_off_by_count: Of ``named_wrong``, those on films of four or six lumbar vertebrae that
            are right when the lowest one counts as L5 (docs/labelling.md).
        to_name_of_five: Of ``to_name``, those on films whose lowest lumbar vertebra is L5.
        named_right_of_five: Of ``named_right``, the same.
        films: Films measured.
        failed: Films without an answer; they count in nothing else.
        names: Of each of ``to_name`` the likeliest name's confidence, given or withheld, and
            whether that name is right.
    """

    true: int = 0
    recognised: int = 0
    iou_sum: float = 0.0
    predicted: int = 0
    right: int = 0
    to_name: int = 0
    named_right: int = 0
    named_wrong: int = 0
    named_off_by_count: int = 0
    to_name_of_five: int = 0
    named_right_of_five: int = 0
    films: int = 0
    failed: int = 0
    names: tuple[tuple[float, bool], ...] = ()

    def __add__(self, other: ColumnCounts) -> ColumnCounts:
        return ColumnCounts(
            *(
                getattr(self, field.name) + getattr(other, field.name)
                for field in dataclasses.fields(self)
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values: the counts and the shares."""
        return {**dataclasses.asdict(self), **self.values()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ColumnCounts:
        """The opposite of :meth:`to_json`."""
        counts = {name: data[name] for name in COUNTS}
        return cls(**counts, names=tuple((c, bool(r)) for c, r in data.get("names", ())))

    def values(self) -> dict[str, float | None]:
        """The shares, None where nothing defines one."""
        return {
            "recognition": _ratio(self.recognised, self.true),
            "precision": _ratio(self.right, self.predicted),
            "mean_iou": _ratio(self.iou_sum, self.recognised),
            "named_right_share": _ratio(self.named_right, self.to_name),
            "named_wrong_share": _ratio(self.named_wrong, self.to_name),
            "named_off_by_count_share": _ratio(self.named_off_by_count, self.to_name),
            "named_right_of_five_share": _ratio(self.named_right_of_five, self.to_name_of_five),
            "named_right_of_others_share": _ratio(
                self.named_right - self.named_right_of_five, self.to_name - self.to_name_of_five
            ),
        }


COUNTS = tuple(field.name for field in dataclasses.fields(ColumnCounts) if field.name != "names")
"""The numbers of :class:`ColumnCounts`."""

TITLES_OF_VALUES: Mapping[str, str] = {
    "recognition": "recognised",
    "precision": "precision",
    "mean_iou": "mean IoU of the recognised",
    "named_right_share": "named right",
    "named_wrong_share": "named wrong",
    "named_off_by_count_share": "of which off by the count",
}


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _number(level: str | None) -> int | None:
    """L1 is 1, T12 is 0; None for what is neither thoracic nor lumbar."""
    if level is None or level[:1] not in ("L", "T") or not level[1:].isdecimal():
        return None
    return int(level[1:]) - (12 if level[0] == "T" else 0)


def _off_by_count(true: str, said: str | None, lowest: int) -> bool:
    """Whether a name is right once the lowest lumbar vertebra, number ``lowest``, is called L5."""
    true_number, said_number = _number(true), _number(said)
    if lowest == USUAL_LUMBAR or true_number is None or said_number is None:
        return False
    return said_number == true_number + USUAL_LUMBAR - lowest


def beyond_truth(vertebra: Segment, outlines: Sequence[Segment]) -> bool:
    """Whether a truth that is not complete cannot judge a vertebra that matches none of it.

    It is sacral, or its middle lies above the uppermost of the true outlines.
    """
    top = min((outline.box.y for outline in outlines), default=0.0)
    middle = vertebra.box.y + vertebra.box.height / 2.0
    return vertebra.structure is Structure.SACRAL_VERTEBRA or middle < top


def count_column(
    outlines: Sequence[Segment],
    column: Labelling,
    wanted: Sequence[str] | None = None,
    *,
    sacrum_in_view: bool,
    complete_truth: bool = True,
) -> ColumnCounts:
    """Counts one named column against the true outlines of its film.

    Args:
        outlines: True vertebrae with their levels.
        column: What one model says.
        wanted: Levels that recognition and names are asked for; None: every true vertebra.
        sacrum_in_view: Whether the film shows S1: else no name is asked for.
        complete_truth: Whether the truth is complete. Else a vertebra without a match that lies
            :func:`beyond_truth` is neither right nor wrong.
    """
    predicted = [vertebra.segment for vertebra in column.vertebrae]
    pairs = matched_pairs(outlines, predicted)
    match_of = {true: (place, iou) for true, place, iou in pairs}
    asked = [n for n, outline in enumerate(outlines) if wanted is None or outline.level in wanted]
    found = [place for place in asked if place in match_of]
    judged_names = [
        (outlines[place].level, column.vertebrae[match_of[place][0]])
        for place in found
        if sacrum_in_view and outlines[place].level is not None
    ]
    names = [(true, vertebra.segment.level) for true, vertebra in judged_names]
    matched = {place for _, place, _ in pairs}
    numbers = [_number(outline.level) for outline in outlines]
    lowest = max((number for number in numbers if number is not None), default=USUAL_LUMBAR)
    judged = [
        place
        for place, segment in enumerate(predicted)
        if complete_truth or place in matched or not beyond_truth(segment, outlines)
    ]
    named_right = sum(true == said for true, said in names)
    five = lowest == USUAL_LUMBAR
    return ColumnCounts(
        true=len(asked),
        recognised=len(found),
        iou_sum=sum(match_of[place][1] for place in found),
        predicted=len(judged),
        right=len(matched),
        to_name=len(names),
        named_right=named_right,
        named_wrong=sum(said is not None and true != said for true, said in names),
        named_off_by_count=sum(
            true is not None and _off_by_count(true, said, lowest) for true, said in names
        ),
        to_name_of_five=len(names) if five else 0,
        named_right_of_five=named_right if five else 0,
        films=1,
        names=tuple(_likeliest(true, vertebra) for true, vertebra in judged_names),
    )


def _likeliest(true: str | None, vertebra: NamedVertebra) -> tuple[float, bool]:
    """Confidence of a vertebra's likeliest name, given or withheld, and whether it is right."""
    level = vertebra.segment.level
    possible = vertebra.level_probabilities
    if level is None and possible:
        level = max(possible, key=lambda each: possible[each])
    confidence = possible.get(level, vertebra.confidence) if level else vertebra.confidence
    return round(confidence, 4), level == true


def add_up(counts: Sequence[ColumnCounts]) -> ColumnCounts:
    """Counts of several films."""
    return sum(counts, start=ColumnCounts())
