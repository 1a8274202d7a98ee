"""Two films of one patient: how much each measure changed, and whether more than it may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinezoo_contract.types import FilmMeasures, Measure, MeasureKind, MeasureUnit


@dataclass(frozen=True, slots=True)
class Change:
    """How a measure changed from one film to the next.

    Attributes:
        kind: What is measured.
        levels: Of which levels.
        unit: Its unit.
        before: On the first film; None: withheld there.
        after: On the second film.
        change: ``after - before``; None where one is withheld or the lengths are not of one plane.
        half_width: Half the 90 % interval of the change: both films' errors added in squares; None
            where there is no change, or a measure without an interval, such as a count.
        beyond: Whether the change is greater than that; of what has no interval it is not said.
    """

    kind: MeasureKind
    levels: tuple[str, ...]
    unit: MeasureUnit
    before: float | None
    after: float | None
    change: float | None
    half_width: float | None
    beyond: bool


def compare_films(before: FilmMeasures, after: FilmMeasures) -> tuple[Change, ...]:
    """Every measure that both films or one of them has, in the order of the second.

    Pairs pre- and post-operative films, or flexion and extension. Measures of single implants are
    left out: which implant is which is not known from film to film.
    """
    one_plane = before.plane == after.plane
    first = {(m.kind, m.levels): m for m in before.measures if m.implant_index is None}
    second = {(m.kind, m.levels): m for m in after.measures if m.implant_index is None}
    changes = []
    for key in [*second, *(key for key in first if key not in second)]:
        old, new = first.get(key), second.get(key)
        known = new or old
        if known is None or (_value(old) is None and _value(new) is None):
            continue
        comparable = known.unit is not MeasureUnit.MILLIMETRE or one_plane
        changes.append(_change(known, old, new, comparable=comparable))
    return tuple(changes)


def _value(measure: Measure | None) -> float | None:
    return None if measure is None else measure.value


def _half(measure: Measure) -> float | None:
    if measure.value is None or measure.high is None:
        return None
    return measure.high - measure.value  # below, an interval may be cut at 0


def _change(
    known: Measure, old: Measure | None, new: Measure | None, *, comparable: bool
) -> Change:
    before, after = _value(old), _value(new)
    change = half = None
    if comparable and old and new and before is not None and after is not None:
        change = after - before
        one, other = _half(old), _half(new)
        half = None if one is None or other is None else math.hypot(one, other)
    beyond = change is not None and half is not None and abs(change) > half
    return Change(known.kind, known.levels, known.unit, before, after, change, half, beyond)
