"""Implants drawn at known places of a drawn column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.types import (
    FilmMeasures,
    FusedImplant,
    Measure,
    MeasureKind,
    MeasureOptions,
    Structure,
)
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import Region
from spinezoo_spine.measures.film import AT_DETECTOR, measure_film
from test_measures import (
    DEPTH,
    HEIGHT,
    NO_MODEL,
    WIDTH,
    Quads,
    drawn_column,
    find,
    labelled,
    mirrored,
    segments_of,
    turned_about_its_back,
    value,
)

ASKEW = (0.5, 0.4)  # distance of rows and of columns

Shape = NDArray[np.float64]


def on_plate(quad: Shape, places: list[tuple[float, float]]) -> Shape:
    """Points by how far they lie in front of an upper endplate's back end, and below it."""
    along = (quad[1] - quad[0]) / np.hypot(*(quad[1] - quad[0]))
    return quad[0] + np.array([u * along + v * np.array([-along[1], along[0]]) for u, v in places])


def bar(quad: Shape, start: tuple[float, float], degrees: float, length: float = 90.0) -> Shape:
    """A straight screw 10 pixels thick, from behind, by its axis; see :func:`on_plate`."""
    turn = np.deg2rad(degrees)
    axis, side = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    end = start + length * axis
    places = [start + 5 * side, end + 5 * side, end - 5 * side, start - 5 * side]
    return on_plate(quad, [(float(u), float(v)) for u, v in places])


def box(quad: Shape, back: float, front: float, top: float, bottom: float) -> Shape:
    """A cage with sides along and square to an upper endplate."""
    return on_plate(quad, [(back, top), (front, top), (front, bottom), (back, bottom)])


def measured(
    quads: Quads,
    *implants: tuple[Structure, Shape, tuple[str, ...]],
    left: bool = False,
    spacing_mm: tuple[float | None, float | None] = (0.5, 0.5),
    options: MeasureOptions = AT_DETECTOR,
) -> FilmMeasures:
    """Measures of a film half a millimetre a pixel, or of the same one sampled otherwise."""
    row_mm, column_mm = spacing_mm
    squeeze = np.array([0.5 / (column_mm or 0.5), 0.5 / (row_mm or 0.5)])
    height, width = round(HEIGHT * squeeze[1]), round(WIDTH * squeeze[0])
    drawn = {level: quad * squeeze for level, quad in quads.items()}
    outlines = [outline * squeeze for _, outline, _ in implants]
    if left:
        drawn = mirrored(drawn, width)
        outlines = [(outline * [-1, 1] + [width, 0])[::-1] for outline in outlines]
    metal = []
    for outline, (structure, _, touches) in zip(outlines, implants, strict=True):
        (segment,) = segments_from_regions([Region(structure, outline, None)], height, width)
        metal.append(FusedImplant(replace(segment, level=None), touches))
    column = labelled(segments_of(drawn, height, width))
    return measure_film(column, {}, metal, spacing_mm, options, model=NO_MODEL)


FILMS = pytest.mark.parametrize(
    ("left", "spacing_mm"), [(False, (0.5, 0.5)), (True, (0.5, 0.5)), (False, ASKEW), (True, ASKEW)]
)


@FILMS
def test_a_cage_lies_where_it_was_drawn(left: bool, spacing_mm: tuple[float, float]) -> None:
    quads = drawn_column()
    discs = ("L3", "L4")
    # From a fifth to three fifths of the endplate, 3 mm into L4; then 4 mm into L3 instead.
    low = box(quads["L4"], 0.2 * DEPTH, 0.6 * DEPTH, -8.0, 6.0)
    above = quads["L3"][[3, 2]]
    high = box(above, 0.2 * DEPTH, 0.6 * DEPTH, -8.0, 6.0)
    for cage, sunk_mm in ((low, 3.0), (high, 4.0)):
        film = measured(quads, (Structure.CAGE, cage, discs), left=left, spacing_mm=spacing_mm)
        position = value(film, MeasureKind.CAGE_POSITION, *discs)
        assert position == pytest.approx(40.0, abs=2.5)
        behind = value(film, MeasureKind.CAGE_TO_POSTERIOR_WALL, *discs)
        assert behind == pytest.approx(0.2 * DEPTH / 2, abs=1.0)
        sunk = value(film, MeasureKind.CAGE_SUBSIDENCE, *discs)
        assert sunk == pytest.approx(sunk_mm, abs=0.5)


def test_a_cage_between_the_endplates_has_not_sunk() -> None:
    quads = drawn_column()
    cage = box(quads["L4"], 0.3 * DEPTH, 0.9 * DEPTH, -10.0, -2.0)
    film = measured(quads, (Structure.CAGE, cage, ("L3", "L4")))
    assert value(film, MeasureKind.CAGE_SUBSIDENCE, "L3", "L4") == 0.0
    # What lies in front of the endplates is in no bone.
    beside = box(quads["L4"], 1.02 * DEPTH, 1.3 * DEPTH, -10.0, 20.0)
    film = measured(quads, (Structure.CAGE, beside, ("L3", "L4")))
    assert value(film, MeasureKind.CAGE_SUBSIDENCE, "L3", "L4") == 0.0
    assert value(film, MeasureKind.CAGE_POSITION, "L3", "L4") == pytest.approx(116.0, abs=3.0)


@FILMS
@pytest.mark.parametrize("degrees", [-12.0, 0.0, 12.0])
def test_a_screw_has_the_angle_it_was_drawn_with(
    degrees: float, left: bool, spacing_mm: tuple[float, float]
) -> None:
    quads = drawn_column()
    screw = bar(quads["L4"], (-10.0, 35.0), degrees)
    film = measured(quads, (Structure.SCREW, screw, ("L4",)), left=left, spacing_mm=spacing_mm)
    assert value(film, MeasureKind.SCREW_ANGLE, "L4") == pytest.approx(degrees, abs=1.0)
    assert value(film, MeasureKind.SCREW_BREACH, "L4") == 0.0
    assert value(film, MeasureKind.SCREW_COUNT, "L4") == 1.0


@pytest.mark.parametrize("degrees", [-40.0, 40.0])
def test_a_screw_in_a_steep_sacrum_is_measured_against_its_endplate(degrees: float) -> None:
    """Against level such a screw stands upright, where a line's slope goes from 90 to -90."""
    quads = drawn_column(disc_deg=18.0)
    quads["S1"] = turned_about_its_back(quads["S1"], 15.0)
    screw = bar(quads["S1"], (20.0, 35.0), degrees, 60.0)
    film = measured(quads, (Structure.SCREW, screw, ("S1",)))
    assert value(film, MeasureKind.SACRAL_SLOPE, "S1") == pytest.approx(55.0, abs=1.0)
    assert value(film, MeasureKind.SCREW_ANGLE, "S1") == pytest.approx(degrees, abs=1.0)


@FILMS
def test_a_screw_beyond_the_endplate_breaches_it(
    left: bool, spacing_mm: tuple[float, float]
) -> None:
    quads = drawn_column()
    screw = bar(quads["L4"], (5.0, -2.0), 0.0, 80.0)  # its upper side is 7 pixels above
    film = measured(quads, (Structure.SCREW, screw, ("L4",)), left=left, spacing_mm=spacing_mm)
    assert value(film, MeasureKind.SCREW_BREACH, "L4") == pytest.approx(3.5, abs=0.5)


def test_lengths_of_implants_are_of_the_patient_too() -> None:
    quads = drawn_column()
    screw = (Structure.SCREW, bar(quads["L4"], (5.0, -2.0), 0.0, 80.0), ("L4",))
    cage = (Structure.CAGE, box(quads["L4"], 30.0, 70.0, -8.0, 6.0), ("L3", "L4"))
    at_detector = measured(quads, screw, cage)
    in_patient = measured(quads, screw, cage, options=MeasureOptions(magnification=1.25))
    for kind, *levels in (
        (MeasureKind.SCREW_BREACH, "L4"),
        (MeasureKind.CAGE_TO_POSTERIOR_WALL, "L3", "L4"),
        (MeasureKind.CAGE_SUBSIDENCE, "L3", "L4"),
    ):
        ratio = value(at_detector, kind, *levels) / value(in_patient, kind, *levels)
        assert ratio == pytest.approx(1.25)
    angle = (MeasureKind.SCREW_ANGLE, "L4")
    assert value(at_detector, *angle) == pytest.approx(value(in_patient, *angle))


def test_each_implant_has_its_own_measures_and_screws_are_counted_by_level() -> None:
    quads = drawn_column()
    rod = on_plate(quads["L4"], [(-60.0, -80.0), (-52.0, -80.0), (-52.0, 160.0), (-60.0, 160.0)])
    metal = (
        (Structure.SCREW, bar(quads["L5"], (-10.0, 30.0), 5.0), ("L5",)),
        (Structure.CAGE, box(quads["L4"], 20.0, 60.0, -10.0, -2.0), ("L3", "L4")),
        (Structure.SCREW, bar(quads["L4"], (-10.0, 25.0), 0.0), ("L4",)),
        (Structure.SCREW, bar(quads["L4"], (-10.0, 45.0), 10.0), ("L4",)),
        (Structure.ROD, rod, ("L3", "L4", "L5")),
    )
    film = measured(quads, *metal)

    def about(index: int) -> dict[MeasureKind, Measure]:
        return {m.kind: m for m in film.measures if m.implant_index == index}

    for index, level, degrees in ((0, "L5", 5.0), (2, "L4", 0.0), (3, "L4", 10.0)):
        said = about(index)[MeasureKind.SCREW_ANGLE]
        assert said.levels == (level,)
        assert said.value == pytest.approx(degrees, abs=1.0)
    assert {kind.name for kind in about(1)} == {
        "CAGE_POSITION",
        "CAGE_TO_POSTERIOR_WALL",
        "CAGE_SUBSIDENCE",
    }
    assert about(4)[MeasureKind.ROD_LEVELS].value == 3.0
    assert find(film, MeasureKind.SCREW_COUNT, "L4").value == 2.0
    assert find(film, MeasureKind.SCREW_COUNT, "L5").value == 1.0
