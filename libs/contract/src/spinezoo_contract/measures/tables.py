"""Measures as a table: rows, CSV and plain values for JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from spinezoo_contract.measures.compare import Change
from spinezoo_contract.types import FilmMeasures, MeasureUnit

COLUMNS = (
    "measure",
    "levels",
    "unit",
    "value",
    "low",
    "high",
    "grade",
    "withheld",
    "implant",
    "plane",
)

CHANGE_COLUMNS = ("measure", "levels", "unit", "before", "after", "change", "half_width", "beyond")

UNITS = {
    MeasureUnit.DEGREE: "deg",
    MeasureUnit.MILLIMETRE: "mm",
    MeasureUnit.PERCENT: "%",
    MeasureUnit.RATIO: "",
    MeasureUnit.COUNT: "",
}
"""How a unit is written."""


def to_rows(measures: FilmMeasures) -> list[dict[str, Any]]:
    """A row a measure, by :data:`COLUMNS`; numbers are rounded to what they can bear.

    Millimetres say in which plane they are.
    """
    plane = None if measures.plane is None else measures.plane.name.lower()
    return [
        {
            "measure": each.kind.name.lower(),
            "levels": "/".join(each.levels),
            "unit": UNITS[each.unit],
            "value": _rounded(each.value),
            "low": _rounded(each.low),
            "high": _rounded(each.high),
            "grade": each.grade,
            "withheld": None if each.withheld_reason is None else each.withheld_reason.name.lower(),
            "implant": each.implant_index,
            "plane": plane if each.unit is MeasureUnit.MILLIMETRE else None,
        }
        for each in measures.measures
    ]


def change_rows(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """A row a change, by :data:`CHANGE_COLUMNS`."""
    return [
        {
            "measure": each.kind.name.lower(),
            "levels": "/".join(each.levels),
            "unit": UNITS[each.unit],
            "before": _rounded(each.before),
            "after": _rounded(each.after),
            "change": _rounded(each.change),
            "half_width": _rounded(each.half_width),
            "beyond": each.beyond,
        }
        for each in changes
    ]


def to_csv(measures: FilmMeasures) -> str:
    """The table as CSV with a header."""
    return _csv(COLUMNS, to_rows(measures))


def changes_to_csv(changes: Sequence[Change]) -> str:
    """The changes as CSV with a header."""
    return _csv(CHANGE_COLUMNS, change_rows(changes))


def _csv(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
