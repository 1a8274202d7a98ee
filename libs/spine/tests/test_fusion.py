from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spinezoo_contract.errors import MaskError, OptionError
from spinezoo_contract.masks import decode_mask, encode_mask, mask_area, mask_box
from spinezoo_contract.types import (
    FusionOptions,
    FusionRule,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_spine.fusion.votes import ballot, borders_of, count, either, fuse

LUMBAR, SACRAL, CAGE = (
    Structure.LUMBAR_VERTEBRA,
    Structure.SACRAL_VERTEBRA,
    Structure.CAGE,
)

THREE = (LUMBAR, SACRAL, CAGE)


def segment(pixels, structure=LUMBAR, kind=SegmentKind.INSTANCE):
    mask = encode_mask(np.asarray(pixels).astype(bool))
    return Segment(structure, kind, mask, 0.5, mask_box(mask))


def strip(*columns, width=6, structure=LUMBAR):
    pixels = np.zeros((4, width), dtype=bool)
    pixels[:, list(columns)] = True
    return segment(pixels, structure)


def columns_of(mask):
    return [] if mask is None else np.flatnonzero(decode_mask(mask).any(axis=0)).tolist()


def by_pixels(inputs, height, width, options):
    """The definition, pixel by pixel, with exact weights: (votes, total, fused) by plane."""
    weight = {
        name: Fraction(repr(float(options.weights.get(name, 1.0))))
        if options.rule is FusionRule.WEIGHTED_VOTE
        else Fraction(1)
        for name in inputs
    }
    total = sum(weight.values())
    fused = {}
    for plane in [*Structure, None]:
        votes = np.full((height, width), Fraction(0), dtype=object)
        for name, segments in inputs.items():
            has = np.zeros((height, width), dtype=bool)
            for s in segments:
                if plane is None or s.structure is plane:
                    has |= decode_mask(s.mask)
            votes[has] += weight[name]
        fused[plane] = (
            votes,
            total,
            {
                FusionRule.UNION: votes > 0,
                FusionRule.INTERSECTION: votes == total,
                FusionRule.MAJORITY: votes * 2 > total,
                FusionRule.WEIGHTED_VOTE: votes * 2 > total,
            }[options.rule].astype(bool),
        )
    return fused


@st.composite
def ensembles(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs = {}
    for name in "abcdefg"[: draw(st.integers(1, 7))]:
        segments = []
        for _ in range(draw(st.integers(0, 4))):
            pixels = rng.random((height, width)) < rng.choice([0.2, 0.7, 1.0])
            if pixels.any():
                structure = Structure(int(rng.integers(1, 6)))
                segments.append(segment(pixels, structure))
        inputs[name] = segments
    weights = draw(
        st.dictionaries(
            st.sampled_from(sorted(inputs)),
            st.sampled_from([0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 1e-12, 7.25, 1e9, 1e-300, 1e300]),
        )
    )
    return inputs, height, width, weights


@settings(max_examples=150, deadline=None)
@given(ensembles(), st.sampled_from(FusionRule))
def test_equals_the_definition_pixel_by_pixel(ensemble, rule):
    inputs, height, width, weights = ensemble
    options = FusionOptions(rule, weights)
    answer = fuse(inputs, height, width, options)
    expected = by_pixels(inputs, height, width, options)
    by_structure = {s.structure: s for s in answer.segments}
    assert [s.structure for s in answer.segments] == sorted(by_structure)
    for structure in Structure:
        votes, total, fused = expected[structure]
        if not fused.any():
            assert structure not in by_structure
            continue
        got = by_structure[structure]
        np.testing.assert_array_equal(decode_mask(got.mask), fused)
        assert got.mask == encode_mask(fused)
        assert got.box == mask_box(got.mask)
        assert got.kind is SegmentKind.REGION
        assert got.score == float(sum(votes[fused].tolist()) / (int(fused.sum()) * total))
        assert 0 < got.score <= 1
    merged = expected[None][2]
    if merged.any():
        np.testing.assert_array_equal(decode_mask(answer.merged_mask), merged)
    else:
        assert answer.merged_mask is None
    assert answer.rule is rule
    assert answer.member_names == tuple(sorted(inputs))


@settings(max_examples=50, deadline=None)
@given(ensembles(), st.randoms())
def test_order_of_members_and_segments_plays_no_part(ensemble, random):
    inputs, height, width, weights = ensemble
    options = FusionOptions(FusionRule.WEIGHTED_VOTE, weights)
    names = list(inputs)
    random.shuffle(names)
    shuffled = {name: random.sample(inputs[name], len(inputs[name])) for name in names}
    assert fuse(inputs, height, width, options) == fuse(shuffled, height, width, options)


def test_majority_of_three():
    answer = fuse({"a": [strip(0, 1, 2)], "b": [strip(1, 2, 3)], "c": [strip(2, 5)]}, 4, 6)
    assert columns_of(answer.segments[0].mask) == [1, 2]
    assert answer.rule is FusionRule.MAJORITY


def test_half_of_the_members_is_background():
    answer = fuse({"a": [strip(0, 1)], "b": [strip(1, 2)]}, 4, 6)
    assert columns_of(answer.segments[0].mask) == [1]


def test_half_of_the_weights_is_background_though_doubles_would_not_tie():
    inputs = {"a": [strip(0)], "b": [strip(0)], "c": [strip(1)]}
    assert 0.1 + 0.2 != 0.3
    options = FusionOptions(FusionRule.WEIGHTED_VOTE, {"a": 0.1, "b": 0.2, "c": 0.3})
    answer = fuse(inputs, 4, 6, options)
    assert answer.segments == ()
    assert answer.merged_mask is None


def test_a_heavy_member_decides_a_weighted_vote():
    inputs = {"a": [strip(0)], "b": [strip(1)], "c": [strip(1)]}
    options = FusionOptions(FusionRule.WEIGHTED_VOTE, {"a": 2.5})
    assert columns_of(fuse(inputs, 4, 6, options).segments[0].mask) == [0]
    assert columns_of(fuse(inputs, 4, 6).segments[0].mask) == [1]


def test_overlapping_instances_of_one_member_are_one_vote():
    inputs = {"a": [strip(0, 1), strip(1, 2)], "b": [], "c": []}
    assert fuse(inputs, 4, 6).segments == ()


def test_merged_mask_is_fused_from_united_masks_not_from_fused_structures():
    inputs = {name: [strip(3, structure=s)] for name, s in zip("abc", THREE, strict=True)}
    answer = fuse(inputs, 4, 6)
    assert answer.segments == ()
    assert columns_of(answer.merged_mask) == [3]


def test_a_member_without_segments_takes_part():
    inputs = {"a": [strip(0)], "b": []}
    assert fuse(inputs, 4, 6).segments == ()
    assert fuse(inputs, 4, 6, FusionOptions(FusionRule.INTERSECTION)).segments == ()
    assert columns_of(fuse(inputs, 4, 6, FusionOptions(FusionRule.UNION)).segments[0].mask) == [0]


def test_full_masks_do_not_run_into_the_next_structure():
    full = np.ones((4, 6), dtype=bool)
    inputs = {"a": [segment(full, structure) for structure in Structure]}
    answer = fuse(inputs, 4, 6)
    assert [mask_area(s.mask) for s in answer.segments] == [24] * 5
    assert [s.score for s in answer.segments] == [1.0] * 5


def test_no_member_is_refused():
    with pytest.raises(OptionError, match="no member"):
        fuse({}, 4, 6)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_positive_is_refused(weight):
    with pytest.raises(OptionError, match=r"'a'.*greater than 0"):
        fuse({"a": []}, 4, 6, FusionOptions(FusionRule.WEIGHTED_VOTE, {"a": weight}))


def test_a_weight_for_an_unknown_member_is_refused():
    with pytest.raises(OptionError, match="'yolcat'"):
        fuse({"yolact": []}, 4, 6, FusionOptions(FusionRule.WEIGHTED_VOTE, {"yolcat": 2.0}))


def test_a_mask_of_another_size_is_refused_by_member():
    with pytest.raises(MaskError, match="'b' is 4 x 7"):
        fuse({"a": [strip(0)], "b": [strip(0, width=7)]}, 4, 6)


@pytest.mark.parametrize("counts", [b"", b"0", b"o", b"000", b"P", bytes(range(48, 112))])
def test_run_lengths_that_do_not_fit_the_film_are_refused(counts):
    mask = RunLengthMask(4, 6, counts)
    with pytest.raises(MaskError):
        Segment(LUMBAR, SegmentKind.REGION, mask, 0.5, mask_box(strip(0).mask))
    with pytest.raises(MaskError):
        borders_of([mask], 24)


def test_a_mask_of_another_area_has_no_borders_on_the_film():
    with pytest.raises(MaskError, match="do not add up to the film's 25 pixels"):
        borders_of([strip(0).mask], 25)


def test_is_fast_for_a_large_film():
    """About 4 ms on a quiet machine; processor time, and room for a busy one."""
    rng = np.random.default_rng(0)
    height, width = 2048, 1024
    rows, columns = np.ogrid[:height, :width]

    def member():
        found = []
        for i in range(20):
            x, y = 500 + rng.normal(0, 5), 150 + (i % 10) * 180 + rng.normal(0, 5)
            pixels = ((columns - x) / 110) ** 2 + ((rows - y) / 75) ** 2 <= 1
            found.append(segment(pixels, Structure(1 + i % 5)))
        return found

    inputs = {name: member() for name in "abcde"}
    took = []
    for _ in range(10):
        start = time.thread_time()
        fuse(inputs, height, width)
        took.append(time.thread_time() - start)
    assert min(took) < 0.02


def test_ballots_of_films_of_different_sizes_are_not_counted_together():
    ballots = {"a": ballot([], 20, 30), "b": ballot([], 30, 20)}
    with pytest.raises(MaskError, match="'b' is of a film of 30 x 20"):
        count(ballots)


@pytest.mark.parametrize("seed", range(40))
def test_either_is_the_union_of_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((5, 7)) < share for share in rng.random(1 + seed % 4)]
    together = np.any(masks, axis=0)
    *borders, wanted = borders_of([encode_mask(each) for each in (*masks, together)], 35)
    assert either(*borders).tolist() == wanted.tolist()


def test_either_of_no_masks_is_empty() -> None:
    assert either().tolist() == []
