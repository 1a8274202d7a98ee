"""Implants of several members as objects, and what they touch, on named geometry."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from spinezoo_contract.errors import MaskError, OptionError
from spinezoo_contract.masks import decode_mask, encode_mask
from spinezoo_contract.types import (
    FusedImplant,
    FusionOptions,
    FusionRule,
    Labelling,
    NamedVertebra,
    Segment,
    SegmentKind,
    Structure,
    UnnamedReason,
)
from spinezoo_spine.fusion import implants as fusing
from spinezoo_spine.fusion.implants import Implants, fuse_implants, implants_of
from spinezoo_spine.fusion.touching import _Near, placed_in_column, touched_levels
from spinezoo_spine.fusion.votes import borders_of, fuse
from spinezoo_spine.windows import crop, window_of

SHAPE = (400, 300)
CAGE, SCREW, ROD = Structure.CAGE, Structure.SCREW, Structure.ROD


def bar(start: tuple[float, float], end: tuple[float, float], width: int = 12) -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    cv2.line(drawn, tuple(map(round, start)), tuple(map(round, end)), 1, width)
    return drawn > 0


LEFT, RIGHT = bar((60, 200), (180, 200)), bar((60, 208), (180, 203))
"""Two screws of one level; they share half of their pixels."""
POLE = bar((60, 60), (66, 360), 10)
BOX = bar((200, 150), (240, 150), 24)


def one(structure: Structure, mask: np.ndarray, score: float = 0.9, **more: object) -> Segment:
    encoded = encode_mask(mask)
    kind = more.pop("kind", SegmentKind.INSTANCE)
    return Segment(structure, kind, encoded, score, encoded.box, **more)


def regions(*pairs: tuple[Structure, np.ndarray]) -> list[Segment]:
    """A semantic network's answer: a label map, the later one on top."""
    labels = np.zeros(SHAPE, np.uint8)
    for structure, mask in pairs:
        labels[mask] = int(structure)
    return [
        one(structure, labels == int(structure), 0.8, kind=SegmentKind.REGION)
        for structure in dict(pairs)
    ]


def shifted(mask: np.ndarray, right: int, down: int) -> np.ndarray:
    return np.roll(mask, (down, right), axis=(0, 1))


def iou(segment: Segment, mask: np.ndarray) -> float:
    pixels = decode_mask(segment.mask)
    return float((pixels & mask).sum() / (pixels | mask).sum())


def fused_of(
    answers: dict[str, list[Segment]], options: FusionOptions | None = None
) -> list[tuple[Structure, Segment, tuple[str, ...]]]:
    said = {name: implants_of(segments, *SHAPE) for name, segments in answers.items()}
    whole = fuse(answers, *SHAPE, options)
    return [
        (each.segment.structure, each.segment, each.member_names)
        for each in fuse_implants(said, whole.segments, options)
    ]


def test_screws_that_overlap_are_two_where_an_instance_network_sees_two() -> None:
    blob = regions((SCREW, LEFT | RIGHT))
    found = fused_of(
        {
            "a": [one(SCREW, LEFT), one(SCREW, RIGHT)],
            "b": [one(SCREW, shifted(LEFT, 1, -1)), one(SCREW, shifted(RIGHT, 0, 1))],
            "c": blob, "d": blob, "e": blob,
        }
    )  # fmt: skip
    assert [structure for structure, *_ in found] == [SCREW, SCREW]
    assert iou(found[0][1], LEFT) > 0.8
    assert iou(found[1][1], RIGHT) > 0.8
    assert all(names == ("a", "b") for *_, names in found)
    assert found[0][1].score == pytest.approx(1.0)  # the regions cover it too


def test_an_implant_of_one_network_alone_is_not_kept() -> None:
    nothing: list[Segment] = []
    alone = {"a": [one(CAGE, BOX)], "b": nothing, "c": nothing}
    assert fused_of(alone) == []
    (kept,) = fused_of(alone, FusionOptions(FusionRule.UNION))
    assert iou(kept[1], BOX) == 1.0


@pytest.mark.parametrize(("structure", "near", "far"), [(CAGE, 5, 6), (SCREW, 1, 2), (ROD, 2, 3)])
def test_outlines_that_share_too_much_are_one_implant(
    structure: Structure, near: int, far: int
) -> None:
    """Two bars of 12 pixels, one lower by some: 7/17 and 6/18, 11/13 and 10/14, 10/14 and 9/15."""
    mask = np.zeros(SHAPE, bool)
    mask[200:212, 60:180] = True
    for lower, count in ((near, 1), (far, 2)):
        twice = [one(structure, mask), one(structure, shifted(mask, 0, lower), 0.8)]
        assert len(fused_of({"a": twice, "b": twice})) == count


def test_an_outline_that_covers_two_counts_for_nothing() -> None:
    apart = shifted(LEFT, 0, 60)
    found = fused_of(
        {
            "a": [one(SCREW, LEFT), one(SCREW, apart), one(SCREW, LEFT | apart, 0.99)],
            "b": [one(SCREW, LEFT), one(SCREW, apart)],
        }
    )
    assert len(found) == 2
    assert iou(found[0][1], LEFT) == 1.0


def test_a_head_on_a_rod_is_no_vote_against_the_rod() -> None:
    heads = [bar((52, y), (76, y), 44) for y in (110, 210, 310)]
    map_like = regions((ROD, POLE), (SCREW, np.any(heads, axis=0)))
    found = fused_of({"a": [one(ROD, POLE)], "b": map_like, "c": map_like})
    (rod,) = [segment for structure, segment, _ in found if structure is ROD]
    assert iou(rod, POLE) > 0.9


def test_pixels_are_those_that_most_have() -> None:
    (found,) = fused_of({name: [one(CAGE, shifted(BOX, 3 * n, 0))] for n, name in enumerate("abc")})
    assert found[0] is CAGE
    assert iou(found[1], shifted(BOX, 3, 0)) == 1.0


def test_what_only_regions_show_is_added_with_half_the_score() -> None:
    map_like = regions((CAGE, BOX), (SCREW, LEFT))
    found = fused_of({"a": map_like, "b": map_like, "c": []})
    assert [structure for structure, *_ in found] == [CAGE, SCREW]
    assert all(segment.kind is SegmentKind.INSTANCE for _, segment, _ in found)


def test_a_screw_that_only_regions_show_is_added_beside_another_one() -> None:
    lower = shifted(LEFT, 0, 60)
    blob = regions((SCREW, LEFT | lower))
    answers = {"a": [one(SCREW, LEFT)], "b": [one(SCREW, LEFT)], "c": blob, "d": blob, "e": blob}
    found = fused_of(answers)
    assert [structure for structure, *_ in found] == [SCREW, SCREW]
    assert iou(found[1][1], lower) > 0.8


def test_metal_is_taken_apart_only_where_something_is_left_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted: list[set[Structure]] = []
    own = fusing.to_instances

    def counted(segments: list[Segment], *structures: set[Structure]) -> tuple[Segment, ...]:
        wanted.extend(structures)
        return own(segments, *structures)

    screw = shifted(LEFT, 30, 0)
    members = [[one(SCREW, screw), one(ROD, POLE), one(CAGE, BOX)] for _ in range(3)]
    said = {str(n): implants_of(segments, *SHAPE) for n, segments in enumerate(members)}
    monkeypatch.setattr(fusing, "to_instances", counted)
    thicker = cv2.dilate(screw.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    borders = regions((SCREW, thicker), (ROD, POLE), (CAGE, BOX))
    assert len(fuse_implants(said, borders)) == 3
    assert wanted == []  # a border of one pixel is no implant
    more = regions((SCREW, screw | shifted(screw, 0, 60)), (ROD, POLE), (CAGE, BOX))
    assert len(fuse_implants(said, more)) == 4
    assert wanted == [{SCREW}]


@pytest.mark.parametrize("film", range(4))
def test_parts_left_out_are_those_that_would_not_be_added(
    film: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars by chance, drawn by five members with their own borders: the answer is the same."""
    rng = np.random.default_rng(film)
    bars = [
        (structure, rng.uniform((20, 20), (280, 380), (2, 2)), int(rng.integers(8, 16)))
        for structure in (SCREW, SCREW, SCREW, ROD, ROD, CAGE)
    ]
    answers = {}
    for name in "abcde":
        drawn = [
            (structure, bar(*(ends + rng.normal(0.0, 1.5, (2, 2))), width))
            for structure, ends, width in bars
            if rng.random() < 0.8
        ]
        if name in "ab":
            answers[name] = [one(structure, mask) for structure, mask in drawn]
        else:
            together: dict[Structure, np.ndarray] = {}
            for structure, mask in drawn:
                together[structure] = together.get(structure, mask) | mask
            answers[name] = regions(*together.items())
    found = fused_of(answers)
    monkeypatch.setattr(fusing, "_holds_more", lambda *_: True)
    assert found == fused_of(answers)


def test_weights_decide() -> None:
    answers = {"a": [one(CAGE, BOX)], "b": [], "c": []}
    rule = FusionRule.WEIGHTED_VOTE
    assert len(fused_of(answers, FusionOptions(rule, {"a": 5.0}))) == 1
    assert fused_of(answers, FusionOptions(rule, {"a": 1.5})) == []


def test_order_of_members_and_of_outlines_plays_no_part() -> None:
    answers = {
        "a": [one(SCREW, LEFT), one(SCREW, RIGHT)],
        "b": [one(SCREW, shifted(RIGHT, 2, 0)), one(SCREW, shifted(LEFT, 1, 1))],
        "c": regions((SCREW, LEFT | RIGHT)),
    }
    turned = {name: answers[name][::-1] for name in "cba"}
    assert [each[1] for each in fused_of(answers)] == [each[1] for each in fused_of(turned)]


def test_nobody_and_nothing() -> None:
    with pytest.raises(OptionError, match="no member"):
        fuse_implants({})
    nothing = implants_of([], *SHAPE)
    assert isinstance(nothing, Implants)
    assert fuse_implants({"a": nothing}) == ()
    with pytest.raises(MaskError):
        implants_of([one(CAGE, np.ones((8, 8), bool))], *SHAPE)


def body(level: str | None, top: int) -> Segment:
    mask = np.zeros(SHAPE, bool)
    mask[top : top + 60, 110:200] = True
    return one(Structure.LUMBAR_VERTEBRA, mask, level=level)


COLUMN = [body("L5", 240), body("L3", 80), body("L4", 160)]


def test_a_screw_touches_the_vertebra_that_it_sits_in() -> None:
    inside, through = bar((60, 190), (170, 190)), bar((100, 280), (190, 190))
    beside = bar((20, 200), (104, 200))
    levels = touched_levels([one(SCREW, m) for m in (inside, through, beside)], COLUMN)
    assert levels == [("L4",), ("L4", "L5"), ()]
    assert touched_levels([one(SCREW, through)], [body("L4", 160), body(None, 240)]) == [("L4",)]


def named_column(*vertebrae: Segment) -> Labelling:
    return Labelling(tuple(NamedVertebra(each, 0.9, None) for each in vertebrae), True)


def test_a_vertebra_holds_two_screws_that_are_surest_and_share_least() -> None:
    left, right = bar((60, 180), (170, 176)), bar((60, 196), (170, 200))
    both, faint = left | right, bar((60, 186), (170, 184))
    below = bar((60, 270), (170, 270))
    found = [
        FusedImplant(one(SCREW, mask, score))
        for mask, score in ((both, 0.9), (left, 0.8), (faint, 0.6), (right, 0.7), (below, 0.2))
    ]
    found.append(FusedImplant(one(CAGE, bar((130, 229), (180, 229), 16), 0.1)))
    column = named_column(*COLUMN)
    kept = placed_in_column(found, column)
    assert [each.segment for each in kept] == [found[n].segment for n in (1, 3, 4, 5)]
    assert [each.touches for each in kept] == [("L4",), ("L4",), ("L5",), ("L4", "L5")]
    # An unnamed vertebra holds no more, what lies in none is not counted.
    unnamed = NamedVertebra(body(None, 160), 0.2, UnnamedReason.SACRUM_UNSURE)
    assert len(placed_in_column(found, Labelling((unnamed,), False))) == 4
    assert len(placed_in_column(found, named_column(body("L1", 10)))) == 6


def test_screws_that_cross_the_sacrum_all_stay() -> None:
    sacrum = replace(body("S1", 160), structure=Structure.SACRAL_VERTEBRA)
    found = [FusedImplant(one(SCREW, bar((60, y), (170, y)))) for y in (170, 190, 210)]
    kept = placed_in_column(found, named_column(sacrum))
    assert [each.touches for each in kept] == [("S1",)] * 3


def test_a_cage_touches_both_neighbours_and_a_rod_those_of_its_screws() -> None:
    cage = bar((130, 229), (180, 229), 16)
    screws = [bar((60, y), (170, y)) for y in (110, 270)]
    rod, far = bar((62, 100), (62, 300), 8), bar((20, 100), (20, 300), 8)
    implants = [one(CAGE, cage), *(one(SCREW, m) for m in screws), one(ROD, rod), one(ROD, far)]
    assert touched_levels(implants, COLUMN) == [("L4", "L5"), ("L3",), ("L5",), ("L3", "L5"), ()]


def test_a_plate_on_the_bodies_touches_them() -> None:
    plate = bar((206, 130), (206, 190), 6)
    assert touched_levels([one(ROD, plate)], COLUMN) == [("L3", "L4")]


def test_touches_come_from_the_named_column_alone() -> None:
    answers = {name: [one(SCREW, bar((60, 190), (170, 190)))] for name in "ab"}
    said = {name: implants_of(segments, *SHAPE) for name, segments in answers.items()}
    implants = fuse_implants(said)
    named = NamedVertebra(body("L4", 160), 0.9, None)
    unnamed = NamedVertebra(body(None, 160), 0.2, UnnamedReason.NO_SACRUM)
    assert placed_in_column(implants, Labelling((named,), True))[0].touches == ("L4",)
    assert placed_in_column(implants, Labelling((unnamed,), False))[0].touches == ()
    assert placed_in_column(implants, None) == implants


def test_a_window_of_a_mask_is_the_same_as_of_its_pixels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((40, 30)) > 0.5
        mask[:, int(rng.integers(30))] = True  # runs that touch at the ends of columns
        segment = one(CAGE, mask)
        (borders,) = borders_of([segment.mask], 40 * 30)
        window = (3, 5, 21, 33)
        assert (crop(borders, window, 40) == mask[5:33, 3:21]).all()
    assert window_of([one(CAGE, BOX)], 500, *SHAPE) == (0, 0, 300, 400)


@pytest.mark.parametrize("seed", range(6))
def test_the_walk_along_runs_votes_as_pixels_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    moved = [shifted(POLE, *rng.integers(-3, 4, 2).tolist()) for _ in range(4)]
    head = shifted(bar((40, 200), (90, 200), 14), *rng.integers(-9, 10, 2).tolist())
    answers = {
        "a": [one(ROD, moved[0])],
        "b": [one(ROD, moved[1])],
        "c": regions((ROD, moved[2]), (SCREW, head)),
        "d": regions((ROD, moved[3])),
    }
    members = {name: implants_of(said, *SHAPE) for name, said in answers.items()}
    outlines = {
        name: decode_mask(next(o for o in said.outlines if o.structure is ROD).mask)
        for name, said in members.items()
    }
    union = np.any(list(outlines.values()), axis=0)
    cast = 2 * outlines["a"].astype(int) + 2 * outlines["b"]
    cast += outlines["c"] | (moved[2] | head) & union
    cast += outlines["d"] | moved[3] & union
    (found,) = (each for each in fuse_implants(members) if each.segment.structure is ROD)
    assert np.array_equal(decode_mask(found.segment.mask), union & (cast >= 4))


@pytest.mark.parametrize("seed", range(12))
def test_near_is_what_a_mask_grown_by_a_disc_meets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reach = int(rng.integers(3, 20))
    other = shifted(BOX, *rng.integers(-60, 20, 2).tolist())
    first, second = one(ROD, POLE), one(CAGE, other)
    window = window_of([first], reach, *SHAPE)
    borders = borders_of([first.mask, second.mask], SHAPE[0] * SHAPE[1])
    near = _Near(crop(borders[0], window, SHAPE[0]), window, reach, SHAPE[0])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    grown = cv2.dilate(POLE.astype(np.uint8), disc) > 0
    left, top, right, bottom = window
    seen = np.zeros(SHAPE, bool)
    seen[top:bottom, left:right] = True
    assert near.meets(second, borders[1]) == bool((grown & other & seen).any())


def test_near_is_exact_at_the_rim_of_a_wide_reach() -> None:
    """Distances by steps are off by more than a pixel there: every pixel of the rim is in doubt."""
    reach, (row, column) = 100, (200, 150)
    spot = np.zeros(SHAPE, bool)
    spot[row, column] = True
    window = window_of([one(ROD, spot)], reach, *SHAPE)
    near = _Near(
        crop(borders_of([encode_mask(spot)], spot.size)[0], window, SHAPE[0]),
        window,
        reach,
        SHAPE[0],
    )
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    for down in range(-reach, reach + 1, 5):
        right = int(np.flatnonzero(disc[reach + down])[-1]) - reach
        for beyond in (0, 1):
            pixel = shifted(spot, right + beyond, down)
            borders = borders_of([encode_mask(pixel)], pixel.size)[0]
            assert near.meets(one(CAGE, pixel), borders) is (beyond == 0), (down, beyond)
