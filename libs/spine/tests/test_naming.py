"""Names of vertebrae on phantom films, by the reader that is built in."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from spinezoo_contract import codec
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import FilmView, Labelling, Structure, UnnamedReason
from spinezoo_spine.column.naming import (
    SACRUM_READ,
    SURE,
    SURE_FROM_ABOVE,
    named_column,
    named_vertebrae,
)
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.column.reader.readings import AGREED
from spinezoo_testing.columns import column, instance, painted_film, phantom_column, region

SEEDS = range(12)


@pytest.fixture(scope="module")
def phantoms():
    return [phantom_column(seed) for seed in SEEDS]


def said_of(made, pixels) -> Labelling:
    nameless = [replace(segment, level=None) for segment in made.segments]
    return named_vertebrae(nameless, pixels, built_in_reader())


def counted(films) -> Counter[str]:
    found: Counter[str] = Counter()
    for made, pixels in films:
        said = said_of(made, pixels)
        for true, vertebra in zip(made.segments, said.vertebrae, strict=True):
            level = vertebra.segment.level
            right = level == true.level
            found["withheld" if level is None else "right" if right else "wrong"] += 1
    return found


def test_true_outlines_of_phantoms_get_their_names(phantoms):
    found = counted(phantoms)
    assert found["right"] >= 0.5 * found.total(), found
    assert found["wrong"] <= 0.02 * found.total(), found


def test_s1_called_lumbar_is_named_from_the_film_all_the_same(phantoms):
    films = []
    for made, pixels in phantoms:
        lumbar = [
            replace(s, structure=Structure.LUMBAR_VERTEBRA) if s.level == "S1" else s
            for s in made.segments
        ]
        films.append((replace(made, segments=tuple(lumbar)), pixels))
    found = counted(films)
    assert found["right"] >= 0.8 * found.total(), found
    assert found["wrong"] <= 0.03 * found.total(), found


def test_a_name_decides_whether_a_vertebra_is_sacral(phantoms):
    turned_round = {
        Structure.LUMBAR_VERTEBRA: Structure.SACRAL_VERTEBRA,
        Structure.SACRAL_VERTEBRA: Structure.LUMBAR_VERTEBRA,
    }
    named = 0
    for made, pixels in phantoms[:6]:
        others = [replace(s, structure=turned_round[s.structure]) for s in made.segments]
        said = said_of(replace(made, segments=tuple(others)), pixels)
        for given, vertebra in zip(others, said.vertebrae, strict=True):
            level, structure = vertebra.segment.level, vertebra.segment.structure
            if level is None:
                assert structure is given.structure
            else:
                named += 1
                assert (structure is Structure.SACRAL_VERTEBRA) == (level in ("S1", "S2"))
    assert named > 10


def test_a_missed_vertebra_shifts_no_name_and_is_listed(phantoms):
    found: Counter[str] = Counter()
    for made, pixels in phantoms[:6]:
        said = said_of(made.without("L3"), pixels)
        names = [vertebra.segment.level for vertebra in said.vertebrae]
        if {"L2", "L4"} <= set(names):
            assert said.missing_levels == ("L3",)
        for true, name in zip(made.without("L3").segments, names, strict=True):
            found["none" if name is None else str(name == true.level)] += 1
    assert found["True"] >= 0.75 * found.total(), found
    assert found["False"] <= 0.03 * found.total(), found


def test_an_answer_holds_the_whole_distribution_and_goes_over_the_wire(phantoms):
    made, pixels = phantoms[0]
    said = said_of(made, pixels)
    card = built_in_reader().card
    assert said.reader is not None
    assert said.reader.weights_sha256 == card.weights_sha256
    assert said.reader.threshold == built_in_reader().calibration.threshold
    assert said.film is not None
    assert said.film.view is FilmView.LATERAL
    for vertebra in said.vertebrae:
        total = sum(vertebra.level_probabilities.values()) + vertebra.no_vertebra_probability
        assert 0.9 <= total <= 1.0 + 1e-6
        level = vertebra.segment.level
        if level is not None:
            assert vertebra.confidence == pytest.approx(vertebra.level_probabilities[level])
            assert vertebra.confidence >= said.reader.threshold
    message = codec.to_proto(said)
    assert codec.from_proto(Labelling, message, made.height, made.width) == said


def test_regions_are_taken_apart_and_implants_left_out(phantoms):
    made, pixels = phantoms[0]
    kinds = (Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA)
    regions = [
        region(
            np.any([decode_mask(s.mask) for s in made.segments if s.structure is kind], axis=0),
            kind,
        )
        for kind in kinds
    ]
    screw = region(decode_mask(made.of("L4").mask), Structure.SCREW)
    said = named_column([*regions, screw], pixels, built_in_reader())
    assert {v.segment.structure for v in said.vertebrae} <= set(kinds)
    assert len(said.vertebrae) >= len(made.segments) - 1


@pytest.mark.parametrize(
    ("turn", "views"),
    [(1, {FilmView.TURNED}), (2, {FilmView.UPSIDE_DOWN}), (3, {FilmView.TURNED})],
)
def test_films_that_lie_or_stand_on_their_head_get_no_names(phantoms, turn, views):
    said_views = Counter()
    for made, pixels in phantoms:
        turned = [region(np.rot90(decode_mask(s.mask), turn), s.structure) for s in made.segments]
        said = named_column(turned, np.rot90(pixels, turn), built_in_reader())
        assert said.film is not None
        said_views[said.film.view] += 1
        assert not [v for v in said.vertebrae if v.segment.level is not None]
    right = sum(said_views[view] for view in views)
    assert right >= 0.8 * said_views.total(), said_views


def test_a_film_from_the_front_gets_no_names():
    said = [said_of(*phantom_column(seed, view="anteroposterior")) for seed in range(100, 106)]
    assert not [v for one in said for v in one.vertebrae if v.segment.level is not None]
    assert all(not one.sacrum_in_view for one in said)


def test_without_outlines_the_film_is_still_read():
    _, pixels = phantom_column(3)
    said = named_vertebrae([], pixels, built_in_reader())
    assert said.vertebrae == ()
    assert said.film is not None
    assert said.lumbar_count is None
    assert not said.sacrum_in_view
    assert said.missing_levels == ()


def test_bright_bars_on_nothing_are_not_named_with_certainty():
    made = column(size=30)
    said = said_of(made, painted_film(made))
    assert len(said.vertebrae) == len(made.segments)
    for vertebra in said.vertebrae:
        assert (vertebra.segment.level is None) == (vertebra.unnamed_reason is not None)
        assert vertebra.unnamed_reason is not UnnamedReason.SPACING


def test_the_order_of_outlines_does_not_matter(phantoms):
    made, pixels = phantoms[1]
    order = np.random.default_rng(0).permutation(len(made.segments)).tolist()
    shuffled = replace(made, segments=tuple(made.segments[place] for place in order))
    first = said_of(made, pixels).vertebrae
    second = said_of(shuffled, pixels).vertebrae
    for place, vertebra in zip(order, second, strict=True):
        assert vertebra.segment.level == first[place].segment.level
        assert vertebra.confidence == pytest.approx(first[place].confidence, abs=1e-4)


def test_other_columns_are_looked_at_too_where_a_name_is_unsure(phantoms):
    made_of: Counter[str] = Counter()
    for made, pixels in phantoms:
        regions = [
            region(
                np.any([decode_mask(s.mask) for s in made.segments if s.structure is kind], axis=0),
                kind,
            )
            for kind in (Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA)
        ]
        # Outlines that miss the sacrum: some of these columns cannot be counted from below.
        made = made.without("S1").without("S2").without("L5")
        nameless = [replace(segment, level=None) for segment in made.segments]
        alone = named_vertebrae(nameless, pixels, built_in_reader())
        other = named_column(regions, pixels, built_in_reader())
        both = named_vertebrae(nameless, pixels, built_in_reader(), [regions])
        assert alone.film is not None
        if all(max(v.level_probabilities.values()) >= SURE for v in alone.vertebrae):
            assert both == alone
            assert both != other
            made_of["one look"] += 1
            continue
        made_of["two looks"] += 1
        for first, said in zip(alone.vertebrae, both.vertebrae, strict=True):
            near = [v for v in other.vertebrae if abs(v.segment.box.y - first.segment.box.y) < 8]
            if not near:
                assert said.level_probabilities == first.level_probabilities
                continue
            one, two = first.level_probabilities, near[0].level_probabilities
            mean = {level: (one.get(level, 0) + two.get(level, 0)) / 2 for level in one | two}
            whole = sum(share**AGREED for share in (*mean.values(), 1 - sum(mean.values())))
            for level, share in said.level_probabilities.items():
                assert share == pytest.approx(mean[level] ** AGREED / whole, abs=0.003)
    assert min(made_of["one look"], made_of["two looks"]) >= 2, made_of


def views_of(said: Labelling) -> list[float]:
    film = said.film
    assert film is not None
    return [
        film.lateral_probability,
        film.upside_down_probability,
        film.turned_probability,
        film.no_lateral_column_probability,
    ]


def test_other_columns_are_looked_at_too_where_it_is_unsure_what_the_film_shows(phantoms):
    reader = built_in_reader()
    looks: Counter[str] = Counter()
    for (made, pixels), turns in itertools.product(phantoms, (0, 1, 2)):
        masks = [np.rot90(decode_mask(s.mask), turns) for s in made.segments]
        noise = np.random.default_rng(0).normal(0.0, 1.5 * pixels.std(), pixels.shape)
        noisy = np.clip(pixels + noise, 0, pixels.max()).astype(pixels.dtype)
        film = np.ascontiguousarray(np.rot90(noisy, turns))
        lumbar = [instance(mask, Structure.LUMBAR_VERTEBRA) for mask in masks]
        two, last = lumbar[:2], lumbar[-3:]
        alone = named_vertebrae(two, film, reader)
        both = named_vertebrae(two, film, reader, [lumbar, last])
        if max(views_of(alone)) >= reader.calibration.view_threshold:
            assert views_of(both) == views_of(alone)
            looks["one"] += 1
            continue
        singly = [
            views_of(alone),
            *(views_of(named_column(o, film, reader)) for o in (lumbar, last)),
        ]
        mean = np.prod(singly, axis=0) ** (1 / 3)
        assert views_of(both) == pytest.approx((mean / mean.sum()).tolist(), abs=1e-3)
        assert both.film is not None
        assert both.film.view is FilmView(1 + int(mean.argmax()))
        looks["three"] += 1
    assert min(looks["one"], looks["three"]) >= 2, looks


def test_the_sacrum_is_in_view_and_the_count_known_only_where_the_film_shows_it(phantoms):
    reader, known = built_in_reader(), 0
    for made, pixels in phantoms[:3]:
        whole = said_of(made, pixels)
        assert whole.sacrum_in_view
        known += whole.lumbar_count == 5
        rows = int(made.of("L4").box.y + 0.9 * made.of("L4").box.height)
        above = [
            instance(decode_mask(s.mask)[:rows], s.structure)
            for s in made.segments
            if s.box.y < rows - 4 and s.level not in ("S1", "S2")
        ]
        cut = named_vertebrae(above, pixels[:rows], reader)
        assert not cut.sacrum_in_view
        assert cut.lumbar_count is None
        turned = [instance(np.rot90(decode_mask(s.mask)), s.structure) for s in made.segments]
        lying = named_vertebrae(turned, np.rot90(pixels), reader)
        assert not lying.sacrum_in_view
        assert (lying.lumbar_count, lying.missing_levels) == (None, ())
        assert lying.count_reason == "no upright lateral column was read"
    assert known >= 1


def test_films_that_end_above_the_sacrum_are_named_only_surely(phantoms):
    reader, found = built_in_reader(), Counter[str]()
    for (made, pixels), level in itertools.product(phantoms, ("L5", "L4", "L3")):
        rows = int(made.of(level).box.y + 0.9 * made.of(level).box.height)
        shown = [s for s in made.segments if s.box.y < rows - 4]
        left = [
            instance(decode_mask(s.mask)[:rows], s.structure, level=s.level)
            for s in shown
            if s.level not in ("S1", "S2")
        ]
        said = said_of(replace(made, segments=tuple(left), height=rows), pixels[:rows])
        assert said.film is not None
        unread = 1.0 - said.film.sacrum_not_in_view_probability < SACRUM_READ
        for true, vertebra in zip(left, said.vertebrae, strict=True):
            name = vertebra.segment.level
            likely = max(vertebra.level_probabilities.values(), default=0.0)
            if name is None:
                found["unsure" if likely >= reader.calibration.threshold else "none"] += 1
                continue
            least = SURE_FROM_ABOVE if unread else reader.calibration.threshold
            assert vertebra.confidence >= least
            found["right" if name == true.level else "wrong"] += 1
    assert found["unsure"] > 0, found
    assert found["right"] >= 0.2 * found.total(), found
    assert found["wrong"] <= 0.08 * found.total(), found
