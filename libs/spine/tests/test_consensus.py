from __future__ import annotations

import numpy as np
import pytest
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
from spinezoo_spine.column.consensus import fuse_vertebrae, vertebrae_of

LUMBAR, SACRAL = Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA
HEIGHT, WIDTH = 300, 120
STEP, BODY = 48, 34


def body(place, *, shift=0, structure=LUMBAR, score=0.9, height=BODY):
    """The outline of the body at a place of the column, from above."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[10 + STEP * place : 10 + STEP * place + height, 40 + shift : 88 + shift] = True
    return segment(pixels, structure, score=score)


def segment(pixels, structure=LUMBAR, kind=SegmentKind.INSTANCE, score=0.9):
    mask = encode_mask(pixels)
    return Segment(structure, kind, mask, score, mask_box(mask))


def filled(first, last, structure=LUMBAR):
    """A region from one place to another, its discs filled."""
    pixels = np.zeros((HEIGHT, WIDTH), dtype=bool)
    pixels[10 + STEP * first : 10 + STEP * last + BODY, 40:88] = True
    return segment(pixels, structure, SegmentKind.REGION)


def said(segments):
    return vertebrae_of(segments, HEIGHT, WIDTH)


def boxes(segments):
    return [(s.box.x, s.box.y, s.box.width, s.box.height) for s in segments]


COLUMN = [body(place) for place in range(4)]


def test_outlines_tell_apart_what_regions_hold_as_one():
    members = {"a": said([filled(0, 3)]), "b": said([filled(0, 3)]), "c": said(COLUMN)}
    assert boxes(fuse_vertebrae(members)) == boxes(COLUMN)


def test_pixels_follow_the_majority_of_those_who_have_the_vertebra():
    members = {
        "a": said([body(0, shift=-6)]),
        "b": said([body(0)]),
        "c": said([body(0, shift=6)]),
        "d": said([]),  # it has no vertebra, so it does not vote on its pixels
    }
    (fused,) = fuse_vertebrae(members)
    assert boxes([fused]) == boxes([body(0)])
    assert fused.score == pytest.approx(3 / 4)


def test_a_region_has_one_vote_on_pixels_and_an_outline_two():
    wide = np.zeros((HEIGHT, WIDTH), dtype=bool)
    wide[5:60, 30:100] = True
    narrow = np.zeros((HEIGHT, WIDTH), dtype=bool)
    narrow[10:44, 40:70] = True
    small = segment(narrow, kind=SegmentKind.REGION)
    # Two outlines (4 votes) against two regions (2): the outlines' 48 columns stay.
    members = {"a": said([body(0)]), "b": said([body(0)]), "c": said([small]), "d": said([small])}
    assert boxes(fuse_vertebrae(members)) == boxes([body(0)])
    # Outline 2 of 5 votes, three regions 3 of 5: where the regions stop, two is no majority.
    members = {"a": said([body(0)]), "b": said([small]), "c": said([small]), "d": said([small])}
    (fused,) = fuse_vertebrae(members)
    assert np.array_equal(decode_mask(fused.mask), narrow)
    # What a region holds outside the outlines is not this vertebra's.
    large = segment(wide, kind=SegmentKind.REGION)
    members = {"a": said([body(0)]), "b": said([large]), "c": said([large]), "d": said([large])}
    assert boxes(fuse_vertebrae(members)) == boxes([body(0)])


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (FusionRule.UNION, 3),
        (FusionRule.MAJORITY, 2),
        (FusionRule.WEIGHTED_VOTE, 2),
        (FusionRule.INTERSECTION, 1),
    ],
)
def test_whether_a_vertebra_is_kept_follows_the_rule(rule, kept):
    members = {
        "a": said(COLUMN[:3]),
        "b": said(COLUMN[:2]),
        "c": said(COLUMN[:1]),
    }
    assert len(fuse_vertebrae(members, options=FusionOptions(rule))) == kept


def test_two_networks_with_outlines_outvote_three_with_regions():
    other = segment(decode_mask(body(2).mask), kind=SegmentKind.REGION)
    regions = {name: said([other]) for name in "cde"}
    members = {"a": said([body(0)]), "b": said([body(0)]), **regions}
    kept = fuse_vertebrae(members)  # 4 of 7 votes; nobody outlines what the regions show
    assert boxes(kept) == boxes([body(0)])
    assert kept[0].score == pytest.approx(4 / 7)
    # One outline and one region are 3 of 7.
    both = segment(decode_mask(body(0).mask) | decode_mask(body(2).mask), kind=SegmentKind.REGION)
    members = {"a": said([body(0)]), "b": said([body(3)]), **regions, "c": said([both])}
    assert fuse_vertebrae(members) == ()
    assert boxes(fuse_vertebrae(members | {"d": said([both])})) == boxes([body(0)])
    # A network that says nothing may be one with outlines: its silence weighs as much.
    members = {"a": said([body(0)]), "b": said([]), "c": said([both])}
    assert boxes(fuse_vertebrae(members)) == boxes([body(0)])
    assert fuse_vertebrae(members | {"d": said([])}) == ()


def test_weights_decide_and_half_is_not_enough():
    members = {"a": said([body(0)]), "b": said([body(2)])}
    vote = FusionRule.WEIGHTED_VOTE
    assert fuse_vertebrae(members, options=FusionOptions(vote)) == ()
    heavy = fuse_vertebrae(members, options=FusionOptions(vote, {"a": 1.0, "b": 1.5}))
    assert boxes(heavy) == boxes([body(2)])
    with pytest.raises(OptionError, match="'z'"):
        fuse_vertebrae(members, options=FusionOptions(vote, {"z": 1.0}))


def test_the_structure_is_the_one_of_most_votes():
    members = {
        "a": said([body(0, structure=SACRAL, score=0.99)]),
        "b": said([body(0, score=0.8)]),
        "c": said([filled(0, 0)]),
    }
    (fused,) = fuse_vertebrae(members)
    assert fused.structure is LUMBAR
    assert 0.5 < fused.score < 0.7  # all have it, not all call it that


def test_on_the_structure_outlines_and_regions_have_one_vote_each():
    members = {name: said([body(0, structure=SACRAL, score=0.9)]) for name in "ab"}
    members |= {name: said([filled(0, 0)]) for name in "cde"}
    (fused,) = fuse_vertebrae(members)
    assert fused.structure is LUMBAR  # 3 votes against 1.8


def test_a_vertebra_that_no_outline_shows_comes_from_the_fused_regions():
    members = {
        "a": said([filled(0, 0), filled(2, 2, SACRAL)]),
        "b": said([filled(0, 0), filled(2, 2, SACRAL)]),
        "c": said([body(0)]),
    }
    fused = (filled(0, 0), filled(2, 2, SACRAL))
    both = fuse_vertebrae(members, fused)
    assert boxes(both) == boxes([body(0), body(2)])
    assert [s.structure for s in both] == [LUMBAR, SACRAL]
    assert both[1].score == pytest.approx(0.45)
    assert boxes(fuse_vertebrae(members)) == boxes([body(0)])


def test_a_vertebra_that_the_film_shows_in_part_comes_from_the_fused_regions_too():
    part = decode_mask(body(2, height=BODY * 2 // 3).mask)
    region = segment(decode_mask(filled(0, 0).mask) | part, kind=SegmentKind.REGION)
    members = {"a": said([body(0), region]), "b": said([body(0)])}
    assert boxes(fuse_vertebrae(members, (region,))) == boxes([body(0), segment(part)])


def test_without_outlines_the_fused_regions_are_taken_apart():
    members = {name: said([filled(0, 3)]) for name in ("a", "b")}
    assert fuse_vertebrae(members) == ()
    apart = fuse_vertebrae(members, (filled(0, 3),))
    assert len(apart) == 4
    assert all(s.kind is SegmentKind.INSTANCE and s.score == 0.9 for s in apart)


def test_an_outline_over_two_vertebrae_is_none_of_them():
    double = body(0, height=STEP + BODY)
    members = {
        "a": said([*COLUMN[:2], double]),
        "b": said([*COLUMN[:2], double]),
        "c": said(COLUMN[:2]),
    }
    assert boxes(fuse_vertebrae(members)) == boxes(COLUMN[:2])


def test_two_outlines_of_one_member_are_not_two_votes():
    members = {"a": said([body(0), body(0, shift=2)]), "b": said([]), "c": said([])}
    assert fuse_vertebrae(members) == ()
    # By union both would stay, but they are of one vertebra.
    assert len(fuse_vertebrae(members, options=FusionOptions(FusionRule.UNION))) == 1


def test_the_order_of_members_and_segments_does_not_matter():
    rng = np.random.default_rng(5)
    answers = {
        name: [body(p, shift=int(rng.integers(-5, 6)), score=float(rng.random())) for p in range(4)]
        for name in "abcd"
    }
    answers["e"] = [filled(0, 3)]
    first = fuse_vertebrae({name: said(each) for name, each in answers.items()})
    turned = {name: said(each[::-1]) for name, each in reversed(answers.items())}
    assert fuse_vertebrae(turned) == first
    assert len(first) == 4


def test_nobody_has_anything():
    assert fuse_vertebrae({"a": said([])}) == ()
    with pytest.raises(OptionError, match="no member"):
        fuse_vertebrae({})


def test_broken_run_lengths_are_refused():
    good = body(0)
    short = RunLengthMask(HEIGHT, WIDTH, good.mask.counts[:-2])
    with pytest.raises(MaskError, match="mask counts are cut off"):
        said([Segment(LUMBAR, SegmentKind.INSTANCE, short, 0.9, good.box)])


def test_areas_match_a_vote_by_pixels():
    """Against the definition, pixel by pixel, on wobbling outlines."""
    rng = np.random.default_rng(11)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]

    def blob(kind):
        dy, dx, ry, rx = rng.normal(0, 3, 2).tolist() + rng.normal(0, 2, 2).tolist()
        inside = ((y - 150 - dy) / (40 + ry)) ** 2 + ((x - 60 - dx) / (30 + rx)) ** 2 < 1
        return segment(inside, kind=kind)

    answers = {
        "a": [blob(SegmentKind.INSTANCE)],
        "b": [blob(SegmentKind.INSTANCE)],
        "c": [blob(SegmentKind.REGION)],
        "d": [blob(SegmentKind.REGION)],
        "e": [blob(SegmentKind.REGION)],
    }
    (fused,) = fuse_vertebrae({name: said(each) for name, each in answers.items()})
    pixels = {name: decode_mask(each[0].mask) for name, each in answers.items()}
    count = sum((2 if name in "ab" else 1) * p.astype(int) for name, p in pixels.items())
    wanted = (count >= 4) & (pixels["a"] | pixels["b"])  # of 7 votes
    assert np.array_equal(decode_mask(fused.mask), wanted)
    assert mask_area(fused.mask) == np.count_nonzero(wanted)
