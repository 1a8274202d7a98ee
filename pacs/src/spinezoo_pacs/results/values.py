"""The gateway's measures as coded values of a report."""

from __future__ import annotations

from dataclasses import dataclass

from highdicom.sr import CodedConcept
from spinezoo_contract.types import EnsembleAnswer, MeasurePlane, MeasureUnit

SCHEME = "99SPINEZOO"
"""Our own coding scheme: what ``docs/measures.md`` defines has no code elsewhere."""

UNITS = {
    MeasureUnit.DEGREE: CodedConcept("deg", "UCUM", "degree"),
    MeasureUnit.MILLIMETRE: CodedConcept("mm", "UCUM", "mm"),
    MeasureUnit.PERCENT: CodedConcept("%", "UCUM", "percent"),
    MeasureUnit.RATIO: CodedConcept("1", "UCUM", "no units"),
    MeasureUnit.COUNT: CodedConcept("{count}", "UCUM", "count"),
}


@dataclass(frozen=True, slots=True)
class Value:
    """A value that was measured.

    Attributes:
        label: Label of the finding it belongs to, such as ``L4 vertebra``; empty: the film's.
        name: What was measured, coded.
        value: The value.
        unit: UCUM unit, coded.
        note: Its interval, for a person.
    """

    label: str
    name: CodedConcept
    value: float
    unit: CodedConcept
    note: str = ""


def values_of(answer: EnsembleAnswer) -> tuple[Value, ...]:
    """Every measure that has a value; those of one body belong to its outline."""
    measured = answer.fused.measures
    found = []
    for each in measured.measures if measured is not None else ():
        if each.value is None:
            continue
        levels = "/".join(each.levels)
        one_body = each.kind.name.startswith(("BODY_", "DOUBLE_CONTOUR_")) and len(each.levels) == 1
        meaning = f"{each.kind.name.replace('_', ' ').capitalize()} {levels}".strip()
        note = ""
        if each.low is not None and each.high is not None:
            low, high = (_unsigned(end) for end in (each.low, each.high))
            note = f"{meaning}: 90 % interval {low:.3g} to {high:.3g}"
        found.append(
            Value(
                f"{levels} vertebra" if one_body else "",
                CodedConcept(f"M{each.kind.value:03d}", SCHEME, meaning[:64]),
                _unsigned(each.value),
                UNITS[each.unit],
                note,
            )
        )
    return tuple(found)


def _unsigned(value: float) -> float:
    """Four decimals; 0 without a sign, which is all that is left of a tiny negative value."""
    return round(value, 4) + 0.0


def plane_words(answer: EnsembleAnswer) -> str:
    """Where millimetres were measured; empty where none are."""
    measured = answer.fused.measures
    if measured is None or measured.plane is None:
        return ""
    if measured.plane is MeasurePlane.UNSAID:
        return (
            "Millimetres are by the film's Pixel Spacing, which does not say whether they hold at "
            "the detector or in the patient."
        )
    where = "in the patient" if measured.plane is MeasurePlane.PATIENT else "at the detector"
    return f"Millimetres are measured {where}."
