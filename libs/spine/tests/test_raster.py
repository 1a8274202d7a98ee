from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from spinezoo_contract.masks import decode_mask, encode_mask
from spinezoo_contract.types import SegmentKind, Structure
from spinezoo_spine.annotations.raster import label_map, patches, rasterise, segments_from_regions
from spinezoo_spine.annotations.regions import Region


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def by_definition(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """The stated rule, pixel by pixel: even-odd count of edges left of or through the centre."""
    mask = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            inside = False
            for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                (ux, uy), (lx, ly) = (a, b) if a[1] <= b[1] else (b, a)
                if uy <= y < ly and ux + (y - uy) * ((lx - ux) / (ly - uy)) <= x:
                    inside = not inside
            mask[row, column] = inside
    return mask


@dataclass
class SquareCase:
    name: str
    polygon: np.ndarray
    rows: tuple[int, int]
    columns: tuple[int, int]


@pytest.mark.parametrize(
    "case",
    [
        SquareCase("whole pixels", box(2, 3, 6, 5), (3, 5), (2, 6)),
        SquareCase(
            "ends on centres: left and top in, right and bottom out",
            box(2.5, 3.5, 6.5, 5.5),
            (3, 5),
            (2, 6),
        ),
        SquareCase("just short of the centre", box(2.51, 3.51, 6.49, 5.49), (4, 5), (3, 6)),
        SquareCase("just beyond the centre", box(2.49, 3.49, 6.51, 5.51), (3, 6), (2, 7)),
        SquareCase("over every border", box(-5, -5, 50, 50), (0, 8), (0, 10)),
        SquareCase("over the left and top border", box(-3, -2, 2, 1), (0, 1), (0, 2)),
        SquareCase("beside the film", box(20, 1, 30, 5), (0, 0), (0, 0)),
        SquareCase("between two centres", box(2.6, 2.6, 3.4, 3.4), (0, 0), (0, 0)),
    ],
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("backwards", [False, True])
def test_squares_give_exactly_the_pixels_of_the_rule(case: SquareCase, backwards: bool) -> None:
    expected = np.zeros((8, 10), dtype=bool)
    expected[slice(*case.rows), slice(*case.columns)] = True
    polygon = case.polygon[::-1] if backwards else case.polygon
    assert (rasterise(polygon, 8, 10) == expected).all()


def test_a_star_is_hollow_where_its_outline_winds_twice() -> None:
    angles = np.pi / 2 + np.arange(5) * 4 * np.pi / 5
    star = np.stack([32 + 30 * np.cos(angles), 32 - 30 * np.sin(angles)], axis=1)
    mask = rasterise(star, 64, 64)
    assert not mask[32, 32]
    assert mask[10, 32]


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(3, 9), st.just(2)),
        # Quarter pixels bring many exact ties with centres.
        elements=st.integers(-12, 60).map(lambda value: value / 4),
    )
)
def test_any_polygon_equals_the_definition(polygon: np.ndarray) -> None:
    assert (rasterise(polygon, 9, 11) == by_definition(polygon, 9, 11)).all()


def test_polygons_that_share_an_edge_share_no_pixel_and_leave_no_gap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        middle = rng.uniform(10, 50, 2)
        corners = box(0, 0, 64, 64)
        fan = [np.array([middle, corners[i], corners[(i + 1) % 4]]) for i in range(4)]
        drawn = [rasterise(triangle, 64, 64).astype(int) for triangle in fan]
        assert (sum(drawn) == 1).all()


def test_many_polygons_at_once_equal_one_by_one() -> None:
    rng = np.random.default_rng(1)
    polygons = [rng.uniform(-10, 60, (int(rng.integers(3, 12)), 2)) for _ in range(40)]
    for polygon, patch in zip(polygons, patches(polygons, 48, 40), strict=True):
        whole = np.zeros((48, 40), dtype=bool)
        whole[patch.rows, patch.columns] = patch.pixels
        assert (whole == rasterise(polygon, 48, 40)).all()


def test_area_of_a_large_circle() -> None:
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    circle = 100.3 + 80 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert rasterise(circle, 200, 200).sum() == pytest.approx(np.pi * 80**2, rel=1e-3)


def test_label_map_paints_hardware_on_top_whatever_the_order() -> None:
    layers = [
        Structure.SACRAL_VERTEBRA,
        Structure.LUMBAR_VERTEBRA,
        Structure.ROD,
        Structure.SCREW,
        Structure.CAGE,
    ]
    regions = [
        Region(structure, box(index, index, 10, 10)) for index, structure in enumerate(layers)
    ]
    for order in (regions, regions[::-1]):
        labels = label_map(order, 10, 10)
        assert labels.dtype == np.uint8
        assert [labels[i, i] for i in range(5)] == [int(structure) for structure in layers]
        assert labels[9, 9] == int(Structure.CAGE)
    assert (label_map([], 4, 4) == 0).all()


def test_segments_keep_overlaps_levels_and_leave_out_what_is_off_the_film() -> None:
    regions = [
        Region(Structure.LUMBAR_VERTEBRA, box(2, 2, 8, 8), "L4"),
        Region(Structure.SCREW, box(4, 4, 12, 6)),
        Region(Structure.ROD, box(40, 40, 50, 50)),
    ]
    segments = segments_from_regions(regions, 10, 20)
    assert [segment.structure for segment in segments] == [
        Structure.LUMBAR_VERTEBRA,
        Structure.SCREW,
    ]
    body, screw = segments
    assert body.level == "L4"
    assert screw.level is None
    assert {body.kind, screw.kind} == {SegmentKind.INSTANCE}
    assert body.score == 1.0
    assert decode_mask(body.mask).sum() == 36
    assert (decode_mask(body.mask) & decode_mask(screw.mask)).sum() == 8
    assert (screw.box.x, screw.box.y, screw.box.width, screw.box.height) == (4, 4, 8, 2)


@pytest.mark.parametrize("seed", range(30))
def test_truth_is_encoded_from_its_own_pixels(seed: int) -> None:
    """The same bytes as from a mask of the film's size, without one."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(3, 40, 2))
    points = rng.uniform(-10, 50, (int(rng.integers(3, 9)), 2)).round(int(rng.integers(0, 2)))
    found = segments_from_regions([Region(Structure.ROD, points)], height, width)
    mask = rasterise(points, height, width)
    assert len(found) == mask.any()
    for segment in found:
        encoded = encode_mask(mask)
        assert segment.mask.counts == encoded.counts
        assert segment.box == encoded.box


def test_truth_on_a_large_film_needs_no_film_sized_memory() -> None:
    body = Region(Structure.ROD, [[100, 100], [400, 110], [390, 300], [90, 280]])
    tracemalloc.start()
    try:
        assert len(segments_from_regions([body] * 5, 8000, 8000)) == 5
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32_000_000
