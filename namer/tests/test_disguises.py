"""Films made unlike phantoms: outlines stay on bodies, bodies stay where sides are hidden."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_namer.batches import Films
from spinezoo_namer.disguises import bent, cut_short, disguised, framed, retoned, sides_hidden
from spinezoo_namer.examples import NONE, FilmKind, example_of
from spinezoo_namer.outlines import position_of, true_bodies
from spinezoo_namer.store import BODY_PX, Body, StoredFilm

SHAPE = (420, 300)


def column() -> list[Body]:
    """Nine square bodies above each other, a little oblique."""
    bodies = []
    levels = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "S1")
    for number, level in enumerate(levels):
        x, y = 130.0 + 5 * number, 50.0 + 38 * number
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float) * BODY_PX
        bodies.append(Body(level, square + np.array([x - BODY_PX / 2, y - BODY_PX / 2])))
    return bodies


def drawn(bodies: list[Body]) -> NDArray[np.uint8]:
    """Bright where a body is, to a sixteenth of a pixel."""
    film = np.zeros(SHAPE, np.uint8)
    for body in bodies:
        points = np.round((body.outline - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(film, [points], 255, shift=4)
    return film


def test_outlines_go_with_a_film_that_is_bent():
    moved = []
    for seed in range(25):
        bodies = column()
        seen, found = bent(drawn(bodies), bodies, np.random.default_rng(seed))
        shown, said = seen > 127, drawn(found) > 127
        assert (shown & said).sum() > 0.9 * (shown | said).sum()
        before = {body.level: body.outline for body in bodies}
        moved += [np.abs(body.outline - before[body.level]).max() for body in found]
    assert np.median(moved) > 0.2 * BODY_PX


def test_a_body_that_is_bent_off_the_film_is_left_out():
    gone = Body("L5", np.array([[-60.0, 10.0], [-34.0, 10.0], [-34.0, 36.0], [-60.0, 36.0]]))
    film = np.zeros(SHAPE, np.uint8)
    _, found = bent(film, [*column(), gone], np.random.default_rng(0))
    assert gone.outline.tolist() not in [body.outline.tolist() for body in found]
    assert all((body.outline >= 0).all() for body in found)
    assert len(found) == len(column())


def test_a_film_that_is_cut_ends_within_s1_or_above():
    bodies = column()
    film = drawn(bodies)
    lowest = []
    for seed in range(60):
        seen, left = cut_short(film, bodies, np.random.default_rng(seed))
        rows = len(seen)
        np.testing.assert_array_equal(seen, film[:rows])
        assert rows < len(film)
        assert all(body.outline[:, 1].max() <= rows for body in left)
        truth = true_bodies(left, 5, *seen.shape)
        shown = [body for body in bodies if body.outline[:, 1].min() < rows - 0.3 * BODY_PX]
        assert {body.level for body in shown} <= {body.level for body in left}
        assert truth[0].position == position_of(left[-1].level, 5)
        assert not any(body.cut_off for body in truth[1:])
        lowest.append(left[-1].level)
    assert {"S1", "L5", "L4", "L3"} == set(lowest)


def test_a_film_of_few_bodies_is_not_cut():
    bodies = column()[-4:]
    film = drawn(bodies)
    for seed in range(20):
        seen, left = cut_short(film, bodies, np.random.default_rng(seed))
        assert len(left) == 4
        assert left[-1].level == "S1" or len(seen) == len(film)


def test_a_film_that_ends_above_the_sacrum_has_none_to_read():
    film = StoredFilm("film", drawn(column()), tuple(column()), 5, "lateral")
    kept = [body for body in column() if body.level != "S1"]
    ends = round(kept[-1].outline[:, 1].max())
    without = StoredFilm("film", film.grey[:ends], tuple(kept), 5, "lateral")
    for seed in range(40):
        one = example_of(without, np.random.default_rng(seed), kind=FilmKind.LATERAL)
        there = one.positions[one.positions != NONE]
        assert (there >= 1).all()


def test_outlines_go_with_a_film_that_is_framed():
    grown = 0
    for seed in range(30):
        seen, found = framed(drawn(column()), column(), np.random.default_rng(seed))
        grown += seen.shape != SHAPE
        for body in found:
            middle = np.round(body.outline.mean(axis=0)).astype(int)
            assert seen[middle[1], middle[0]] == 255
    assert grown > 15


def test_hiding_sides_leaves_the_bodies():
    rng = np.random.default_rng(0)
    film = rng.integers(0, 256, SHAPE).astype(np.uint8)
    bodies = column()
    inside = drawn(bodies) > 127
    changed_beside = []
    for seed in range(20):
        seen = sides_hidden(film, bodies, np.random.default_rng(seed))
        away = np.abs(seen.astype(int) - film)
        assert np.mean(away[inside]) < 8
        changed_beside.append(np.mean(away[~inside] > 20))
    assert np.median(changed_beside) > 0.1


def test_tones_change_and_the_film_stays_a_film():
    ramp = np.tile(np.linspace(0, 255, SHAPE[1]).astype(np.uint8), (SHAPE[0], 1))
    changed = 0
    for seed in range(40):
        seen = retoned(ramp, np.random.default_rng(seed))
        assert seen.dtype == np.uint8
        assert seen.shape == SHAPE
        assert seen.std() > 10
        changed += int(not np.array_equal(seen, ramp))
    assert 20 < changed < 40
    assert ramp[0, -1] == 255  # what was given is left as it was


@pytest.mark.parametrize("disguise", [False, True])
def test_examples_repeat_themselves_and_keep_their_order(disguise):
    film = StoredFilm("film", drawn(column()), tuple(column()), 5, "lateral")
    for seed in range(30):
        one, other = (
            example_of(film, np.random.default_rng(seed), disguise=disguise) for _ in range(2)
        )
        np.testing.assert_array_equal(one.given.views, other.given.views)
        there = one.positions[one.positions != NONE]
        assert (np.diff(there) > 0).all()
        assert np.isfinite(one.given.views).all()


def test_films_that_show_no_column_can_be_disguised():
    film = drawn(column())
    seen, found = disguised(film, [], np.random.default_rng(2))
    assert all(now >= before for now, before in zip(seen.shape, film.shape, strict=True))
    assert not found


@pytest.mark.parametrize("which", ["disguised_share", "cut_short_share"])
def test_the_share_says_how_often_a_film_is_changed(which):
    film = StoredFilm("film", drawn(column()), tuple(column()), 5, "lateral")
    films = [film] * 8

    def views(share: float) -> NDArray[np.float32]:
        (batch,) = Films(films, 1, 0, 8, **{which: share})
        return batch.given[0].numpy()

    np.testing.assert_array_equal(views(0.0), views(0.0))
    plain, all_of_them = views(0.0), views(1.0)
    assert plain.shape != all_of_them.shape or np.abs(plain - all_of_them).mean() > 0.1
