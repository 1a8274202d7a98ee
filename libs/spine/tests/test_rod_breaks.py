"""Breaks of rods on films drawn here: bright bands with square ends on a ground with noise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.masks import encode_mask
from spinezoo_contract.types import (
    FilmReading,
    FilmView,
    FusedImplant,
    Labelling,
    MeasureKind,
    NamedVertebra,
    Segment,
    SegmentKind,
    Structure,
    WithheldReason,
)
from spinezoo_spine.measures import formulas
from spinezoo_spine.measures.film import measure_film
from spinezoo_spine.measures.rod_breaks import RodsSeen, seen_rods

ROD, SCREW = Structure.ROD, Structure.SCREW
SHAPE = (700, 400)
BREADTH = 18
X, TOP, BOTTOM = 200, 100, 600
GAP = (330, 346)

Mask = NDArray[np.bool_]
SQUARE = (1.0, 1.0)


def bar(
    top: float, bottom: float, x: float = X, lean: float = 0.08, breadth: int = BREADTH
) -> Mask:
    """A straight rod with square ends that leans to the right as it goes down."""
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    middle = x + lean * (rows - TOP)
    beside = np.abs(columns - middle) <= breadth / 2
    return np.asarray(beside & (rows >= top) & (rows < bottom))


def disc(y: int, x: int, radius: int) -> Mask:
    drawn = np.zeros(SHAPE, np.uint8)
    cv2.circle(drawn, (x, y), radius, 1, -1)
    return drawn > 0


def film_of(*metal: Mask, seed: int = 3) -> NDArray[np.float32]:
    """What lies on each other adds up; a bright edge of bone runs across."""
    noise = np.random.default_rng(seed).normal(0.0, 150.0, SHAPE)
    film = 9000.0 + noise + np.linspace(0.0, 3000.0, SHAPE[1])
    film[400:420] += 900.0
    for each in metal:
        film += 5000.0 * each
    return cv2.GaussianBlur(film.astype(np.float32), (0, 0), 0.8)


def implant(structure: Structure, mask: Mask) -> FusedImplant:
    encoded = encode_mask(mask)
    return FusedImplant(Segment(structure, SegmentKind.INSTANCE, encoded, 0.9, encoded.box))


WHOLE = bar(TOP, BOTTOM)
UPPER, LOWER = bar(TOP, GAP[0]), bar(GAP[1], BOTTOM)


def seen(film: NDArray[np.float32], *implants: FusedImplant) -> RodsSeen:
    return seen_rods(implants, film, SQUARE)


def test_a_line_of_single_pixels_is_no_rod_to_look_at() -> None:
    """Its strip would be unrolled in steps of a billionth of its length."""
    line = np.zeros(SHAPE, bool)
    line[TOP:BOTTOM, X] = True
    assert seen(film_of(line), implant(ROD, line)) == RodsSeen()


def test_a_whole_rod_is_whole() -> None:
    found = seen(film_of(WHOLE), implant(ROD, WHOLE))
    assert found.breaks == ()
    assert found.whole == {0}


@pytest.mark.parametrize("aside", [-6, 0, 6])
def test_a_break_is_found_though_the_outline_bridges_it(aside: int) -> None:
    lower = bar(GAP[1], BOTTOM, X + aside)
    (found,) = seen(film_of(UPPER, lower), implant(ROD, WHOLE)).breaks
    assert found.upper_xy is not None
    assert found.lower_xy is not None
    assert found.gap == pytest.approx(GAP[1] - GAP[0], abs=4)
    assert found.upper_xy[1] == pytest.approx(GAP[0], abs=3)
    assert found.lower_xy[1] == pytest.approx(GAP[1], abs=3)
    assert found.upper_xy[0] == pytest.approx(X + 0.08 * (GAP[0] - TOP), abs=4)


def test_two_outlines_end_to_end_are_one_rod() -> None:
    found = seen(film_of(UPPER, LOWER), implant(ROD, UPPER), implant(ROD, LOWER))
    (told,) = found.breaks
    assert told.indices == (0, 1)
    assert found.whole == frozenset()


def test_two_outlines_of_a_whole_rod_are_no_break() -> None:
    """The networks tore it, the film does not."""
    assert seen(film_of(WHOLE), implant(ROD, UPPER), implant(ROD, LOWER)).breaks == ()


def test_a_break_over_a_second_rod_is_found() -> None:
    second = bar(TOP - 30, BOTTOM + 30, X + 6)
    (told,) = seen(film_of(UPPER, LOWER, second), implant(ROD, WHOLE)).breaks
    assert told.gap == pytest.approx(GAP[1] - GAP[0], abs=5)


HEADS = (disc(230, 210, 22), disc(450, 228, 22))


@pytest.mark.parametrize(
    "more",
    [
        HEADS,
        (disc(300, 216, 9),),
        (bar(TOP + 90, BOTTOM - 90, X + 30),),
        (bar(TOP + 90, BOTTOM - 90, X + 8),),
        (np.arange(SHAPE[0])[:, None] // 4 % 40 == 0,),
    ],
    ids=["heads", "cross-link", "second rod", "second rod on it", "grid"],
)
def test_other_metal_on_a_whole_rod_is_no_break(more: tuple[Mask, ...]) -> None:
    """Also where no network sees a screw in the heads."""
    film = film_of(WHOLE, *(np.broadcast_to(each, SHAPE) for each in more))
    assert seen(film, implant(ROD, WHOLE)).breaks == ()
    assert seen(film, implant(ROD, WHOLE), implant(SCREW, HEADS[0] | HEADS[1])).breaks == ()


def test_an_outline_that_reaches_beyond_its_rod_is_no_break() -> None:
    film = film_of(bar(TOP, BOTTOM - 80))
    assert seen(film, implant(ROD, WHOLE)).breaks == ()


def test_a_rod_that_the_film_cuts_is_no_break() -> None:
    through = bar(0, SHAPE[0])
    assert seen(film_of(through), implant(ROD, through)).breaks == ()


def test_a_gap_beneath_a_screw_shows_one_end() -> None:
    head = disc(GAP[1] + 12, 220, 22)
    film = film_of(UPPER, LOWER, head, head)
    early = bar(TOP, GAP[0] - 14)
    film = film_of(early, LOWER, head, head)
    (told,) = seen(film, implant(ROD, WHOLE), implant(SCREW, head)).breaks
    assert told.upper_xy is not None
    assert told.upper_xy[1] == pytest.approx(GAP[0] - 14, abs=3)
    assert told.lower_xy is None
    assert told.gap is None


def test_a_blank_film_says_nothing() -> None:
    found = seen(film_of(), implant(ROD, WHOLE))
    assert found == RodsSeen()


def test_a_rod_that_is_hidden_is_not_called_whole() -> None:
    cover = bar(TOP + 60, TOP + 360, breadth=60)
    found = seen(film_of(WHOLE, cover), implant(ROD, WHOLE), implant(SCREW, cover))
    assert found == RodsSeen()


def test_short_outlines_and_no_rods_are_left_alone() -> None:
    spot = disc(300, 216, 9)
    assert seen(film_of(spot), implant(ROD, spot)) == RodsSeen()
    assert seen(film_of(spot), implant(SCREW, spot)) == RodsSeen()


@pytest.mark.parametrize("upright", [True, False])
def test_mirrored_scaled_and_anisotropic_films_show_the_same(upright: bool) -> None:
    film, mask = film_of(UPPER, LOWER), WHOLE
    (plain,) = seen_rods([implant(ROD, mask)], film, (0.4, 0.4)).breaks
    assert plain.gap is not None
    (turned,) = seen_rods(
        [implant(ROD, np.ascontiguousarray(mask[:, ::-1]))], film[:, ::-1], (0.4, 0.4)
    ).breaks
    assert turned.gap == pytest.approx(plain.gap, abs=0.5)
    size = (SHAPE[1], 2 * SHAPE[0]) if upright else (3 * SHAPE[1], 3 * SHAPE[0])
    large = cv2.resize(film, size, interpolation=cv2.INTER_LINEAR)
    wide = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    plane = (0.4, 0.2) if upright else (0.4 / 3, 0.4 / 3)
    (scaled,) = seen_rods([implant(ROD, wide)], large, plane).breaks
    assert scaled.gap == pytest.approx(plain.gap, abs=0.8)


# --- As measures ----------------------------------------------------------------------------------


def column(view: FilmView = FilmView.LATERAL) -> Labelling:
    """Three bodies in front of the rod."""
    named = []
    for level, y in (("L3", 180), ("L4", 300), ("L5", 420)):
        mask = np.zeros(SHAPE, bool)
        mask[y : y + 90, 270:380] = True
        encoded = encode_mask(mask)
        body = Segment(
            Structure.LUMBAR_VERTEBRA, SegmentKind.INSTANCE, encoded, 0.9, encoded.box, level
        )
        named.append(NamedVertebra(body, 1.0, None))
    return Labelling(tuple(named), False, film=FilmReading(view, 0.9, 0.05, 0.03, 0.02, 0.0))


def test_a_break_is_told_between_its_vertebrae() -> None:
    film = film_of(UPPER, LOWER)
    said = measure_film(column(), {}, [implant(ROD, WHOLE)], (0.4, 0.4), pixels=film)
    told = {m.kind: m for m in said.measures if m.kind >= MeasureKind.ROD_BREAKS}
    count, gap = told[MeasureKind.ROD_BREAKS], told[MeasureKind.ROD_BREAK_GAP]
    assert (count.value, count.levels, count.implant_index) == (1.0, ("L3", "L4"), 0)
    assert gap.value == pytest.approx(0.4 * (GAP[1] - GAP[0]), abs=1.6)
    assert gap.low is not None
    assert gap.low < gap.value < (gap.high or 0.0)
    (place,) = said.rod_breaks
    assert place.levels == ("L3", "L4")
    assert place.implant_indices == (0,)


def test_a_count_needs_no_spacing_and_a_gap_does() -> None:
    film = film_of(UPPER, LOWER)
    said = measure_film(column(), {}, [implant(ROD, WHOLE)], pixels=film)
    told = {m.kind: m for m in said.measures}
    assert told[MeasureKind.ROD_BREAKS].value == 1.0
    assert told[MeasureKind.ROD_BREAK_GAP].withheld_reason is WithheldReason.NO_SPACING


@pytest.mark.parametrize(
    ("view", "pixels", "reason"),
    [
        (FilmView.LATERAL, None, WithheldReason.NOT_SHOWN),
        (FilmView.LATERAL, film_of(), WithheldReason.NOT_SHOWN),
        (FilmView.UPSIDE_DOWN, film_of(WHOLE), WithheldReason.NOT_UPRIGHT_LATERAL),
    ],
    ids=["no film", "blank film", "upside down"],
)
def test_what_is_not_seen_is_withheld_not_whole(
    view: FilmView, pixels: NDArray[np.float32] | None, reason: WithheldReason
) -> None:
    said = measure_film(column(view), {}, [implant(ROD, WHOLE)], (0.4, 0.4), pixels=pixels)
    (told,) = [m for m in said.measures if m.kind is MeasureKind.ROD_BREAKS]
    assert told.value is None
    assert told.withheld_reason is reason
    assert said.rod_breaks == ()


def test_levels_beside_a_place() -> None:
    centres = np.array([(0.0, 0.0), (2.0, 10.0), (0.0, 20.0)])
    levels = ("L3", "L4", "L5")
    for y, told in ((-3, ("L3",)), (4, ("L3", "L4")), (12, ("L4", "L5")), (26, ("L5",))):
        assert formulas.levels_beside(np.array([-4.0, y]), centres, levels) == told
    assert formulas.levels_beside(np.zeros(2), centres[:1], levels[:1]) == ("L3",)
    assert formulas.levels_beside(np.zeros(2), centres[:0], ()) == ()


def test_size_of_a_break() -> None:
    points = np.array([(0.0, 0.0), (0.0, 5.0), (2.0, 11.0), (2.0, 15.0)])
    assert formulas.break_size(points) == pytest.approx((6.0, 2.0))
