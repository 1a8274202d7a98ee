"""Named geometries: columns drawn with known angles, heights and slips."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.codec import to_json
from spinezoo_contract.measures.compare import compare_films
from spinezoo_contract.measures.tables import to_csv, to_rows
from spinezoo_contract.types import (
    Facing,
    FilmMeasures,
    FilmReading,
    FilmView,
    Labelling,
    Measure,
    MeasureKind,
    MeasureOptions,
    MeasurePlane,
    NamedVertebra,
    Segment,
    Structure,
    UnnamedReason,
    WithheldReason,
)
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import Region
from spinezoo_spine.column.bodies import ColumnRuns
from spinezoo_spine.column.consensus import vertebrae_of
from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.column import FROM_ZERO
from spinezoo_spine.measures.evidence import painted
from spinezoo_spine.measures.film import AT_DETECTOR, measure_film
from spinezoo_spine.measures.uncertainty import calibration, name_of

LEVELS = ("L1", "L2", "L3", "L4", "L5", "S1")
HEIGHT, WIDTH = 1000, 760
DEPTH, TALL, GAP = 96.0, 76.0, 20.0
NO_MODEL: dict[str, NDArray[np.float64]] = {}
"""Drawn bodies have straight sides: the model of shape, which knows bones, has no say here."""

Quads = dict[str, NDArray[np.float64]]


def drawn_column(
    *,
    disc_deg: float = 9.0,
    slips: dict[str, float] | None = None,
    gaps: dict[str, float] | None = None,
    fronts: dict[str, float] | None = None,
) -> Quads:
    """Corners of L1 to S1, looking right: back upper, front upper, front lower, back lower.

    Args:
        disc_deg: Every disc opens to the front by this angle.
        slips: By level, how far it stands in front of the one below, in pixels.
        gaps: By level, height of the disc below it in its middle, in pixels.
        fronts: By level, height in front by that behind.
    """
    slips, gaps, fronts = slips or {}, gaps or {}, fronts or {}
    quads: Quads = {}
    angle = np.deg2rad(40.0)  # of S1's endplate
    back = np.array([300.0, 760.0])
    along = np.array([np.cos(angle), np.sin(angle)])
    down = np.array([-np.sin(angle), np.cos(angle)])
    front = back + DEPTH * along
    quads["S1"] = np.stack([back, front, front + 70 * down - 12 * along, back + 70 * down])
    for level in LEVELS[-2::-1]:
        below_back, below_front = quads[LEVELS[LEVELS.index(level) + 1]][:2]
        middle = (below_back + below_front) / 2
        plate = np.deg2rad(_slope(below_front - below_back))
        angle = plate - np.deg2rad(disc_deg)
        half = (plate + angle) / 2
        up = np.array([np.sin(half), -np.cos(half)])
        low = middle + gaps.get(level, GAP) * up
        low = low + slips.get(level, 0.0) * np.array([np.cos(plate), np.sin(plate)])
        along = np.array([np.cos(angle), np.sin(angle)])
        up = np.array([np.sin(angle), -np.cos(angle)])
        low_back, low_front = low - DEPTH / 2 * along, low + DEPTH / 2 * along
        tall_front = TALL * fronts.get(level, 1.0)
        quads[level] = np.stack(
            [low_back + TALL * up, low_front + tall_front * up, low_front, low_back]
        )
    return quads


def _slope(vector: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arctan2(vector[1], vector[0])))


def segments_of(quads: Quads, height: int = HEIGHT, width: int = WIDTH) -> tuple[Segment, ...]:
    """Outlines of drawn bodies."""
    regions = [
        Region(
            Structure.SACRAL_VERTEBRA if level[0] == "S" else Structure.LUMBAR_VERTEBRA,
            quad,
            level,
        )
        for level, quad in quads.items()
    ]
    return segments_from_regions(regions, height, width)


def labelled(segments: tuple[Segment, ...], view: FilmView = FilmView.LATERAL) -> Labelling:
    """A column whose outlines bear their names."""
    vertebrae = tuple(
        NamedVertebra(segment, 0.99, None if segment.level else UnnamedReason.SACRUM_UNSURE)
        for segment in segments
    )
    return Labelling(vertebrae, True, film=FilmReading(view, 0.9, 0.05, 0.03, 0.02, 0.0))


def measured(
    quads: Quads,
    spacing_mm: tuple[float | None, float | None] = (0.5, 0.5),
    height: int = HEIGHT,
    width: int = WIDTH,
    options: MeasureOptions = AT_DETECTOR,
) -> FilmMeasures:
    """Measures of a drawn column."""
    column = labelled(segments_of(quads, height, width))
    return measure_film(column, {}, (), spacing_mm, options, model=NO_MODEL)


def find(film: FilmMeasures, kind: MeasureKind, *levels: str) -> Measure:
    """The one measure of a kind and levels."""
    (found,) = (m for m in film.measures if m.kind is kind and m.levels == levels)
    return found


def value(film: FilmMeasures, kind: MeasureKind, *levels: str) -> float:
    """Its value, which has to be there."""
    said = find(film, kind, *levels).value
    assert said is not None
    return said


def mirrored(quads: Quads, width: int = WIDTH) -> Quads:
    """The same bodies on a film turned left to right."""
    return {level: (quad * [-1, 1] + [width, 0])[[1, 0, 3, 2]] for level, quad in quads.items()}


class TestAngles:
    def test_lordosis_of_discs_that_open_by_nine_degrees(self) -> None:
        film = measured(drawn_column())
        assert film.facing is Facing.RIGHT
        assert value(film, MeasureKind.LORDOSIS, "L1", "S1") == pytest.approx(45.0, abs=0.5)
        assert value(film, MeasureKind.LORDOSIS, "L1", "L5") == pytest.approx(36.0, abs=0.5)
        assert value(film, MeasureKind.LORDOSIS, "L4", "S1") == pytest.approx(18.0, abs=0.5)
        assert value(film, MeasureKind.SACRAL_SLOPE, "S1") == pytest.approx(40.0, abs=0.5)
        assert value(film, MeasureKind.LUMBOSACRAL_ANGLE, "L5", "S1") == pytest.approx(9, abs=0.5)
        for pair in itertools.pairwise(LEVELS):
            assert value(film, MeasureKind.DISC_ANGLE, *pair) == pytest.approx(9.0, abs=0.5)
            assert value(film, MeasureKind.SEGMENTAL_ANGLE, *pair) == pytest.approx(9.0, abs=0.6)

    def test_pelvis_is_withheld_without_femoral_heads(self) -> None:
        film = measured(drawn_column())
        for kind in (MeasureKind.PELVIC_INCIDENCE, MeasureKind.PELVIC_TILT):
            assert find(film, kind, "S1").withheld_reason is WithheldReason.NO_FEMORAL_HEADS

    def test_pelvic_angles_add_up_to_the_sacral_slope(self) -> None:
        sacrum = drawn_column()["S1"]
        heads = sacrum[:2].mean(axis=0) + np.array([35.0, 120.0])
        incidence, tilt = formulas.pelvic_angles_deg(sacrum, heads)
        assert tilt == pytest.approx(np.degrees(np.arctan2(35.0, 120.0)))
        assert incidence - tilt == pytest.approx(40.0)


class TestLengths:
    def test_heights_of_a_disc_and_of_bodies(self) -> None:
        film = measured(drawn_column(gaps={"L3": 30.0}))
        half = np.sin(np.deg2rad(4.5)) * DEPTH / 2 * 2  # a corner's lift over the middle
        pair = ("L3", "L4")
        middle = value(film, MeasureKind.DISC_HEIGHT_MIDDLE, *pair)
        assert middle == pytest.approx(15.0, abs=0.3)
        front = value(film, MeasureKind.DISC_HEIGHT_ANTERIOR, *pair)
        back = value(film, MeasureKind.DISC_HEIGHT_POSTERIOR, *pair)
        assert front == pytest.approx((30.0 + half) / 2, abs=0.5)
        assert back == pytest.approx((30.0 - half) / 2, abs=0.5)
        farfan = value(film, MeasureKind.DISC_INDEX_FARFAN, *pair)
        assert farfan == pytest.approx(60.0 / DEPTH, abs=0.02)
        hurxthal = value(film, MeasureKind.DISC_INDEX_HURXTHAL, *pair)
        assert hurxthal == pytest.approx(30.0 / TALL, abs=0.02)
        for kind in (
            MeasureKind.BODY_HEIGHT_ANTERIOR,
            MeasureKind.BODY_HEIGHT_MIDDLE,
            MeasureKind.BODY_HEIGHT_POSTERIOR,
        ):
            assert value(film, kind, "L2") == pytest.approx(TALL / 2, abs=0.4)

    def test_a_disc_whose_endplates_are_drawn_over_each_other_has_no_height_below_0(self) -> None:
        film = measured(drawn_column(gaps={"L3": -2.0}))
        pair = ("L3", "L4")
        for kind in FROM_ZERO:
            said = find(film, kind, *pair)
            assert said.value is not None
            assert said.low is not None
            assert 0.0 <= said.low <= said.value
        for kind in (MeasureKind.DISC_HEIGHT_MIDDLE, MeasureKind.DISC_HEIGHT_POSTERIOR):
            said = find(film, kind, *pair)
            assert said.value == said.low == 0.0
            assert said.high is not None
            assert said.high > 0.3  # how far it may be off stays
        front = value(film, MeasureKind.DISC_HEIGHT_ANTERIOR, *pair)
        farfan = value(film, MeasureKind.DISC_INDEX_FARFAN, *pair)
        assert farfan == pytest.approx(front / (DEPTH / 2), abs=0.02)
        higher = measured(drawn_column(gaps={"L3": 10.0}))
        changes = {(c.kind, c.levels): c for c in compare_films(film, higher)}
        change = changes[MeasureKind.DISC_HEIGHT_MIDDLE, pair]
        assert change.change == pytest.approx(5.0, abs=0.4)
        halves = []
        for each in (find(one, MeasureKind.DISC_HEIGHT_MIDDLE, *pair) for one in (film, higher)):
            assert each.high is not None
            assert each.value is not None
            halves.append(each.high - each.value)
        assert change.half_width == pytest.approx(np.hypot(*halves))

    def test_magnification_turns_lengths_into_those_of_the_patient(self) -> None:
        quads = drawn_column()
        at_detector = measured(quads)
        in_patient = measured(quads, options=MeasureOptions(magnification=1.25))
        assert at_detector.plane is MeasurePlane.DETECTOR
        assert in_patient.plane is MeasurePlane.PATIENT
        kind = MeasureKind.BODY_HEIGHT_POSTERIOR
        ratio = value(at_detector, kind, "L3") / value(in_patient, kind, "L3")
        assert ratio == pytest.approx(1.25)
        lordosis = (MeasureKind.LORDOSIS, "L1", "S1")
        assert value(at_detector, *lordosis) == pytest.approx(value(in_patient, *lordosis))

    def test_without_spacing_there_are_degrees_and_ratios_only(self) -> None:
        film = measured(drawn_column(), (None, None))
        assert film.plane is None
        slip = find(film, MeasureKind.SLIP, "L4", "L5")
        assert slip.withheld_reason is WithheldReason.NO_SPACING
        # Discs that open by 9 degrees leave back corners a little behind each other.
        assert value(film, MeasureKind.SLIP_PERCENT, "L4", "L5") == pytest.approx(-1.2, abs=0.5)
        assert value(film, MeasureKind.LORDOSIS, "L1", "S1") == pytest.approx(45.0, abs=0.5)


class TestFractureAndSlip:
    @pytest.mark.parametrize(("front", "grade"), [(1.0, 0), (0.76, 1), (0.67, 2), (0.5, 3)])
    def test_wedge_fracture(self, front: float, grade: int) -> None:
        film = measured(drawn_column(fronts={"L3": front}))
        loss = find(film, MeasureKind.BODY_HEIGHT_LOSS, "L3")
        assert loss.grade == grade
        wedge = value(film, MeasureKind.BODY_WEDGING, "L3")
        expected = np.degrees(np.arctan2(TALL * (1 - front), DEPTH))
        assert wedge == pytest.approx(expected, abs=0.6)

    @pytest.mark.parametrize(
        ("share", "grade"), [(0.0, 0), (0.16, 1), (0.38, 2), (0.6, 3), (-0.18, -1)]
    )
    def test_slip(self, share: float, grade: int) -> None:
        film = measured(drawn_column(slips={"L4": share * DEPTH}, disc_deg=7.0))
        percent = find(film, MeasureKind.SLIP_PERCENT, "L4", "L5")
        assert percent.grade == grade
        # Square to the disc's bisector, not to the endplate: a corner's lift adds some per cent.
        assert percent.value == pytest.approx(100 * share, abs=3.0)
        slip = value(film, MeasureKind.SLIP, "L4", "L5")
        assert slip == pytest.approx(share * DEPTH / 2, abs=1.5)


class TestSameBodiesOtherFilms:
    def differences(self, one: FilmMeasures, other: FilmMeasures, mm: float = 1.0) -> float:
        """Greatest difference of two films' measures, lengths scaled by ``mm`` first."""
        worst = 0.0
        for first in one.measures:
            if first.value is None:
                continue
            second = value(other, first.kind, *first.levels)
            factor = {2: mm, 4: 40.0}.get(int(first.unit), 1.0)
            worst = max(worst, abs(first.value - second) * factor)
        return worst

    def test_mirrored(self) -> None:
        quads = drawn_column(slips={"L4": 20.0}, fronts={"L2": 0.8})
        one, other = measured(quads), measured(mirrored(quads))
        assert other.facing is Facing.LEFT
        assert self.differences(one, other) < 0.6

    def test_scaled_by_pixels(self) -> None:
        quads = drawn_column(slips={"L4": 20.0})
        twice = {level: quad * 2 for level, quad in quads.items()}
        other = measured(twice, (0.25, 0.25), 2 * HEIGHT, 2 * WIDTH)
        assert self.differences(measured(quads), other) < 0.9

    def test_oblong_pixels(self) -> None:
        quads = drawn_column(slips={"L4": 20.0})
        squeezed = {level: quad * [0.6, 1.0] for level, quad in quads.items()}
        other = measured(squeezed, (0.5, 0.5 / 0.6), HEIGHT, round(WIDTH * 0.6))
        assert self.differences(measured(quads), other) < 1.0

    def test_members_and_their_fusion_agree_where_all_say_the_same(self) -> None:
        segments = segments_of(drawn_column())
        column = labelled(segments)
        said = {
            name: vertebrae_of([replace(s, level=None) for s in segments], HEIGHT, WIDTH)
            for name in ("one", "two", "three")
        }
        alone = measure_film(column, {}, (), (0.5, 0.5), model=NO_MODEL)
        together = measure_film(column, said, (), (0.5, 0.5), model=NO_MODEL)
        assert self.differences(alone, together) < 0.5


def turned_about_its_back(quad: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """A body turned about its upper back corner; positive: its front goes down."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return quad[0] + (quad - quad[0]) @ np.array([[cosine, sine], [-sine, cosine]])


class TestContradiction:
    @pytest.mark.parametrize("degrees", [-40.0, 40.0])
    def test_a_sacrum_that_cannot_be_right_is_withheld_with_all_that_needs_it(
        self, degrees: float
    ) -> None:
        quads = drawn_column()
        quads["S1"] = turned_about_its_back(quads["S1"], degrees)
        film = measured(quads)
        for kind, levels in (
            (MeasureKind.LORDOSIS, ("L1", "S1")),
            (MeasureKind.LORDOSIS, ("L4", "S1")),
            (MeasureKind.SACRAL_SLOPE, ("S1",)),
            (MeasureKind.DISC_ANGLE, ("L5", "S1")),
            (MeasureKind.SLIP, ("L5", "S1")),
        ):
            assert find(film, kind, *levels).withheld_reason is WithheldReason.TOO_UNSURE
        assert value(film, MeasureKind.LORDOSIS, "L1", "L5") == pytest.approx(36.0, abs=0.6)
        assert value(film, MeasureKind.DISC_ANGLE, "L4", "L5") == pytest.approx(9.0, abs=0.5)

    def test_bodies_that_dig_into_each_other_lose_their_disc_alone(self) -> None:
        quads = drawn_column(gaps={"L3": -20.0})
        film = measured(quads)
        disc = find(film, MeasureKind.DISC_ANGLE, "L3", "L4")
        assert disc.withheld_reason is WithheldReason.TOO_UNSURE
        assert find(film, MeasureKind.DISC_ANGLE, "L2", "L3").value is not None
        assert find(film, MeasureKind.BODY_WEDGING, "L4").value is not None

    def test_a_steep_sacrum_and_a_narrow_disc_are_measured(self) -> None:
        quads = drawn_column(gaps={"L5": 8.0})
        quads["S1"] = turned_about_its_back(quads["S1"], 12.0)
        film = measured(quads)
        assert value(film, MeasureKind.DISC_ANGLE, "L5", "S1") == pytest.approx(21.0, abs=0.7)


class TestDisagreement:
    def asked(self, agreeing: int) -> FilmMeasures:
        """A film of which so many of five members outline S1 as it is, the others beside it."""
        quads = drawn_column()
        beside = {**quads, "S1": quads["S1"] + [40.0, 25.0]}
        said = {
            str(member): vertebrae_of(
                [
                    replace(each, level=None)
                    for each in segments_of(quads if member < agreeing else beside)
                ],
                HEIGHT,
                WIDTH,
            )
            for member in range(5)
        }
        column = labelled(segments_of(quads))
        return measure_film(column, said, (), (0.5, 0.5), model=NO_MODEL)

    def test_a_sacrum_that_most_members_see_elsewhere_is_withheld(self) -> None:
        film = self.asked(agreeing=2)
        for kind, levels in (
            (MeasureKind.LORDOSIS, ("L1", "S1")),
            (MeasureKind.SACRAL_SLOPE, ("S1",)),
            (MeasureKind.DISC_ANGLE, ("L5", "S1")),
        ):
            assert find(film, kind, *levels).withheld_reason is WithheldReason.TOO_UNSURE
        assert value(film, MeasureKind.LORDOSIS, "L1", "L5") == pytest.approx(36.0, abs=0.6)

    def test_one_that_most_members_agree_on_is_measured(self) -> None:
        film = self.asked(agreeing=3)
        assert value(film, MeasureKind.LORDOSIS, "L1", "S1") == pytest.approx(45.0, abs=1.5)


class TestWithheld:
    def test_an_unnamed_vertebra(self) -> None:
        segments = segments_of(drawn_column())
        unnamed = tuple(replace(s, level=None) if s.level == "L4" else s for s in segments)
        film = measure_film(labelled(unnamed), {}, (), (0.5, 0.5), model=NO_MODEL)
        for pair in (("L3", "L4"), ("L4", "L5")):
            missing = find(film, MeasureKind.DISC_HEIGHT_MIDDLE, *pair)
            assert missing.withheld_reason is WithheldReason.NO_VERTEBRA
        missing = find(film, MeasureKind.LORDOSIS, "L4", "S1")
        assert missing.withheld_reason is WithheldReason.NO_VERTEBRA
        assert value(film, MeasureKind.LORDOSIS, "L1", "S1") == pytest.approx(45.0, abs=0.5)
        assert value(film, MeasureKind.DISC_ANGLE, "L1", "L2") == pytest.approx(9.0, abs=0.5)

    def test_two_outlines_of_one_level(self) -> None:
        segments = segments_of(drawn_column())
        film = measure_film(labelled((*segments, segments[-1])), {}, (), (0.5, 0.5))
        level = segments[-1].level
        assert level == "L1"
        twice = find(film, MeasureKind.LORDOSIS, "L1", "S1")
        assert twice.withheld_reason is WithheldReason.DUPLICATE
        assert find(film, MeasureKind.LORDOSIS, "L4", "S1").value is not None

    def test_a_vertebra_cut_by_the_film(self) -> None:
        quads = drawn_column()
        top = quads["L1"][:, 1].min()
        raised = {level: quad - [0.0, top + 30.0] for level, quad in quads.items()}
        film = measured(raised)
        cut = find(film, MeasureKind.LORDOSIS, "L1", "S1")
        assert cut.withheld_reason is WithheldReason.CUT_BY_FILM
        # Its lower endplate is in view: the disc below it is measured all the same.
        assert value(film, MeasureKind.DISC_ANGLE, "L1", "L2") == pytest.approx(9.0, abs=0.7)

    def test_a_vertebra_cut_by_the_lower_border(self) -> None:
        quads = drawn_column()
        height = int(quads["L4"][:, 1].mean())
        above = {level: quads[level] for level in ("L4", "L3", "L2", "L1")}
        film = measured(above, height=height)
        cut = find(film, MeasureKind.BODY_HEIGHT_POSTERIOR, "L4")
        assert cut.withheld_reason is WithheldReason.CUT_BY_FILM
        assert value(film, MeasureKind.DISC_ANGLE, "L3", "L4") == pytest.approx(9.0, abs=0.7)

    def test_a_sacrum_that_leaves_the_film_below_its_endplate_is_measured(self) -> None:
        quads = drawn_column()
        whole = measured(quads)
        height = int(quads["S1"][:2, 1].max()) + 30
        segments = segments_of(quads, height)
        assert all(s.mask.height == height for s in segments)
        film = measure_film(labelled(segments), {}, (), (0.5, 0.5), model=NO_MODEL)
        for kind, levels in (
            (MeasureKind.SACRAL_SLOPE, ("S1",)),
            (MeasureKind.LORDOSIS, ("L1", "S1")),
        ):
            assert value(film, kind, *levels) == pytest.approx(value(whole, kind, *levels), abs=1.5)

    def test_three_pixels(self) -> None:
        quads = drawn_column()
        spot = quads["L3"].mean(axis=0)
        quads["L3"] = spot + np.array([[0, 0], [1.6, 0], [1.6, 1.6], [0, 1.6]])
        film = measured(quads)
        small = find(film, MeasureKind.BODY_WEDGING, "L3")
        assert small.withheld_reason is WithheldReason.TOO_LITTLE_BORDER
        assert find(film, MeasureKind.LORDOSIS, "L1", "S1").value is not None

    def test_an_upside_down_film(self) -> None:
        segments = segments_of(drawn_column())
        film = measure_film(labelled(segments, FilmView.UPSIDE_DOWN), {}, (), (0.5, 0.5))
        assert {m.withheld_reason for m in film.measures} == {WithheldReason.NOT_UPRIGHT_LATERAL}

    def test_names_that_run_upward(self) -> None:
        turned = {level: quad * -1 + [WIDTH, HEIGHT] for level, quad in drawn_column().items()}
        film = measured(turned)
        assert {m.withheld_reason for m in film.measures} == {WithheldReason.DISORDER}

    def test_a_sacrum_above_the_lumbar_vertebrae(self) -> None:
        quads = drawn_column()
        swapped = {"L5": quads["S1"] - [0.0, 20.0], "S1": quads["L5"] - [0.0, 20.0]}
        film = measured(swapped)
        assert {m.withheld_reason for m in film.measures} == {WithheldReason.DISORDER}

    def test_a_sacrum_alone(self) -> None:
        film = measured({"S1": drawn_column()["S1"]})
        assert film.facing is None
        slope = find(film, MeasureKind.SACRAL_SLOPE, "S1")
        assert slope.withheld_reason is WithheldReason.FACING_UNSURE

    def test_a_straight_column_tells_no_front(self) -> None:
        quads = {
            level: np.array([[330.0, y], [426.0, y], [426.0, y + TALL], [330.0, y + TALL]])
            for level, y in zip(LEVELS[:5], range(100, 600, 100), strict=True)
        }
        film = measured(quads)
        assert film.facing is None
        reasons = {m.withheld_reason for m in film.measures}
        assert reasons == {WithheldReason.FACING_UNSURE}

    def test_no_name_at_all(self) -> None:
        segments = tuple(replace(s, level=None) for s in segments_of(drawn_column()))
        film = measure_film(labelled(segments), {}, (), (0.5, 0.5))
        assert film.bodies == ()
        assert {m.withheld_reason for m in film.measures} == {WithheldReason.NO_VERTEBRA}


class TestLandmarks:
    def test_corners_bear_anatomical_names_on_both_sides(self) -> None:
        quads = drawn_column()
        for drawn in (quads, mirrored(quads)):
            film = measured(drawn)
            order = [0, 1, 2, 3] if film.facing is Facing.RIGHT else [1, 0, 3, 2]
            for body in film.bodies:
                for landmark in body.corners:
                    x, y = drawn[body.level][order][landmark.corner - 1]
                    assert np.hypot(landmark.place.x - x, landmark.place.y - y) < 1.5

    def test_how_far_a_corner_may_be_off_is_in_pixels_whatever_these_measure(self) -> None:
        fine, coarse = measured(drawn_column()), measured(drawn_column(), (1.0, 1.0))
        for one, other in zip(fine.bodies, coarse.bodies, strict=True):
            radii = [corner.radius_px for corner in one.corners]
            assert min(radii) > 0.5
            assert radii == pytest.approx([corner.radius_px for corner in other.corners], rel=0.05)

    def test_contour_is_closed_and_finer_than_a_pixel(self) -> None:
        film = measured(drawn_column())
        assert len(film.bodies) > 4
        for body in film.bodies:
            border = np.array([(p.x, p.y) for p in body.contour])
            x, y = border[:, 0], border[:, 1]
            area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
            if body.level != "S1":
                assert area == pytest.approx(DEPTH * TALL, rel=0.03)
                assert body.waviness < 0.01

    def test_an_osteophyte_is_found_where_it_was_drawn(self) -> None:
        quads = drawn_column()
        back_upper, front_upper, front_lower, back_lower = quads["L3"]
        along = (front_upper - back_upper) / DEPTH
        down = (back_lower - back_upper) / TALL
        spur = [front_upper + 16 * along + 3 * down, front_upper + 14 * down]
        quads["L3"] = np.array([back_upper, front_upper, *spur, front_lower, back_lower])
        film = measured(quads)
        (body,) = (b for b in film.bodies if b.level == "L3")
        (found,) = body.osteophytes
        assert found.corner.name == "SUPERIOR_ANTERIOR"
        assert found.length_mm == pytest.approx(8.0, abs=2.5)
        others = [b for b in film.bodies if b.level not in ("L3", "S1")]
        assert all(not b.osteophytes for b in others)


class TestTwoFilms:
    def test_change_with_its_uncertainty(self) -> None:
        before = measured(drawn_column(disc_deg=7.0, slips={"L4": 20.0}))
        after = measured(drawn_column(disc_deg=9.0))
        changes = {(c.kind, c.levels): c for c in compare_films(before, after)}
        lordosis = changes[MeasureKind.LORDOSIS, ("L1", "S1")]
        assert lordosis.change == pytest.approx(10.0, abs=0.8)
        assert lordosis.half_width > 0
        assert changes[MeasureKind.SLIP, ("L4", "L5")].change == pytest.approx(-10.0, abs=1.0)

    def test_a_measure_of_one_film_only_has_no_change(self) -> None:
        before, after = measured(drawn_column()), measured(drawn_column(), (None, None))
        changes = {(c.kind, c.levels): c for c in compare_films(before, after)}
        assert changes[MeasureKind.SLIP, ("L4", "L5")].change is None
        assert changes[MeasureKind.DISC_ANGLE, ("L4", "L5")].change == pytest.approx(0.0)


@pytest.mark.parametrize("refined", [False, True])
def test_every_measure_of_a_column_has_an_interval_that_was_fitted(refined: bool) -> None:
    told = [m for m in measured(drawn_column()).measures if m.value is not None]
    assert len(told) > 60
    assert {name_of(m.kind, m.levels) for m in told} <= calibration(refined=refined).keys()
    floor, factor = calibration(refined=refined)["CORNER"]
    assert 0.0 < floor < 0.1 < 1.0 < factor  # the floor is a share of the depth


def test_table_has_a_line_for_every_measure() -> None:
    film = measured(drawn_column())
    rows = to_rows(film)
    assert len(rows) == len(film.measures)
    text = to_csv(film)
    assert text.splitlines()[0].startswith("measure,levels,unit,value,low,high,grade,withheld")
    assert len(text.splitlines()) == len(rows) + 1


def test_a_region_above_the_window_is_not_painted() -> None:
    """It has no pixel there, though it lies in the window's columns."""
    above = ColumnRuns(np.array([12, 13]), np.array([0, 1]), np.array([4, 5]))
    assert painted(above, (10, 40, 20, 60)) is None


def test_measures_are_plain_json() -> None:
    film = measured(drawn_column(slips={"L4": 30.0}, fronts={"L2": 0.6}))
    read = json.loads(json.dumps(to_json(film)))
    assert read["facing"] == "right"
    assert {each["grade"] for each in read["measures"]} >= {0, 2}
