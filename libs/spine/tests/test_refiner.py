"""The refiner: its card, what it is shown, and what measures make of its answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.masks import decode_mask, encode_mask, mask_box
from spinezoo_contract.types import (
    Facing,
    FilmMeasures,
    Labelling,
    MeasureKind,
    NamedVertebra,
    Segment,
    UnnamedReason,
    WithheldReason,
)
from spinezoo_spine.built_in import load_built_in_card
from spinezoo_spine.measures import film as film_module
from spinezoo_spine.measures.bodies import measured_bodies
from spinezoo_spine.measures.film import directions_up, measure_film
from spinezoo_spine.measures.looks import axes_of, turned_numbers
from spinezoo_spine.measures.refine import outline_numbers, with_numbers
from spinezoo_spine.measures.refiner.answers import landmarks_of, numbers_of
from spinezoo_spine.measures.refiner.card import REFINER
from spinezoo_spine.measures.refiner.looking import CROP_PX, crop_of, normalised
from spinezoo_spine.measures.refiner.network import LandmarkRefiner, Refined, built_in_refiner
from spinezoo_spine.measures.sacrum import with_hidden_sacrum
from spinezoo_spine.measures.weighing import LEAST_SPREAD, spread_features
from spinezoo_testing.columns import Column, phantom_column
from test_measures import drawn_column, segments_of
from test_measures import mirrored as mirrored_quads


def test_nonsense_of_the_network_is_an_error() -> None:
    crops = np.full((1, 2, CROP_PX, CROP_PX), np.nan, np.float32)
    with pytest.raises(InvalidOutputError, match="not finite"):
        built_in_refiner()(crops)


def test_outlines_of_one_member_are_no_surer_than_the_least_spread() -> None:
    refiner, alike = np.full((1, 1), 0.05), np.zeros((1, 1))
    (found,) = spread_features(refiner, alike)
    np.testing.assert_allclose(found, [[1.0, np.log(0.05), np.log(LEAST_SPREAD)]])
    (apart,) = spread_features(refiner, alike + 0.2**2)
    assert apart[0, 2] == pytest.approx(np.log(0.2), abs=1e-3)


@pytest.mark.parametrize("hidden", [[0], [1], [0, 1]])
def test_an_endplate_of_s1_is_the_refiners_where_any_corner_is_hidden(hidden: list[int]) -> None:
    outlines, spacing_mm = segments_of(drawn_column()), (0.5, 0.5)
    whole = measured_bodies(
        outlines, {}, directions_up(outlines, spacing_mm), spacing_mm, samples=1
    )
    places = np.flatnonzero(whole.sacral)[:1]
    corners = whole.corners_mm.copy()
    corners[:, places[0], hidden] = np.nan
    numbers = outline_numbers(whole, mirrored=False)[0, places]
    said = Refined(numbers, np.full(numbers.shape, 1e-3), np.zeros((1, 4)), np.zeros((1, 4)))
    cut = replace(whole, corners_mm=corners)
    found = with_hidden_sacrum(cut, places, said, (1000.0, 1000.0), mirrored=False)
    expected = whole.corners_mm[0, places, :2]
    np.testing.assert_allclose(found.corners_mm[0, places, :2], expected, atol=0.1)
    said.spreads[0, 2] = 1.0  # unsure of its direction alone
    assert with_hidden_sacrum(cut, places, said, (1000.0, 1000.0), mirrored=False) is cut


class TestLooking:
    def test_numbers_and_landmarks_are_each_others_opposite(self) -> None:
        corners = np.array([[-0.6, -0.5], [0.55, -0.4], [0.5, 0.45], [-0.58, 0.52]])
        middles = np.array([[-0.025, -0.41], [-0.04, 0.43]])
        numbers = numbers_of(corners, middles)
        assert np.degrees(numbers[2]) == pytest.approx(np.degrees(np.arctan2(0.1, 1.15)))
        assert numbers[4] == pytest.approx(0.04, abs=0.002)
        assert numbers[9] < 0
        back, middle = landmarks_of(numbers)
        np.testing.assert_allclose(back, corners)
        np.testing.assert_allclose(middle[:, 1], middles[:, 1], atol=0.003)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int32])
    def test_a_crop_is_turned_scaled_and_centred(self, dtype: type) -> None:
        rows, columns = np.mgrid[:200, :300] + 0.5
        film = (columns * 0.5 + rows * 0.25).astype(dtype)
        turn = np.deg2rad(20.0)
        axes = 40.0 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        crop = crop_of(film, np.array([150.0, 100.0]), axes).astype(np.float64)
        assert crop.shape == (CROP_PX, CROP_PX)
        half = (CROP_PX - 1) / CROP_PX
        place = np.array([150.0, 100.0]) + axes @ np.array([half, -half])
        assert crop[0, -1] == pytest.approx(place @ (0.5, 0.25), abs=1.5)
        assert crop.mean() == pytest.approx(100.0, abs=1.0)

    def test_a_crop_beyond_the_film_is_filled(self) -> None:
        film = np.full((60, 60), 7, np.uint8)
        inside = crop_of(film, np.array([0.0, 30.0]), 20.0 * np.eye(2))
        assert (inside == 7).all()
        outside = crop_of(film, np.array([-500.0, 30.0]), 20.0 * np.eye(2))
        assert np.isfinite(normalised(outside)).all()

    def test_exposure_does_not_change_a_crop(self) -> None:
        crop = np.random.default_rng(1).normal(size=(CROP_PX, CROP_PX)).astype(np.float32)
        one, other = normalised(crop), normalised(crop * 250.0 + 4000.0)
        np.testing.assert_allclose(one, other, atol=2e-3)


class TestMoving:
    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("plate", [0, 1])
    def test_corners_and_middle_of_an_endplate_move_together(
        self, plate: int, mirrored: bool
    ) -> None:
        quads = drawn_column()
        if mirrored:
            quads = mirrored_quads(quads)
        outlines, spacing_mm = segments_of(quads), (0.5, 0.5)
        ups = directions_up(outlines, spacing_mm)
        bodies = measured_bodies(outlines, {}, ups, spacing_mm, samples=1)
        numbers = outline_numbers(bodies, mirrored=mirrored)
        lower = numbers.copy()
        lower[:, :, 5 * plate + 1] += 0.1  # the endplate's middle, towards the feet
        moved = with_numbers(bodies, lower, numbers[0], mirrored=mirrored)
        _, sizes = axes_of(bodies, mirrored=mirrored)
        by = moved.middles_mm[0] - bodies.middles_mm[0]
        feet = bodies.middles_mm[0, :, 1] - bodies.middles_mm[0, :, 0]
        feet /= np.linalg.norm(feet, axis=1)[:, None]
        assert (by[:, plate] * feet).sum(axis=1) == pytest.approx(0.1 * sizes, rel=0.05)
        assert by[:, 1 - plate] == pytest.approx(0.0, abs=1e-9)
        corners = (moved.corners_mm[0] - bodies.corners_mm[0]).reshape(-1, 2, 2, 2)
        np.testing.assert_allclose(corners[:, plate], by[:, [plate, plate]], atol=1e-9)
        np.testing.assert_allclose(corners[:, 1 - plate], 0.0, atol=1e-9)


class TestSecondLook:
    def test_numbers_of_a_turned_crop_are_turned_back(self) -> None:
        corners = np.array([[-0.6, -0.5], [0.55, -0.4], [0.5, 0.45], [-0.58, 0.52]])
        middles = np.array([[-0.025, -0.41], [-0.04, 0.43]])
        turn = 0.2
        cosine, sine = np.cos(turn), np.sin(turn)
        to_crop = np.array([[cosine, -sine], [sine, cosine]])  # rows: a place times this
        numbers = numbers_of(corners @ to_crop, middles @ to_crop)
        back = turned_numbers(numbers[None], np.array([turn]))[0]
        np.testing.assert_allclose(back, numbers_of(corners, middles), atol=1e-9)

    @pytest.mark.parametrize("off", [0.0, 0.3])
    def test_s1_is_looked_at_again_where_it_is_turned(self, off: float) -> None:
        column, pixels = phantom_column(3)
        looks: list[int] = []

        def turned(said: Refined) -> Refined:
            looks.append(len(said.numbers))
            numbers = said.numbers.copy()
            numbers[:, 2] = off if len(looks) == 1 else 0.0
            return replace(said, numbers=numbers)

        measured(column, pixels, Told(turned))
        assert looks[1:2] == ([] if off == 0.0 else [1])  # then S1 may be sought


class TestFacing:
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_the_refiner_tells_the_front_where_the_column_does_not(
        self, mirrored: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(film_module, "facing_log_odds", lambda signs: 0.0)
        column, pixels = phantom_column(3)
        if mirrored:
            segments = tuple(_mirrored(each) for each in column.segments)
            column = Column(segments, column.height, column.width)
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        sure = measured(column, pixels, built_in_refiner())
        monkeypatch.undo()
        assert sure.facing is measured(column, pixels, None).facing
        assert sure.facing_probability > 0.95

    def test_a_film_that_shows_nothing_tells_no_front(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(film_module, "facing_log_odds", lambda signs: 0.0)
        column, pixels = phantom_column(3)
        film = measured(column, np.zeros_like(pixels), built_in_refiner())
        reasons = {m.withheld_reason for m in film.measures}
        assert film.facing is None
        assert WithheldReason.FACING_UNSURE in reasons


def named(column: Column) -> Labelling:
    """The column's outlines with their true names."""
    return Labelling(
        tuple(
            NamedVertebra(s, 0.99, None if s.level else UnnamedReason.SACRUM_UNSURE)
            for s in column.segments
        ),
        True,
    )


def measured(
    column: Column,
    pixels: NDArray[Any],
    refiner: LandmarkRefiner | None,
    spacing_mm: tuple[float | None, float | None] = (0.5, 0.5),
) -> FilmMeasures:
    return measure_film(named(column), {}, (), spacing_mm, pixels=pixels, refiner=refiner)


class Told(LandmarkRefiner):
    """Answers what the network does, changed."""

    def __init__(self, change: Any) -> None:
        super().__init__(load_built_in_card(REFINER))
        self.change = change

    def __call__(self, crops: NDArray[np.float32]) -> Refined:
        said: Refined = self.change(super().__call__(crops))
        return said


def values(film: FilmMeasures) -> dict[Any, float]:
    return {(m.kind, m.levels): m.value for m in film.measures if m.value is not None}


class TestMeasures:
    def test_endplates_are_refined_and_say_so(self) -> None:
        column, pixels = phantom_column(3)
        refined = measured(column, pixels, built_in_refiner())
        alone = measured(column, pixels, None)
        assert alone.refiner is None
        assert not any(b.upper_refined or b.lower_refined for b in alone.bodies)
        assert refined.refiner is not None
        assert refined.refiner.weights_sha256 == built_in_refiner().card.weights_sha256
        share = np.mean([body.upper_refined for body in refined.bodies])
        assert share > 0.7
        sacrum = [body for body in refined.bodies if body.level == "S1"]
        assert not any(body.lower_refined for body in sacrum)
        kind = (MeasureKind.LORDOSIS, ("L1", "L5"))
        assert values(refined)[kind] == pytest.approx(values(alone)[kind], abs=6.0)

    def test_the_same_film_is_measured_the_same(self) -> None:
        column, pixels = phantom_column(3)
        one, other = (measured(column, pixels, built_in_refiner()) for _ in range(2))
        assert one == other

    def test_a_mirrored_film_gives_the_same_values(self) -> None:
        column, pixels = phantom_column(3)
        turned = Column(
            tuple(_mirrored(each) for each in column.segments), column.height, column.width
        )
        one = measured(column, pixels, built_in_refiner())
        other = measured(turned, np.ascontiguousarray(pixels[:, ::-1]), built_in_refiner())
        assert {one.facing, other.facing} == {Facing.LEFT, Facing.RIGHT}
        mine, its = values(one), values(other)
        assert mine.keys() == its.keys()
        for key, value in mine.items():
            wide = 1.0 if key[0].name.endswith(("ANGLE", "LORDOSIS", "SLOPE", "WEDGING")) else 2.5
            assert its[key] == pytest.approx(value, abs=wide), key

    def test_an_unsure_refiner_is_not_heard(self) -> None:
        column, pixels = phantom_column(3)
        unsure = Told(lambda said: replace(said, spreads=said.spreads * 0 + 5.0))
        film = measured(column, pixels, unsure)
        assert not any(body.upper_refined or body.lower_refined for body in film.bodies)
        mine, its = values(film), values(measured(column, pixels, None))
        assert len(mine) > 40
        for key, value in mine.items():  # intervals are wider, so some may be withheld
            assert value == pytest.approx(its[key], abs=1e-6), key

    def test_a_refiner_that_contradicts_the_outlines_is_not_heard(self) -> None:
        column, pixels = phantom_column(3)
        elsewhere = Told(lambda said: replace(said, numbers=said.numbers + 0.6))
        film = measured(column, pixels, elsewhere)
        assert not any(body.upper_refined or body.lower_refined for body in film.bodies)

    def test_what_is_not_in_view_is_not_made_up(self) -> None:
        column, pixels = phantom_column(3)
        body = column.of("L2")
        cut = int(body.box.y + 0.6 * body.box.height)
        rows = slice(cut, None)
        shown = Column(_cut(column.segments, rows), column.height - cut, column.width)
        film = measured(shown, np.ascontiguousarray(pixels[rows]), built_in_refiner())
        cut_off = [m for m in film.measures if m.levels == ("L2",)]
        reasons = {m.withheld_reason for m in cut_off if m.value is None}
        assert WithheldReason.CUT_BY_FILM in reasons

    @pytest.mark.parametrize("mirrored", [False, True])
    def test_a_sacrum_that_the_film_cuts_below_its_endplate_is_measured(
        self, mirrored: bool
    ) -> None:
        column, pixels = phantom_column(3)
        whole = values(measured(column, pixels, built_in_refiner()))
        box = column.of("S1").box
        end = round(box.y + 0.75 * box.height)
        shown = Column(_cut(column.segments, slice(end)), end, column.width)
        pixels = np.ascontiguousarray(pixels[:end])
        if mirrored:
            shown = replace(shown, segments=tuple(_mirrored(s) for s in shown.segments))
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        alone = measured(shown, pixels, None)
        slope = (MeasureKind.SACRAL_SLOPE, ("S1",))
        told = {(m.kind, m.levels): m for m in alone.measures}[slope]
        assert told.withheld_reason is WithheldReason.CUT_BY_FILM
        found = values(measured(shown, pixels, built_in_refiner()))
        assert found[slope] == pytest.approx(whole[slope], abs=4.0)
        unsure = Told(lambda said: replace(said, spreads=said.spreads * 0 + 0.15))
        assert slope not in values(measured(shown, pixels, unsure))

    def test_a_film_of_one_grey_is_measured_by_its_outlines(self) -> None:
        column, pixels = phantom_column(3)
        film = measured(column, np.zeros_like(pixels), built_in_refiner())
        alone = measured(column, pixels, None)
        mine, its = values(film), values(alone)
        kind = (MeasureKind.LORDOSIS, ("L1", "L5"))
        assert mine[kind] == pytest.approx(its[kind], abs=8.0)


def _mirrored(segment: Segment) -> Segment:
    return _drawn(segment, decode_mask(segment.mask)[:, ::-1])


def _cut(segments: tuple[Segment, ...], rows: slice) -> tuple[Segment, ...]:
    """What these rows of the film show of some segments."""
    parts = [(segment, decode_mask(segment.mask)[rows]) for segment in segments]
    return tuple(_drawn(segment, pixels) for segment, pixels in parts if pixels.any())


def _drawn(segment: Segment, pixels: NDArray[np.bool_]) -> Segment:
    mask = encode_mask(np.ascontiguousarray(pixels))
    return replace(segment, mask=mask, box=mask_box(mask))
