"""Parts of masks: windows of several masks, and the runs that lie in one."""

from __future__ import annotations

import numpy as np
import pytest
from spinezoo_contract.masks import decode_mask, encode_mask, mask_from_runs
from spinezoo_contract.types import Box
from spinezoo_spine.fusion.votes import Ballot, Rows, borders_of, marked, sweep
from spinezoo_spine.windows import counted, crop

HEIGHT, WIDTH = 40, 30


def random_masks(seed: int, count: int) -> list[np.ndarray]:
    """(count, 40, 30) blobs; some with runs that go on into the next column, one empty."""
    rng = np.random.default_rng(seed)
    masks = [rng.random((HEIGHT, WIDTH)) > rng.random() for _ in range(count)]
    masks[0][:, 7:9] = True
    masks[-1][:] = False
    return masks


def borders(masks: list[np.ndarray]) -> list[np.ndarray]:
    return borders_of([encode_mask(mask) for mask in masks], HEIGHT * WIDTH)


@pytest.mark.parametrize("count", [1, 5, 8, 9, 17])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_weights_of_the_masks_at_each_pixel_are_added(count: int, step: int) -> None:
    masks = random_masks(count, count)
    weights = np.random.default_rng(step).random(count)
    left, top, right, bottom = window = (2, 5, 23, 38)
    found = counted(borders(masks), weights.tolist(), window, HEIGHT, step)
    wanted = sum(mask * weight for mask, weight in zip(masks, weights, strict=True))
    assert found.dtype == np.float32
    assert found == pytest.approx(wanted[top:bottom:step, left:right:step], abs=1e-5)


@pytest.mark.parametrize("window", [(0, 0, WIDTH, HEIGHT), (3, 0, 4, 1), (29, 39, 30, 40)])
def test_a_window_may_be_the_film_or_one_pixel(window: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = window
    for mask in random_masks(3, 4):
        found = crop(borders([mask])[0], window, HEIGHT)
        assert np.array_equal(found, mask[top:bottom, left:right])


@pytest.mark.parametrize("seed", range(8))
def test_the_runs_in_a_box_hold_every_pixel_of_it_and_none_that_is_far(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = random_masks(seed, 2)[0]
    rows = Rows(borders([mask])[0], HEIGHT)
    for _ in range(20):
        x, y = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        across, down = int(rng.integers(1, WIDTH - x + 1)), int(rng.integers(1, HEIGHT - y + 1))
        found = rows.within(Box(float(x), float(y), float(across), float(down)))
        runs = np.diff(found, prepend=0, append=HEIGHT * WIDTH)
        pixels = decode_mask(mask_from_runs(runs, HEIGHT, WIDTH))
        part = slice(y, y + down), slice(x, x + across)
        assert np.array_equal(pixels[part], mask[part])
        assert not (pixels & ~mask).any()
        for start, end in found.reshape(-1, 2).tolist():
            inside = np.zeros(HEIGHT * WIDTH, bool)
            inside[start:end] = True
            spans = start // HEIGHT != (end - 1) // HEIGHT
            assert spans or inside.reshape(WIDTH, HEIGHT).T[part].any()


def test_scores_are_worked_out_only_where_they_are_wanted() -> None:
    masks = random_masks(1, 4)
    ballots = [Ballot(HEIGHT, WIDTH, marked(each), frozenset({0})) for each in borders(masks)]
    votes, pixels = [2, 1, 1, 3], HEIGHT * WIDTH
    (runs, score) = sweep(ballots, votes, 3, pixels, 7)[0]
    (same, none) = sweep(ballots, votes, 3, pixels, 7, scored=False)[0]
    assert np.array_equal(runs, same)
    assert none == 0.0
    cast = sum(vote * mask for vote, mask in zip(votes, masks, strict=True))
    assert np.array_equal(decode_mask(mask_from_runs(runs, HEIGHT, WIDTH)), cast >= 3)
    assert score == pytest.approx(cast[cast >= 3].mean() / 7)
