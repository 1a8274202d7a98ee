"""From soft masks to instances at the film's size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from spinezoo_contract.masks import decode_mask, encode_mask, mask_box
from spinezoo_contract.types import SegmentKind, Structure
from spinezoo_spine.inference.postprocess import instances_from_masks
from spinezoo_spine.inference.preprocess import Letterbox
from spinezoo_spine.inference.soft_masks import SoftMasks, Window


def soft_mask(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A blurred blob anywhere on the grid, often cut by its border."""
    grid = np.zeros((height, width), dtype=np.float32)
    centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
    axes = (float(rng.uniform(1, width / 3)), float(rng.uniform(1, height / 3)))
    cv2.ellipse(grid, (centre, axes, float(rng.uniform(0, 180))), 1.0, -1)
    return cv2.GaussianBlur(grid, (0, 0), 1.5)


def dense(grid: np.ndarray, fit: Letterbox) -> np.ndarray:
    """The plain way: resize everything, then compare."""
    canvas = cv2.resize(grid, (fit.canvas_width, fit.canvas_height))
    part = canvas[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
    return cv2.resize(part, (fit.film_width, fit.film_height)) > 0.5


@pytest.mark.parametrize(
    ("film", "grid"),
    [
        ((1024, 768), (160, 128)),
        ((701, 333), (320, 256)),
        ((90, 300), (160, 128)),
        ((320, 256), (320, 256)),
        ((17, 16), (80, 64)),
    ],
)
def test_is_what_resizing_the_whole_film_gives(
    film: tuple[int, int], grid: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    fit = Letterbox.fit(*film, 320, 256)
    seen = 0
    for _ in range(12):
        soft = soft_mask(rng, *grid)
        expected = dense(soft, fit)
        found = instances_from_masks(SoftMasks.of(soft[None]), np.ones(1), [Structure.CAGE], fit)
        pixels = decode_mask(found[0].mask) if found else np.zeros(film, bool)
        # Values at one half to the last bit may fall on either side.
        assert np.count_nonzero(pixels != expected) <= 1e-4 * expected.size
        if found:
            seen += 1
            assert found[0].mask == encode_mask(pixels)
            assert found[0].box == mask_box(found[0].mask)
    assert seen >= 4


def test_an_object_that_fills_the_film() -> None:
    fit = Letterbox.fit(200, 100, 320, 256)
    (found,) = instances_from_masks(
        SoftMasks.of(np.ones((1, 80, 64), np.float32)), np.ones(1), [Structure.ROD], fit
    )
    assert decode_mask(found.mask).all()
    assert found.mask == encode_mask(np.ones((200, 100), bool))


def test_best_first_and_at_most_as_many_as_asked_for() -> None:
    fit = Letterbox.fit(320, 256, 320, 256)
    masks = np.zeros((4, 80, 64), np.float32)
    masks[:3, 10:20, 10:20] = 1.0  # the last is empty, so it is no segment
    scores = np.array([0.2, 0.9, 0.5, 0.99], np.float32)
    structures = [Structure.ROD, Structure.CAGE, Structure.SCREW, Structure.ROD]
    found = instances_from_masks(SoftMasks.of(masks), scores, structures, fit)
    assert [segment.structure for segment in found] == [
        Structure.CAGE,
        Structure.SCREW,
        Structure.ROD,
    ]
    assert {segment.kind for segment in found} == {SegmentKind.INSTANCE}
    two = instances_from_masks(SoftMasks.of(masks), scores, structures, fit, max_segments=2)
    assert two == found[:2]


def test_what_lies_on_the_bars_beside_the_film_is_left_out() -> None:
    fit = Letterbox.fit(320, 100, 320, 256)
    masks = np.zeros((1, 320, 256), np.float32)
    masks[0, :, : fit.left - 2] = 1.0
    assert instances_from_masks(SoftMasks.of(masks), np.ones(1), [Structure.ROD], fit) == ()


@pytest.mark.parametrize("film", [(1024, 768), (300, 90), (1, 90), (320, 256)])
@pytest.mark.parametrize("grid", [(320, 256), (160, 128), (100, 70)])
def test_a_window_is_as_good_as_the_whole_grid(
    film: tuple[int, int], grid: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    fit = Letterbox.fit(*film, 320, 256)
    sizes = [grid, (5, 7), (1, 1), (grid[0], 1), (1, grid[1])]
    windows = []
    for height, width in sizes * 4:
        top = int(rng.integers(0, grid[0] - height + 1))
        left = int(rng.integers(0, grid[1] - width + 1))
        values = rng.uniform(0.3, 1.0, (height, width)).astype(np.float32)
        windows.append(Window(top, left, values))
    masks = SoftMasks(grid, tuple(windows))
    whole = SoftMasks(grid, tuple(Window(0, 0, plane) for plane in masks.planes()))
    scores, structures = np.linspace(1.0, 0.5, len(masks)), [Structure.CAGE] * len(masks)
    found = instances_from_masks(masks, scores, structures, fit)
    assert found == instances_from_masks(whole, scores, structures, fit)
    assert found == instances_from_masks(SoftMasks.of(masks.planes()), scores, structures, fit)
    assert len(found) >= 4


def test_windows_are_cut_and_bordered() -> None:
    window = Window(2, 3, np.ones((4, 5), np.float32))
    inner = window.within(0, 0, 20, 20)
    assert inner is not None
    assert inner[:2] == (1, 2)
    assert inner.values.shape == (6, 7)
    assert float(inner.values.sum()) == 20.0
    cut = window.within(3, 4, 2, 20)
    assert cut is not None
    assert cut[:2] == (0, 0)
    assert cut.values.tolist() == [[1.0] * 4 + [0.0]] * 2
    assert window.within(6, 0, 5, 5) is None
    assert len(SoftMasks.of(np.zeros((2, 3, 4), np.float32))) == 2
