"""COCO run-length masks: encode, decode, measure, validate.

A mask is a list of run lengths down the columns, background first. COCO's compressed form writes
run i as the difference to run i - 2 (for i > 2), as a signed number in groups of five bits, least
significant first, one printable character a group: character = 48 + bits + 32 where another group
follows. Everything here but :func:`encode_mask` works on those numbers with numpy alone, so that
bytes from a stranger are checked before any C code sees them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from spinezoo_contract.errors import MaskError
from spinezoo_contract.types import Box, RunLengthMask

_FIRST_CHARACTER = 48
_PAYLOAD = 0x1F
_SIGN = 0x10
_MORE = 0x20
_GROUP_BITS = 5
_MOST_GROUPS = 7
"""Groups a run may take: 35 bits, more than any 32-bit run length needs."""

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


def mask_runs(mask: RunLengthMask) -> NDArray[np.int64]:
    """Run lengths of a mask, column-major, background first.

    The runs are 0 or more and add up to height * width; runs of length 0 may stand anywhere.

    Raises:
        MaskError: The counts break the contract; the message says how.
    """
    area = mask.height * mask.width
    if mask.height <= 0 or mask.width <= 0:
        raise MaskError(
            f"mask size {mask.height} x {mask.width} is not positive; send the film's size"
        )
    groups = np.frombuffer(mask.counts, dtype=np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if groups.size == 0:
        raise MaskError("mask counts are empty; an empty mask still has one run of background")
    if int(groups.min()) < 0 or int(groups.max()) > (_PAYLOAD | _MORE):
        raise MaskError(
            "mask counts hold a byte outside COCO's 48 to 111; send compressed counts, "
            "neither a list of numbers nor pixels"
        )
    ends = np.flatnonzero(groups < _MORE)
    if ends.size == 0 or int(ends[-1]) != groups.size - 1:
        raise MaskError("mask counts are cut off in the middle of a run; send all bytes")
    if ends.size > area + 1:
        raise MaskError(f"mask counts hold {ends.size} runs for {area} pixels; encode them again")
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts + 1
    if int(lengths.max()) > _MOST_GROUPS:
        raise MaskError("mask counts hold a run too long for any film; encode them again")
    shifts = _GROUP_BITS * (np.arange(groups.size) - np.repeat(starts, lengths))
    values = np.add.reduceat((groups & _PAYLOAD) << shifts, starts)
    negative = (groups[ends] & _SIGN) != 0
    values -= np.where(negative, np.int64(1) << (_GROUP_BITS * lengths), 0)
    # Undo the differences: odd runs chain from run 1, even runs from run 2, run 0 stands alone.
    runs = values
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    if int(runs.min()) < 0 or int(runs.max()) > area:
        raise MaskError(f"mask counts hold a run outside 0 to {area} pixels; encode them again")
    total = int(runs.sum())
    if total != area:
        raise MaskError(
            f"mask runs add up to {total} pixels, but {mask.height} x {mask.width} is {area}; "
            "encode the mask at the size it is sent with"
        )
    return runs


def mask_from_runs(runs: NDArray[np.integer], height: int, width: int) -> RunLengthMask:
    """The mask of given run lengths, in COCO's shortest form.

    Args:
        runs: Run lengths, column-major, background first, 0 or more; runs of length 0 are merged
            away.
        height: Rows, in pixels.
        width: Columns, in pixels.

    Raises:
        MaskError: A run is negative, or they do not add up to height * width.
    """
    runs = np.asarray(runs, dtype=np.int64)
    area = height * width
    if runs.ndim != 1 or runs.size == 0 or int(runs.min()) < 0 or int(runs.sum()) != area:
        raise MaskError(f"runs are not 0 or more adding up to {height} x {width} = {area} pixels")
    if bool((runs[1:] == 0).any()):
        # Borders that fall on one place cancel in pairs.
        borders, times = np.unique(np.cumsum(runs)[:-1], return_counts=True)
        borders = borders[(times % 2 == 1) & (borders < area)]
        runs = np.diff(borders, prepend=0, append=area)
    values = runs.copy()
    values[3:] -= runs[1:-2]
    # A signed number of n groups holds -(16 << 5(n-1)) up to (16 << 5(n-1)) - 1.
    magnitudes = np.where(values < 0, ~values, values)
    limits = np.int64(_SIGN) << (_GROUP_BITS * np.arange(_MOST_GROUPS))
    lengths = 1 + np.searchsorted(limits, magnitudes, side="right")
    ends = np.cumsum(lengths)
    places = np.arange(int(ends[-1])) - np.repeat(ends - lengths, lengths)
    groups = (np.repeat(values, lengths) >> (_GROUP_BITS * places)) & _PAYLOAD
    groups |= _MORE
    groups[ends - 1] &= _PAYLOAD
    return RunLengthMask(height, width, (groups + _FIRST_CHARACTER).astype(np.uint8).tobytes())


def decode_mask(mask: RunLengthMask) -> NDArray[np.bool_]:
    """The (height, width) pixels of a mask, in column-major memory.

    Raises:
        MaskError: The counts break the contract.
    """
    runs = mask_runs(mask)
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
    """Foreground pixels.

    Raises:
        MaskError: The counts break the contract.
    """
    return int(mask_runs(mask)[1::2].sum())


def mask_box(mask: RunLengthMask) -> Box:
    """Box around the foreground; all zero for an empty mask.

    Raises:
        MaskError: The counts break the contract.
    """
    return runs_box(mask_runs(mask), mask.height)


def runs_box(runs: NDArray[np.int64], height: int) -> Box:
    """Box around the foreground of valid run lengths; all zero where there is none.

    Args:
        runs: Run lengths as :func:`mask_runs` gives them.
        height: Rows of the mask, in pixels.
    """
    borders = np.cumsum(runs)
    firsts = borders[:-1:2]
    lasts = borders[1::2] - 1
    filled = lasts >= firsts
    firsts, lasts = firsts[filled], lasts[filled]
    if firsts.size == 0:
        return Box(0.0, 0.0, 0.0, 0.0)
    left, right = int(firsts[0]) // height, int(lasts[-1]) // height
    if bool((firsts // height != lasts // height).any()):
        # A run that goes on into the next column touches the last row and the first.
        top, bottom = 0, height - 1
    else:
        top, bottom = int((firsts % height).min()), int((lasts % height).max())
    return Box(float(left), float(top), float(right - left + 1), float(bottom - top + 1))


def validate_mask(mask: RunLengthMask, height: int, width: int) -> NDArray[np.int64]:
    """Checks a mask against the film it belongs to; safe on any bytes.

    Args:
        mask: The mask.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.

    Returns:
        The run lengths, so that the caller need not decode them a second time.

    Raises:
        MaskError: The sizes differ, or the counts break the contract.
    """
    if (mask.height, mask.width) != (height, width):
        raise MaskError(
            f"mask is {mask.height} x {mask.width}, the film {height} x {width}; "
            "resize the mask to the film"
        )
    return mask_runs(mask)
