"""Implants of regions as objects, on named geometry."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from spinezoo_contract.masks import decode_mask, encode_mask
from spinezoo_contract.types import Segment, SegmentKind, Structure
from spinezoo_spine.implant_parts import _components, _depth, _hull, implants_apart
from spinezoo_spine.instances import to_instances

SHAPE = (400, 300)
ROD, SCREW, CAGE = Structure.ROD, Structure.SCREW, Structure.CAGE


def bar(start: tuple[float, float], end: tuple[float, float], width: int = 8) -> np.ndarray:
    """A straight bar between two places (x, y)."""
    drawn = np.zeros(SHAPE, np.uint8)
    ends = [tuple(round(value) for value in place) for place in (start, end)]
    cv2.line(drawn, ends[0], ends[1], 1, width)
    return drawn > 0


def disc(x: int, y: int, radius: int) -> np.ndarray:
    drawn = np.zeros(SHAPE, np.uint8)
    cv2.circle(drawn, (x, y), radius, 1, -1)
    return drawn > 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def rods(region: np.ndarray, screws: np.ndarray | None = None) -> list[np.ndarray]:
    other = np.zeros(SHAPE, bool) if screws is None else screws
    return implants_apart({ROD: region & ~other, SCREW: other}, 30)[ROD]


@pytest.mark.parametrize("structure", [ROD, SCREW, CAGE])
def test_noise_is_not_compared_piece_by_piece(structure: Structure) -> None:
    """Of thousands of specks the largest are looked at; all of them would take minutes."""
    noise = np.random.default_rng(1).random(SHAPE) < 0.1
    block = np.zeros(SHAPE, bool)
    block[40:80, 40:90] = True
    assert len(_components(noise | block, 3)) == 64
    found = implants_apart({structure: noise | block}, 8)[structure]
    assert max(mask[block].mean() for mask in found) > 0.9


def test_a_rod_under_the_heads_of_its_screws_is_one_and_whole() -> None:
    rod = bar((100, 40), (120, 340))
    heads = disc(105, 110, 9) | disc(113, 240, 9)
    (found,) = rods(rod, heads)
    assert iou(found, rod) > 0.95


def test_a_bent_rod_is_followed() -> None:
    course = [(100, 40), (104, 120), (118, 200), (140, 270), (170, 330)]
    rod = np.any([bar(a, b) for a, b in itertools.pairwise(course)], axis=0)
    heads = np.any([disc(*place, 10) for place in course[1:-1]], axis=0)
    (found,) = rods(rod, heads)
    assert iou(found, rod) > 0.85


def test_two_rods_side_by_side_stay_two() -> None:
    left, right = bar((100, 40), (100, 340)), bar((125, 40), (130, 340))
    heads = disc(102, 110, 10) | disc(126, 115, 10) | disc(102, 240, 10) | disc(129, 246, 10)
    found = rods(left | right, heads)
    assert len(found) == 2
    assert iou(found[0], left) > 0.9
    assert iou(found[1], right) > 0.9


@pytest.mark.parametrize(
    ("end", "between"),
    [
        (((100, 230), (100, 340)), None),  # nothing between
        (((160, 215), (260, 215)), disc(130, 205, 32)),  # around a corner
        (((100, 300), (100, 380)), bar((100, 150), (100, 300), 12)),  # too far
    ],
    ids=["a broken rod", "another direction", "far away"],
)
def test_pieces_that_do_not_go_on_stay_apart(end: tuple, between: np.ndarray | None) -> None:
    one, two = bar((100, 60), (100, 180)), bar(*end)
    assert len(rods(one | two, between)) == 2


def test_a_screw_below_another_gets_back_what_the_line_took() -> None:
    lower, upper = bar((60, 200), (200, 190), 12), bar((60, 170), (200, 205), 12)
    line = cv2.dilate(lower.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    region = lower | (upper & ~line)
    parts = implants_apart({SCREW: region}, 30)[SCREW]
    assert max(iou(part, lower) for part in parts) > 0.9
    assert max(iou(part, upper) for part in parts) > 0.9
    assert len(parts) == 2


def test_specks_and_empty_regions_give_nothing() -> None:
    assert implants_apart({ROD: np.zeros(SHAPE, bool)}, 30) == {ROD: []}
    parts = implants_apart({SCREW: disc(50, 50, 2), CAGE: disc(90, 90, 9)}, 30)
    assert parts[SCREW] == []
    assert len(parts[CAGE]) == 1


def region(structure: Structure, mask: np.ndarray, score: float = 0.8) -> Segment:
    encoded = encode_mask(mask)
    return Segment(structure, SegmentKind.REGION, encoded, score, encoded.box)


@pytest.mark.parametrize("scale", [1, 6])
def test_the_implants_of_an_answer_are_objects_on_films_of_any_size(scale: int) -> None:
    rod, head = bar((100, 40), (110, 340)), disc(105, 180, 10)
    screw = head | bar((105, 180), (190, 175))
    bodies = bar((230, 60), (230, 340), 60)

    def drawn(mask: np.ndarray) -> np.ndarray:
        return np.kron(mask, np.ones((scale, scale), bool))

    answer = [
        region(Structure.LUMBAR_VERTEBRA, drawn(bodies)),
        region(ROD, drawn(rod & ~screw), 0.7),
        region(SCREW, drawn(screw)),
    ]
    found = to_instances(answer)
    assert [each.structure for each in found] == [Structure.LUMBAR_VERTEBRA, ROD, SCREW]
    assert all(each.kind is SegmentKind.INSTANCE for each in found)
    assert [each.score for each in found] == [0.8, 0.7, 0.8]
    for each, truth in zip(found[1:], (rod, screw), strict=True):
        assert iou(decode_mask(each.mask), drawn(truth)) > 0.9
        assert each.box == each.mask.box


def test_instances_are_left_as_they_are() -> None:
    mask = encode_mask(bar((100, 40), (100, 120)) | bar((100, 200), (100, 300)))
    one = Segment(ROD, SegmentKind.INSTANCE, mask, 0.5, mask.box)
    assert to_instances([one]) == (one,)


@pytest.mark.parametrize("seed", range(8))
def test_depth_and_hull_are_those_of_the_whole_region(seed: int) -> None:
    rng = np.random.default_rng(seed)
    region = cv2.GaussianBlur(rng.random((90, 70)), (0, 0), 3.0) > 0.5
    away = cv2.distanceTransform(
        np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )[1:-1, 1:-1]
    for component in _components(region, 5):
        points = component.points
        wanted = float(away[points[:, 1], points[:, 0]].max())
        assert _depth(component.pixels) == pytest.approx(wanted, abs=1e-5)
        mask, drawn = np.zeros_like(region), np.zeros(region.shape, np.uint8)
        mask[points[:, 1], points[:, 0]] = True
        assert np.array_equal(component.painted(region.shape), mask)
        cv2.fillConvexPoly(drawn, cv2.convexHull(points.astype(np.int32)), 1)
        assert np.array_equal(_hull(mask), drawn > 0)
