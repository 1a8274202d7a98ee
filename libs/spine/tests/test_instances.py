from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spinezoo_contract.errors import AnnotationError, MaskError
from spinezoo_contract.masks import decode_mask, encode_mask, mask_area, mask_box
from spinezoo_contract.types import RunLengthMask, Segment, SegmentKind, Structure
from spinezoo_spine.instances import (
    _resized,
    mask_from_crop,
    min_component_pixels,
    overlaps,
    overlaps_both_ways,
    regions_from_label_map,
    split_region,
    to_instances,
    unite,
)


def region(pixels, kind=SegmentKind.REGION, score=0.75):
    mask = encode_mask(np.asarray(pixels).astype(bool))
    return Segment(Structure.LUMBAR_VERTEBRA, kind, mask, score, mask_box(mask), "L4")


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 2**32),
    st.sampled_from([0.2, 0.5, 0.9, 1.0]),
)
def test_components_equal_those_of_the_pixels(height, width, seed, share):
    pixels = np.random.default_rng(seed).random((height, width)) < share
    if not pixels.any():
        pixels[0, 0] = True
    count, labels = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    expected = {encode_mask(labels == label) for label in range(1, count)}
    parts = split_region(region(pixels), min_pixels=1)
    assert {part.mask for part in parts} == expected
    assert len(parts) == len(expected)
    for part in parts:
        assert part.box == mask_box(part.mask)
        assert (part.kind, part.score, part.level) == (SegmentKind.INSTANCE, 0.75, None)
    lefts = [part.box.x for part in parts]
    assert lefts == sorted(lefts)


def test_a_component_over_the_film_s_full_height_keeps_its_run_lengths_short():
    pixels = np.zeros((5, 6), dtype=bool)
    pixels[:, 2:5] = True
    (part,) = split_region(region(pixels))
    assert part.mask == encode_mask(pixels)


def test_specks_are_left_out_and_the_rule_is_one_in_ten_thousand():
    assert min_component_pixels(2048, 1024) == 210
    assert min_component_pixels(16, 16) == 1
    pixels = np.zeros((400, 300), dtype=bool)
    pixels[10:60, 10:60] = True
    pixels[200:203, 100:104] = True  # 12 pixels: exactly the least
    pixels[300:302, 200:205] = True  # 10 pixels
    assert [mask_area(part.mask) for part in split_region(region(pixels))] == [2500, 12]


def test_an_instance_is_kept_whole_whatever_its_size_and_parts():
    pixels = np.zeros((400, 300), dtype=bool)
    pixels[0, 0] = pixels[50, 50] = True
    instance = region(pixels, SegmentKind.INSTANCE)
    assert to_instances([instance]) == (instance,)
    assert to_instances([region(pixels)]) == ()


def test_touching_at_a_corner_is_touching():
    assert len(split_region(region(np.eye(4)))) == 1


def test_label_map_becomes_regions():
    label_map = np.zeros((20, 20), dtype=np.uint8)
    label_map[2:5, 3:6] = 1
    label_map[10:12] = 4
    regions = regions_from_label_map(label_map)
    assert [r.structure for r in regions] == [Structure.LUMBAR_VERTEBRA, Structure.SCREW]
    np.testing.assert_array_equal(decode_mask(regions[1].mask), label_map == 4)
    assert regions_from_label_map(np.zeros((3, 3), dtype=np.uint8)) == ()


def test_a_label_map_of_0_and_255_is_refused():
    with pytest.raises(MaskError, match="0/255"):
        regions_from_label_map(np.array([[0, 255], [255, 0]], dtype=np.uint8))


@pytest.mark.parametrize("value", [6, 254])
def test_a_label_that_is_no_structure_is_refused(value):
    with pytest.raises(AnnotationError, match=f"holds {value}"):
        regions_from_label_map(np.array([[0, 1], [2, value]], dtype=np.uint8))


@pytest.mark.parametrize(
    "label_map",
    [np.zeros((0, 4), np.uint8), np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2)), np.eye(2) > 0],
)
def test_what_is_no_label_map_is_refused(label_map):
    with pytest.raises(MaskError):
        regions_from_label_map(label_map)


def test_union_of_no_masks_is_empty():
    assert unite([], 3, 4) == encode_mask(np.zeros((3, 4), dtype=bool))
    assert isinstance(unite([], 3, 4), RunLengthMask)


@pytest.mark.parametrize("seed", range(30))
def test_run_lengths_of_a_crop_are_those_of_the_film(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
    film = np.zeros((height, width), bool)
    crop = rng.random((height - top, width - left)) < 0.6
    film[top:, left:] = crop
    assert mask_from_crop(crop, top, left, height, width) == encode_mask(film)


@pytest.mark.parametrize("size", [(97, 131), (61, 83), (30, 40)])
def test_masks_that_are_resized_together_are_those_resized_alone(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    parts = []
    for _ in range(12):
        part = np.zeros((83, 61), np.uint8)
        centre = (int(rng.integers(0, 61)), int(rng.integers(0, 83)))
        cv2.ellipse(part, centre, (9, 4), float(rng.integers(0, 180)), 0, 360, 1, -1)
        parts.append(part > 0)
    for part, (pixels, left, top) in zip(parts, _resized(parts, *size), strict=True):
        alone = cv2.resize(part * np.uint8(255), size, interpolation=cv2.INTER_LINEAR) > 127
        together = np.zeros_like(alone)
        together[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        assert np.array_equal(together, alone)


def test_shares_of_both_sides_are_those_of_each_side_alone() -> None:
    rng = np.random.default_rng(2)
    masks = [encode_mask(rng.random((30, 20)) > level) for level in (0.2, 0.5, 0.8, 0.9, 0.95)]
    segments = [
        Segment(Structure.SCREW, SegmentKind.INSTANCE, mask, 1.0, mask_box(mask)) for mask in masks
    ]
    first, second = segments[:2], segments[2:]
    iou, of_first, of_second = overlaps_both_ways(first, second)
    there, back = overlaps(first, second), overlaps(second, first)
    assert np.array_equal(iou, there[0])
    assert np.array_equal(of_first, there[1])
    assert np.array_equal(of_second, back[1].T)
    assert [each.shape for each in overlaps_both_ways([], second)] == [(0, 3)] * 3
