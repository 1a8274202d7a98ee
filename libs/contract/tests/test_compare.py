"""Changes between two films."""

from __future__ import annotations

from spinezoo_contract.measures.compare import compare_films
from spinezoo_contract.measures.tables import changes_to_csv, to_csv
from spinezoo_contract.types import (
    Facing,
    FilmMeasures,
    Measure,
    MeasureKind,
    MeasurePlane,
    MeasureUnit,
    WithheldReason,
)


def film(*measures: Measure, plane: MeasurePlane | None = MeasurePlane.DETECTOR) -> FilmMeasures:
    return FilmMeasures(Facing.RIGHT, 1.0, plane, measures=measures)


def screws(count: float) -> Measure:
    return Measure(MeasureKind.SCREW_COUNT, ("L4",), MeasureUnit.COUNT, count)


def height(value: float, half: float) -> Measure:
    kind = MeasureKind.BODY_HEIGHT_ANTERIOR
    return Measure(
        kind, ("L4",), MeasureUnit.MILLIMETRE, value, low=value - half, high=value + half
    )


def withheld(level: str) -> Measure:
    kind, reason = MeasureKind.BODY_HEIGHT_ANTERIOR, WithheldReason.CUT_BY_FILM
    return Measure(kind, (level,), MeasureUnit.MILLIMETRE, withheld_reason=reason)


def test_what_has_no_interval_is_not_said_to_have_changed_beyond_it() -> None:
    (change,) = compare_films(film(screws(1.0)), film(screws(2.0)))
    assert (change.before, change.after, change.change) == (1.0, 2.0, 1.0)
    assert change.half_width is None
    assert not change.beyond


def test_intervals_add_in_squares() -> None:
    (small,) = compare_films(film(height(30.0, 3.0)), film(height(26.0, 4.0)))
    assert (small.change, small.half_width, small.beyond) == (-4.0, 5.0, False)
    (great,) = compare_films(film(height(30.0, 3.0)), film(height(24.0, 4.0)))
    assert (great.change, great.half_width, great.beyond) == (-6.0, 5.0, True)


def test_lengths_of_two_planes_are_not_compared() -> None:
    patient = film(height(25.0, 3.0), plane=MeasurePlane.PATIENT)
    (change,) = compare_films(film(height(30.0, 3.0)), patient)
    assert (change.before, change.after, change.change, change.beyond) == (30.0, 25.0, None, False)
    (same,) = compare_films(patient, patient)
    assert same.change == 0.0


def test_a_change_of_just_the_interval_is_not_beyond_it() -> None:
    (change,) = compare_films(film(height(30.0, 3.0)), film(height(25.0, 4.0)))
    assert (change.half_width, change.beyond) == (5.0, False)


def test_an_interval_that_is_cut_at_0_is_as_wide_as_it_is_above() -> None:
    kind, levels = MeasureKind.DISC_HEIGHT_MIDDLE, ("L4", "L5")
    cut = Measure(kind, levels, MeasureUnit.MILLIMETRE, 1.0, low=0.0, high=4.0)
    tall = Measure(kind, levels, MeasureUnit.MILLIMETRE, 6.0, low=2.0, high=10.0)
    (change,) = compare_films(film(cut), film(tall))
    assert (change.change, change.half_width, change.beyond) == (5.0, 5.0, False)


def test_what_one_film_lacks_is_told_without_a_change() -> None:
    seen = height(30.0, 3.0)
    for lacking in (film(withheld("L4")), film()):
        (lost,) = compare_films(film(seen), lacking)
        (won,) = compare_films(lacking, film(seen))
        assert (lost.before, lost.after, won.before, won.after) == (30.0, None, None, 30.0)
        for each in (lost, won):
            assert (each.change, each.half_width, each.beyond) == (None, None, False)
    assert not compare_films(film(withheld("L4")), film(withheld("L4")))


def test_single_implants_are_left_out() -> None:
    angle = Measure(MeasureKind.SCREW_ANGLE, ("L4",), MeasureUnit.DEGREE, 3.0, implant_index=0)
    assert not compare_films(film(angle), film(angle))


def test_tables_hold_every_number_under_its_name() -> None:
    slip = Measure(
        MeasureKind.SLIP_PERCENT, ("L4", "L5"), MeasureUnit.PERCENT, 30.00049, 24.0, 36.0, 2
    )
    assert to_csv(film(slip, withheld("L3"))).splitlines() == [
        "measure,levels,unit,value,low,high,grade,withheld,implant,plane",
        "slip_percent,L4/L5,%,30.0,24.0,36.0,2,,,",
        "body_height_anterior,L3,mm,,,,,cut_by_film,,detector",
    ]
    changes = compare_films(film(height(30.0, 3.0)), film(height(24.0, 4.0), screws(2.0)))
    assert changes_to_csv(changes).splitlines() == [
        "measure,levels,unit,before,after,change,half_width,beyond",
        "body_height_anterior,L4,mm,30.0,24.0,-6.0,5.0,True",
        "screw_count,L4,,,2.0,,,False",
    ]
