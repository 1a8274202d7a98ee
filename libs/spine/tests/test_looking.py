"""What the reader is shown of a film: along the column, whatever the film's size, side and bits."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from spinezoo_spine.column.bodies import shape_of
from spinezoo_spine.column.chain import longest_chain
from spinezoo_spine.column.places import measure_sizes, places_of
from spinezoo_spine.column.reader.looking import (
    BEYOND,
    FACTS,
    FILM_PX,
    HALF_SIDES,
    HALVED_TO,
    PAIR_FACTS,
    RIB_SPOTS,
    RIBS_HALF_SIDE,
    RIBS_PX,
    VIEW_PX,
    blank_input,
    own_step,
    reader_input,
    scaled_film,
    spots_of,
)
from spinezoo_spine.films.grey import unit_grey
from spinezoo_testing.columns import column, instance, painted_film, quad


def given_of(made, pixels):
    film = places_of(made.segments)
    measure_sizes(film)
    chain = longest_chain(film)
    spots = spots_of(chain, film.size)
    return reader_input(pixels, spots, film.size, own_step(chain)), spots


def test_a_turned_body_is_as_long_and_broad_as_it_was_drawn():
    body = shape_of(instance(quad(np.array([70.0, 60.0]), 50.0, 30.0, 120, 140)).mask)
    assert body is not None
    assert body.centre_xy == pytest.approx((70.5, 60.5), abs=0.3)
    # 42 along the column, 58 across it, and the pixels of the border; the longer side leads up.
    assert (body.breadth_px, body.length_px) == pytest.approx((43.0, 59.0), abs=1.0)
    turn = math.radians(30.0)
    assert body.direction_xy == pytest.approx((-math.cos(turn), -math.sin(turn)), abs=0.03)
    assert body.extent_px((math.sin(turn), -math.cos(turn))) == pytest.approx(43.0, abs=1.0)
    assert body.extent_px((math.cos(turn), math.sin(turn))) == pytest.approx(59.0, abs=1.0)


def test_facts_are_those_of_the_outlines():
    pixels = np.zeros((300, 200), bool)
    made, tops = [], (200, 140, 80)
    for top in tops:
        body = pixels.copy()
        body[top : top + 40, 80:140] = True
        made.append(instance(body))
    film = places_of(made)
    measure_sizes(film)
    chain = longest_chain(film)
    spots = spots_of(chain, film.size)
    given = reader_input(pixels.astype(np.uint8), spots, film.size, own_step(chain))
    size = math.sqrt(40 * 60)
    assert own_step(chain) == pytest.approx(60 / size, abs=0.03)
    for row in range(BEYOND, BEYOND + 3):
        beyond, lumbar, sacral, large, tall, cut, turn, lean = given.facts[row, :8].tolist()
        assert (beyond, lumbar, sacral, cut) == (0.0, pytest.approx(0.9), 0.0, 0.0)
        assert (large, turn, lean) == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)
        assert tall == pytest.approx(2 * math.log(40 / 60), abs=0.01)
    assert given.facts[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    first, last = BEYOND, BEYOND + 2
    apart = 120 / size / 1.2
    assert given.pairs[first, last, 0] == pytest.approx(apart)
    assert given.pairs[first, last, 1] == pytest.approx(2.0, abs=0.05)
    assert given.pairs[first, last, 2:].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert given.pairs[0, first, 2:].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert given.pairs[0, last + 1, 3:5].tolist() == [1.0, 1.0]
    assert not given.pairs[last, first].any()


def test_spots_go_on_beyond_both_ends_in_the_columns_own_step():
    made = column(size=24)
    given, spots = given_of(made, painted_film(made))
    assert [spot.place is None for spot in spots] == [True] * BEYOND + [False] * 8 + [True] * BEYOND
    ys = [spot.centre_xy[1] for spot in spots]
    assert ys == sorted(ys, reverse=True)
    assert given.views.shape == (len(spots), len(HALF_SIDES), VIEW_PX, VIEW_PX)
    assert given.facts.shape == (len(spots), FACTS)
    assert given.pairs.shape == (len(spots), len(spots), PAIR_FACTS)
    assert given.film.shape == (1, 1, FILM_PX, FILM_PX)
    assert given.ribs.shape == (5, 1, RIBS_PX, RIBS_PX)
    assert all(array.dtype == np.float32 for array in (given.views, given.facts, given.pairs))


def test_a_body_lies_in_the_middle_of_its_view_and_upright():
    made = column(size=40, height=520)
    given, spots = given_of(made, painted_film(made))
    for view, spot in zip(given.views, spots, strict=True):
        if spot.place is None or spot.place.cut_off:
            continue
        middle = view[0, VIEW_PX // 2 - 4 : VIEW_PX // 2 + 4, VIEW_PX // 2 - 4 : VIEW_PX // 2 + 4]
        side, above = (
            view[0, VIEW_PX // 2, VIEW_PX // 2 + 9],
            view[0, VIEW_PX // 2 - 12 :, VIEW_PX // 2],
        )
        # Broader than tall: bright beside the middle, a disc above it.
        assert middle.mean() > 0.3
        assert side > above[:4].min()


def test_a_mirrored_film_gives_mirrored_views():
    made, mirrored = column(size=30), column(size=30, mirrored=True)
    one, _ = given_of(made, painted_film(made))
    other, _ = given_of(mirrored, painted_film(mirrored))
    away = np.abs(one.views - other.views[..., ::-1])
    assert away.mean() < 0.08
    np.testing.assert_allclose(one.facts, other.facts, atol=0.08)
    np.testing.assert_allclose(one.pairs, other.pairs, atol=0.02)


@pytest.mark.parametrize("factor", [0.7, 1.3, 4.0])
def test_the_size_of_a_film_hardly_matters(factor):
    made = column(size=40, height=520, width=360)
    large = column(
        size=40 * factor, height=round(520 * factor), width=round(360 * factor), bottom=20 * factor
    )
    one, _ = given_of(made, painted_film(made))
    other, _ = given_of(large, painted_film(large))
    assert np.abs(one.views - other.views).mean() < 0.12
    np.testing.assert_allclose(one.facts, other.facts, atol=0.25)
    np.testing.assert_allclose(one.pairs, other.pairs, atol=0.2)


def test_bits_and_types_do_not_matter():
    made = column()
    grey = painted_film(made)
    eight, _ = given_of(made, grey)
    for pixels in (grey.astype(np.uint16) * 257, grey.astype(np.float32) / 255.0):
        pixels.setflags(write=False)
        other, _ = given_of(made, pixels)
        np.testing.assert_allclose(eight.views, other.views, atol=0.05)


def test_a_film_of_one_value_and_specks_taken_for_bodies_are_harmless():
    made = column(size=14)
    flat, _ = given_of(made, np.full((made.height, made.width), 7, np.uint8))
    assert np.isfinite(flat.views).all()
    tiny = column(size=5, height=3000, width=2000)
    given, _ = given_of(tiny, painted_film(tiny))
    assert np.isfinite(given.views).all()


@pytest.mark.parametrize("shape", [(1600, 1200), (1603, 1101)])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_film_that_is_halved_first_is_shrunk_to_the_same_means(shape, bits):
    rng = np.random.default_rng(3)
    rough = cv2.resize(rng.random((shape[0] // 40, shape[1] // 40)), shape[::-1])
    noise = rng.random(shape) * 0.1
    pixels = ((0.9 * rough + noise) * (2**bits - 1)).astype(f"uint{bits}")
    size = 250.0
    grey, scale = scaled_film(pixels, size)
    assert scale == pytest.approx(VIEW_PX / (2.2 * size))
    assert scale < HALVED_TO
    # Halved twice: up to three rows and columns are left out.
    whole = pixels[: shape[0] // 4 * 4, : shape[1] // 4 * 4].astype(np.float64)
    whole = cv2.resize(whole, grey.shape[::-1], interpolation=cv2.INTER_AREA)
    off = 255.0 * np.abs(grey - unit_grey(whole))
    assert off.mean() < 1.0
    assert off.max() < 4.0


@pytest.mark.parametrize("shape", [(16, 16), (16, 2000), (3000, 20)])
def test_a_film_without_outlines_is_shown_as_a_whole(shape):
    given = blank_input(np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape))
    assert given.film.shape == (1, 1, FILM_PX, FILM_PX)
    assert given.outlined.sum() == 0
    assert np.isfinite(given.film).all()


def test_ribs_are_looked_for_around_the_upper_vertebrae_and_beside_the_film_is_nothing():
    made = column(size=24, width=110)
    grey = painted_film(made).astype(np.float32)
    grey += np.linspace(0, 90, made.width, dtype=np.float32)  # a shade that is no rib
    places = places_of(made.segments)
    measure_sizes(places)
    size = places.size
    given, spots = given_of(made, grey)
    (x, y), (up_x, up_y) = spots[RIB_SPOTS][1].centre_xy, spots[RIB_SPOTS][1].up_xy
    steps = (np.arange(RIBS_PX) - (RIBS_PX - 1) / 2) * 2 * RIBS_HALF_SIDE * size / RIBS_PX
    across, down = np.meshgrid(steps, steps)
    at_x, at_y = x - up_y * across - up_x * down, y + up_x * across - up_y * down
    inside = (at_x > 1) & (at_y > 1) & (at_x < made.width - 1) & (at_y < made.height - 1)
    beside = (at_x < -1) | (at_y < -1) | (at_x > made.width + 1) | (at_y > made.height + 1)
    view = given.ribs[1, 0]
    assert beside.any()
    assert not view[beside].any()
    assert np.abs(view).max() <= 1.0
    # The shade is gone; the bodies are not.
    left, right = view[inside & (across < -0.9 * size)], view[inside & (across > 0.9 * size)]
    assert abs(float(left.mean()) - float(right.mean())) < 0.1
    body = (np.abs(across) < 0.3 * size) & (np.abs(down) < 0.2 * size)
    assert view[body].mean() > 0.2


def test_a_short_column_has_one_empty_view_for_ribs():
    made = column(size=24)
    places = places_of(made.segments[:1])
    measure_sizes(places)
    chain = longest_chain(places)
    given = reader_input(painted_film(made), spots_of(chain, places.size), places.size, 1.2)
    assert given.ribs.shape == (1, 1, RIBS_PX, RIBS_PX)
    assert not given.ribs.any()
    assert blank_input(painted_film(made)).ribs.shape == (1, 1, RIBS_PX, RIBS_PX)
