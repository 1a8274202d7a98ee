"""Masks: equal to pycocotools on everything valid, a named error on everything else."""

from __future__ import annotations

import contextlib
import copy
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from spinezoo_contract.errors import MaskError
from spinezoo_contract.masks import (
    decode_mask,
    encode_mask,
    mask_area,
    mask_box,
    mask_from_runs,
)
from spinezoo_contract.types import (
    Box,
    RunLengthMask,
    check_mask_size,
    decode_together,
    find_boxes_together,
)

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
MASKS = SIZES.flatmap(lambda size: hnp.arrays(np.bool_, size))


def coco(mask: RunLengthMask) -> dict:
    return {"size": [mask.height, mask.width], "counts": mask.counts}


def fresh(mask: RunLengthMask) -> RunLengthMask:
    """The same mask, not decoded yet."""
    return RunLengthMask(mask.height, mask.width, mask.counts)


@given(st.lists(MASKS, min_size=1, max_size=8))
def test_masks_decoded_together_are_those_decoded_alone(films: list[np.ndarray]) -> None:
    masks = [fresh(encode_mask(pixels)) for pixels in films]
    decode_together(masks)
    for mask in masks:
        assert np.array_equal(mask.runs, fresh(mask).runs)
        assert mask.box == fresh(mask).box
        assert not mask.runs.flags.writeable


@given(st.lists(MASKS, max_size=8))
def test_boxes_found_together_are_those_found_alone(films: list[np.ndarray]) -> None:
    masks = [encode_mask(pixels) for pixels in films]
    find_boxes_together(masks)
    for mask in masks:
        assert mask._box == fresh(mask).box


@given(MASKS)
def test_what_a_mask_keeps_is_no_part_of_it(pixels: np.ndarray) -> None:
    kept = encode_mask(pixels)
    assert kept.area == np.count_nonzero(pixels)
    assert kept.runs is kept.runs
    assert kept.box is kept.box
    back = pickle.loads(pickle.dumps(kept))
    for other in (fresh(kept), back, copy.copy(kept)):
        assert other == kept
        assert hash(other) == hash(kept)
        assert repr(other) == repr(kept)
    assert len(pickle.dumps(kept)) == len(pickle.dumps(fresh(kept)))


@given(MASKS)
def test_agrees_with_pycocotools(pixels: np.ndarray) -> None:
    mask = encode_mask(pixels)
    assert coco_mask.encode(np.asfortranarray(pixels, np.uint8))["counts"] == mask.counts
    assert encode_mask(pixels.astype(np.int16)) == mask
    assert np.array_equal(decode_mask(mask), pixels)
    assert mask_area(mask) == pixels.sum() == coco_mask.area(coco(mask))
    box = mask_box(mask)
    assert [box.x, box.y, box.width, box.height] == list(coco_mask.toBbox(coco(mask)))
    runs = mask.runs
    assert runs.sum() == pixels.size
    assert mask_from_runs(runs, *pixels.shape) == mask


@given(SIZES, st.data())
def test_any_runs_become_the_shortest_form(size: tuple[int, int], data: st.DataObject) -> None:
    height, width = size
    area = height * width
    cuts = sorted(data.draw(st.lists(st.integers(0, area), max_size=30)))
    runs = np.diff(np.array([0, *cuts, area]))
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    mask = mask_from_runs(runs, height, width)
    assert mask == encode_mask(pixels)


@settings(max_examples=300)
@given(SIZES, st.binary(max_size=60))
def test_hostile_bytes_are_refused_or_read_as_pycocotools_reads_them(
    size: tuple[int, int], counts: bytes
) -> None:
    mask = RunLengthMask(*size, counts)
    try:
        runs = mask.runs
    except MaskError:
        return
    assert runs.min() >= 0
    assert runs.sum() == size[0] * size[1]
    # What passes is safe in pycocotools and means the same there.
    assert np.array_equal(coco_mask.decode(coco(mask)).astype(bool), decode_mask(mask))


@settings(max_examples=300)
@given(MASKS, st.data())
def test_one_changed_byte_never_crashes(pixels: np.ndarray, data: st.DataObject) -> None:
    mask = encode_mask(pixels)
    counts = bytearray(mask.counts)
    counts[data.draw(st.integers(0, len(counts) - 1))] = data.draw(st.integers(0, 255))
    changed = RunLengthMask(mask.height, mask.width, bytes(counts))
    with contextlib.suppress(MaskError):
        assert decode_mask(changed).shape == pixels.shape


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (b"", "empty"),
        (b"0\xff0", "outside"),
        (b"PP", "cut off"),
        (b"PPPPPPPPPP0", "too long"),
        (b"O", "outside 0 to"),  # -1
        (b"5", "add up to 5"),
        (b"0" * 200, "200 runs"),
        (b"\x00" * 8, "outside"),
    ],
)
def test_each_fault_has_its_own_message(counts: bytes, says: str) -> None:
    with pytest.raises(MaskError, match=says):
        _ = RunLengthMask(10, 10, counts).runs
    good = encode_mask(np.eye(10, dtype=bool))
    with pytest.raises(MaskError, match=says):
        decode_together([fresh(good), RunLengthMask(10, 10, counts), fresh(good)])


def test_runs_that_add_up_to_the_film_beyond_64_bits_are_refused() -> None:
    """Wrapped around, their sum is right: pycocotools would write far beyond the film."""
    side, steps = 400, 50_000
    # Runs of background are 0; those of foreground grow, and add up to 2 ** 64 and the film.
    wanted = 2**64 + side * side
    growth = np.full(steps, wanted // (steps * (steps + 1) // 2))
    rest = wanted - int(growth[0]) * (steps * (steps + 1) // 2)
    growth[0] += rest // steps
    growth[-(rest % steps)] += rest % steps > 0
    assert sum(np.cumsum(growth).tolist()) == wanted
    differences = np.zeros(2 * steps, np.int64)
    differences[1::2] = growth
    groups = (differences[:, None] >> 5 * np.arange(7)) & 31
    characters = 48 + groups + 32 * (np.arange(7) < 6)
    mask = RunLengthMask(side, side, bytes(characters.astype(np.uint8)))
    with pytest.raises(MaskError, match="outside 0 to 160000"):
        _ = mask.runs


def test_sizes_must_agree() -> None:
    mask = encode_mask(np.ones((4, 5), bool))
    with pytest.raises(MaskError, match=r"4 x 5, the film 5 x 4"):
        check_mask_size(mask, 5, 4)
    with pytest.raises(MaskError, match="not positive"):
        _ = RunLengthMask(0, 5, b"0").runs
    with pytest.raises(MaskError, match="add up to 0"):
        _ = RunLengthMask(2**32 - 1, 2**32 - 1, b"0").runs


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.array([[0, 255]], np.uint8), "divide by 255 or compare > 0"),
        (np.array([[0, -1]], np.int8), "0 and 1"),
        (np.array([[0.0, 1.0]]), "threshold"),
        (np.zeros((2, 2, 1), bool), r"\(height, width\)"),
        (np.zeros((0, 4), bool), "at least one pixel"),
    ],
)
def test_encode_refuses_what_is_not_a_mask(pixels: np.ndarray, says: str) -> None:
    with pytest.raises(MaskError, match=says):
        encode_mask(pixels)


@pytest.mark.parametrize("runs", [[-1, 5], [3], [], [[4]]])
def test_from_runs_refuses_what_is_no_mask(runs: list) -> None:
    with pytest.raises(MaskError, match="adding up"):
        mask_from_runs(np.array(runs, np.int64), 2, 2)


def test_empty_and_full() -> None:
    assert mask_box(encode_mask(np.zeros((3, 4), bool))) == Box(0, 0, 0, 0)
    assert mask_box(encode_mask(np.ones((3, 4), bool))) == Box(0, 0, 4, 3)
    assert mask_area(encode_mask(np.zeros((3, 4), bool))) == 0


def test_a_noisy_mask_takes_the_other_decoder() -> None:
    pixels = np.random.default_rng(0).random((200, 200)) < 0.5
    mask = encode_mask(pixels)
    assert mask.runs.size > 4000
    assert np.array_equal(decode_mask(mask), pixels)


def test_fifty_masks_of_a_large_film_are_checked_in_a_moment() -> None:
    y, x = np.mgrid[0:2048, 0:1024]
    masks = [
        encode_mask(((y - 200 - 30 * k) / 150) ** 2 + ((x - 500) / 130) ** 2 < 1) for k in range(5)
    ]
    best = min(_milliseconds(masks * 10) for _ in range(5))
    assert best < 40, best  # about 5 ms on an idle core; the gateway has 10 ms in all


def _milliseconds(masks: list[RunLengthMask]) -> float:
    """Of the processor, whatever else runs on it."""
    started = time.process_time()
    for mask in masks:
        _ = fresh(mask).runs
    return (time.process_time() - started) * 1000
