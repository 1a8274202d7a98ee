"""Films made on the spot: the form of prepared films, pure, and of all structures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from spinezoo_contract.errors import OptionError
from spinezoo_contract.types import NAMED_LEVELS, Structure
from spinezoo_phantom.truth import is_simple
from spinezoo_training.augmentation import augment
from spinezoo_training.phantom_films import TRAINING_SETTINGS, training_columns, training_films
from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.targets import instances_of, label_map_of, network_input


@pytest.fixture(scope="module")
def films() -> list[PreparedFilm]:
    return [film for index in range(16) for film in training_films(4, index, 320, 256)]


def same(one: PreparedFilm, other: PreparedFilm) -> bool:
    return (
        one.name == other.name
        and np.array_equal(one.grey, other.grey)
        and len(one.regions) == len(other.regions)
        and all(
            a == b and np.array_equal(p, q)
            for (a, p), (b, q) in zip(one.regions, other.regions, strict=True)
        )
    )


def test_the_same_arguments_give_the_same_films(films: list[PreparedFilm]) -> None:
    again = training_films(4, 2, 320, 256)
    assert all(same(a, b) for a, b in zip(again, films[6:9], strict=True))


def test_a_look_does_not_depend_on_how_many_follow() -> None:
    assert same(training_films(4, 1, 128, 96, 1)[0], training_films(4, 1, 128, 96, 3)[0])


def test_names_are_unique_and_films_differ(films: list[PreparedFilm]) -> None:
    assert films[0].name == "phantom4-4-0-0"
    assert len({film.name for film in films}) == len(films)
    assert len({film.grey.tobytes() for film in films}) == len(films)
    other = training_films(5, 0, 320, 256, 1)[0]
    assert not np.array_equal(other.grey, films[0].grey)


def test_their_form_is_that_of_prepared_films(films: list[PreparedFilm]) -> None:
    rng = np.random.default_rng(0)
    for film in films[::3]:
        assert film.grey.shape == (320, 256)
        assert film.grey.dtype == np.uint8
        for structure, polygon in film.regions:
            assert isinstance(structure, Structure)
            assert polygon.dtype == np.float64
            assert is_simple(polygon)
            assert (polygon >= 0).all()
            assert (polygon <= [256, 320]).all()
        moved = augment(film, rng)
        assert network_input(moved).shape == (2, 320, 256)
        assert label_map_of(moved).shape == (320, 256)
        instances_of(moved)


def test_all_structures_both_facings_all_greys(films: list[PreparedFilm]) -> None:
    found = {structure for film in films for structure, _ in film.regions}
    assert found == set(Structure)
    facing = set()
    for film in films:
        bones = [p for s, p in film.regions if s in (Structure.LUMBAR_VERTEBRA,)]
        sacral = [p for s, p in film.regions if s is Structure.SACRAL_VERTEBRA]
        if len(bones) > 3 and sacral:
            facing.add(bool(sacral[-1].mean(axis=0)[0] < bones[-3].mean(axis=0)[0]))
        assert len(bones) >= 2
        # Hidden films teach nothing: greys must spread inside the vertebrae's box.
        points = np.concatenate(bones)
        low, high = points.min(axis=0).astype(int), np.ceil(points.max(axis=0)).astype(int)
        assert film.grey[low[1] : high[1], low[0] : high[0]].std() > 1.0, film.name
    assert facing == {True, False}


def test_looks_share_the_patient(films: list[PreparedFilm]) -> None:
    for first in range(0, len(films), 3):
        areas = {
            tuple(
                round(float(np.ptp(polygon[:, 1])), 2) for _, polygon in films[first + look].regions
            )
            for look in range(3)
        }
        assert len(areas) == 1


def test_a_wide_canvas_has_bars() -> None:
    for film in training_films(1, 0, 192, 300, 1):
        assert film.grey.shape == (192, 300)
        assert not film.grey[:, :20].any()
        assert not film.grey[:, -20:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 320, 256), "seed -1"),
        ((0, -2, 320, 256), "index -2"),
        ((0, 0, 320, 256, 0), "looks 0"),
        ((0, 0, 95, 256), "canvas 95 x 256"),
    ],
)
def test_nonsense_is_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        training_films(*arguments)


def test_columns_name_the_bodies_of_their_films() -> None:
    for column in (training_columns(4, index, 320, 256, 1)[0] for index in range(6)):
        top, left, rows, columns = column.frame
        order = [NAMED_LEVELS.index(body.level) for body in column.bodies]
        assert order == sorted(order)
        outlined = {body.outline.tobytes() for body in column.bodies}
        drawn = [p for s, p in column.film.regions if s.name.endswith("VERTEBRA")]
        assert all(polygon.tobytes() in outlined for polygon in drawn)
        for body in column.bodies:
            assert (body.outline >= [left, top]).all()
            assert (body.outline <= [left + columns, top + rows]).all()
            whole = (body.corners > [left, top]).all()
            whole &= (body.corners < [left + columns, top + rows]).all()
            if whole:  # the corners' middle is the outline's
                away = body.corners.mean(axis=0) - body.outline.mean(axis=0)
                depth = np.linalg.norm(body.corners[1] - body.corners[0])
                assert np.linalg.norm(away) < 0.35 * depth
            front = body.corners[1, 0] > body.corners[0, 0]
            assert body.level.startswith("S") or front == (column.facing == "right")


def test_wrong_views_and_turns_say_what_they_are() -> None:
    upright = training_columns(9, 3, 256, 192, 1)[0]
    for turn_deg in (90, 180, 270):
        settings = replace(TRAINING_SETTINGS, turn_deg=turn_deg)
        turned = training_columns(9, 3, 256, 192, 1, settings=settings)[0]
        assert (turned.view, turned.turn_deg) == ("lateral", turn_deg)
        assert turned.facing == upright.facing
        levels = {body.level: body.outline.mean(axis=0) for body in turned.bodies}
        down = levels["S1"] - levels["L2"]  # to the feet: left, up, right
        along = {90: (-1, 0), 180: (0, -1), 270: (1, 0)}[turn_deg]
        assert float(down @ np.array(along)) > 0.7 * float(np.linalg.norm(down))
    settings = replace(TRAINING_SETTINGS, view="anteroposterior")
    for index in range(3):
        frontal = training_columns(9, index, 256, 192, 1, settings=settings)[0]
        assert frontal.view == "anteroposterior"
        assert not {s for s, _ in frontal.film.regions} - {
            Structure.LUMBAR_VERTEBRA,
            Structure.SACRAL_VERTEBRA,
        }
        top = next(body for body in frontal.bodies if body.level == "L2")
        wide, high = np.ptp(top.outline, axis=0)
        assert wide > 1.1 * high
