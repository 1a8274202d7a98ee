"""Masks from and to pixels; what a mask knows of itself is on :class:`RunLengthMask`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from spinezoo_contract.errors import MaskError
from spinezoo_contract.runs import encode_runs, shortest_runs
from spinezoo_contract.types import Box, RunLengthMask

_MOST_RUNS_TO_PAINT = 4000
"""Above this many runs one pass over all pixels is faster than painting run by run."""


def encode_mask(pixels: NDArray[np.bool_] | NDArray[np.integer]) -> RunLengthMask:
    """Run-length counts of a mask.

    Args:
        pixels: (height, width), values False and True or 0 and 1.

    Raises:
        MaskError: Not two-dimensional, no pixels, or values other than 0 and 1.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 2 or pixels.size == 0:
        raise MaskError(
            f"a mask has the shape (height, width) with at least one pixel, not {pixels.shape}"
        )
    if pixels.dtype != np.bool_:
        if not np.issubdtype(pixels.dtype, np.integer):
            raise MaskError(
                f"a mask holds booleans or integers 0 and 1, not {pixels.dtype}; "
                "compare with a threshold first, such as pixels > 0.5"
            )
        low, high = int(pixels.min()), int(pixels.max())
        if low < 0 or high > 1:
            raise MaskError(
                f"a mask holds the values 0 and 1, this one {low} to {high}; "
                "divide by 255 or compare > 0"
            )
    encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return RunLengthMask(int(pixels.shape[0]), int(pixels.shape[1]), bytes(encoded["counts"]))


def mask_from_runs(runs: NDArray[np.integer], height: int, width: int) -> RunLengthMask:
    """The mask of given run lengths, in COCO's shortest form.

    Args:
        runs: (N,) run lengths, column-major, background first, 0 or more; runs of length 0 are
            merged away.
        height: Rows, in pixels.
        width: Columns, in pixels.

    Raises:
        MaskError: A run is negative, they do not add up to height * width, or that is more than any
            film has.
    """
    shortest = shortest_runs(runs, height, width)
    mask = RunLengthMask(height, width, encode_runs(shortest, height, width))
    mask.keep_runs(shortest)
    return mask


def decode_mask(mask: RunLengthMask) -> NDArray[np.bool_]:
    """The (height, width) pixels of a mask, in column-major memory.

    Raises:
        MaskError: The counts break the contract.
    """
    runs = mask.runs
    if runs.size > _MOST_RUNS_TO_PAINT:
        # Not pycocotools: its decoder hands numpy an array in a way that numpy 2 warns of.
        values = np.arange(runs.size) % 2 == 1
        return np.repeat(values, runs).reshape(mask.width, mask.height).T
    borders = np.cumsum(runs)
    pixels = np.zeros(mask.height * mask.width, dtype=np.bool_)
    for start, stop in zip(borders[:-1:2].tolist(), borders[1::2].tolist(), strict=True):
        pixels[start:stop] = True
    return pixels.reshape(mask.width, mask.height).T


def mask_area(mask: RunLengthMask) -> int:
    """Foreground pixels; see :attr:`RunLengthMask.area`."""
    return mask.area


def mask_box(mask: RunLengthMask) -> Box:
    """Box around the foreground; see :attr:`RunLengthMask.box`."""
    return mask.box
