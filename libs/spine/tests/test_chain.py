"""Outlines become places and places a column: duplicates, pieces, blobs and gaps."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import Structure, UnnamedReason
from spinezoo_spine.column.chain import _Edge, _turn_cost, longest_chain, steps_between
from spinezoo_spine.column.places import MOST_OUTLINES, measure_sizes, places_of
from spinezoo_testing.columns import LEVELS, column, instance, quad


def chain_of(segments):
    """Levels of the chain from below, and why others are left out, by level."""
    film = places_of(segments)
    if not film.nodes:
        return [], {}, []
    measure_sizes(film)
    chain = longest_chain(film)
    out = {segments[index].level: reason for index, reason in film.left_out.items()}
    return [segments[place.index].level for place in chain], out, chain


@settings(max_examples=40, deadline=None)
@given(st.booleans(), st.floats(14, 40), st.floats(-15, 15), st.floats(0.88, 1.15))
def test_whole_columns_are_one_chain_whichever_way_they_face(mirrored, size, tilt, spacing):
    made = column(mirrored=mirrored, size=size, tilt_deg=tilt, scale_step=spacing)
    levels, out, _ = chain_of(made.segments)
    assert levels == [segment.level for segment in made.segments]
    assert not out


def test_two_vertebrae_are_a_chain():
    made = column(("S1", "L5"))
    assert chain_of(made.segments)[0] == ["S1", "L5"]


@pytest.mark.parametrize(
    ("sacral", "cut_off", "turn_deg", "cost"),
    [
        (0.9, False, 80.0, 0.02 * (80.0 - 35.0)),
        (0.9, True, 80.0, 0.02 * (80.0 - 70.0)),
        (0.9, True, 86.0, None),
        (0.0, True, 50.0, 0.02 * (50.0 - 22.0)),
        (0.0, False, 56.0, None),
    ],
)
def test_only_a_sacrum_that_the_film_cuts_off_turns_freely(sacral, cut_off, turn_deg, cost):
    (place,) = places_of([column().of("S1")]).nodes
    place.sacral, place.cut_off = sacral, cut_off
    found = _turn_cost(_Edge(0, 1, 0.0, 0.0), _Edge(1, 2, turn_deg, 0.0), [place])
    assert found == (None if cost is None else pytest.approx(cost))


@pytest.mark.parametrize("gone", LEVELS[2:-2])
def test_a_missed_vertebra_leaves_a_long_step(gone):
    made = column().without(gone)
    levels, _, chain = chain_of(made.segments)
    assert levels == [level for level in LEVELS[:-1] if level != gone]
    at = LEVELS.index(gone)
    steps = [steps_between(a, b) for a, b in itertools.pairwise(chain)]
    assert steps[at - 1] > 1.6
    assert max(steps[: at - 1] + steps[at:]) < 1.4


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(LEVELS[:-1]), st.integers(-5, 5), st.integers(-5, 5), st.floats(0.05, 0.85))
def test_of_duplicates_the_better_score_stands(level, dx, dy, score):
    made = column()
    pixels = np.roll(decode_mask(made.of(level).mask), (dy, dx), (0, 1))
    copy = instance(pixels, made.of(level).structure, score, "T4")
    levels, out, _ = chain_of(made.plus(copy).segments)
    assert levels == list(LEVELS[:-1])
    assert out == {"T4": UnnamedReason.DUPLICATE}


def test_a_place_keeps_the_scores_of_both_classes():
    made = column()
    double = replace(made.of("S1"), structure=Structure.LUMBAR_VERTEBRA, score=0.3, level="T4")
    levels, out, chain = chain_of(made.plus(double).segments)
    place = chain[levels.index("S1")]
    assert (place.lumbar, place.sacral) == (0.3, 0.9)
    assert out == {"T4": UnnamedReason.DUPLICATE}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**16), st.booleans(), st.floats(0.3, 0.99))
def test_a_blob_beside_the_column_is_not_in_the_chain(seed, sacral, score):
    made = column()
    rng = np.random.default_rng(seed)
    covered = np.any([decode_mask(s.mask) for s in made.segments], axis=0)
    xs = np.nonzero(covered.any(axis=0))[0]
    side = rng.choice([xs.min() - 32, xs.max() + 32])
    centre = np.array([side, rng.uniform(40, 300)])
    pixels = quad(centre, rng.uniform(20, 34), rng.uniform(-40, 40), made.height, made.width)
    structure = Structure.SACRAL_VERTEBRA if sacral else Structure.LUMBAR_VERTEBRA
    levels, _, _ = chain_of(made.plus(instance(pixels, structure, score, "T1")).segments)
    assert levels == list(LEVELS[:-1])


def test_a_speck_is_a_fragment_and_two_bodies_in_one_outline_are_several():
    made = column()
    speck = quad(np.array([60.0, 60.0]), 5, 0, made.height, made.width)
    _, out, _ = chain_of(made.plus(instance(speck, level="T2")).segments)
    assert out == {"T2": UnnamedReason.FRAGMENT}
    both = decode_mask(made.of("L3").mask) | decode_mask(made.of("L2").mask)
    over = instance(both, score=0.99, level="T3")
    levels, out, _ = chain_of(made.plus(over).segments)
    assert (levels, out) == (list(LEVELS[:-1]), {"T3": UnnamedReason.SEVERAL})
    levels, out, chain = chain_of(made.without("L3", "L2").plus(over).segments)
    place = chain[levels.index("T3")]
    assert place.count == 2
    for at, level in ((place.lower_xy, "L3"), (place.upper_xy, "L2")):
        box = made.of(level).box
        middle = (box.x + box.width / 2, box.y + box.height / 2)
        assert at == pytest.approx(middle, abs=4.0)
    assert not out


def test_nothing_one_thing_and_far_too_much_are_taken():
    assert chain_of(()) == ([], {}, [])
    made = column()
    assert chain_of([made.of("S1")])[0] == ["S1"]
    rng = np.random.default_rng(1)
    crowd = [
        instance(quad(rng.uniform(20, 280, 2), 20, 0, 300, 300), score=float(rng.random()))
        for _ in range(MOST_OUTLINES + 30)
    ]
    film = places_of(crowd)
    assert len(film.nodes) + len(film.left_out) == len(crowd)
