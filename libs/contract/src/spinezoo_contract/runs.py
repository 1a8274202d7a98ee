"""COCO's compressed run lengths as numbers: the only decoder of ours, and the way to the encoder.

A mask is a list of run lengths down the columns, background first. COCO's compressed form writes
run i as the difference to run i - 2 (for i > 2), as a signed number in groups of five bits, least
significant first, one printable character a group: character = 48 + bits + 32 where another group
follows. Decoding works with numpy alone, so that bytes from a stranger are checked before any C
code sees them; runs that have been checked are encoded by pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from spinezoo_contract.errors import MaskError
from spinezoo_contract.words import counted

_FIRST_CHARACTER = 48
_PAYLOAD = 0x1F
_SIGN = 0x10
_MORE = 0x20
_GROUP_BITS = 5
_MOST_GROUPS = 7
"""Groups a run may take: 35 bits, more than any 32-bit run length needs."""

_MOST_PIXELS = 2**32 - 1
"""Of a mask that is encoded: pycocotools counts in 32 bits."""

Counts = tuple[int, int, bytes]
"""Rows, columns and compressed counts of a mask."""


def decode_runs(masks: Sequence[Counts]) -> list[NDArray[np.int64]]:
    """Run lengths of masks, column-major, background first; safe on any bytes.

    Several masks are decoded in one go, at less than half the time of one by one: with short masks
    the calls cost more than the numbers.

    Args:
        masks: At least one.

    Returns:
        Of each mask its (N,) runs, read-only: 0 or more, adding up to height * width. Runs of
        length 0 may stand anywhere.

    Raises:
        MaskError: The counts of a mask break the contract; the message says how.
    """
    try:
        return _decode(masks)
    except MaskError:
        if len(masks) == 1:
            raise
    # Found in all of them together: each alone says which it is, and how it is wrong.
    return [_decode([mask])[0] for mask in masks]


def _decode(masks: Sequence[Counts]) -> list[NDArray[np.int64]]:
    """As :func:`decode_runs`, but of several masks a message names the first one's size."""
    height, width, _ = masks[0]
    for rows, columns, _ in masks:
        if rows <= 0 or columns <= 0:
            raise MaskError(f"mask size {rows} x {columns} is not positive; send the film's size")
    sizes = np.array([len(counts) for _, _, counts in masks])
    if not sizes.all():
        raise MaskError("mask counts are empty; an empty mask still has one run of background")
    area = height * width
    # No sum of runs comes near 2 ** 62, which stands for any larger product of two sizes.
    areas = np.array([min(rows * columns, 1 << 62) for rows, columns, _ in masks], dtype=np.int64)
    text = np.frombuffer(b"".join([counts for _, _, counts in masks]), dtype=np.uint8)
    if int(text.min()) < _FIRST_CHARACTER or int(text.max()) > _FIRST_CHARACTER + _PAYLOAD + _MORE:
        raise MaskError(
            "mask counts hold a byte outside COCO's 48 to 111; send compressed counts, "
            "neither a list of numbers nor pixels"
        )
    groups = text - np.uint8(_FIRST_CHARACTER)
    stops = np.cumsum(sizes)
    if bool((groups[stops - 1] >= _MORE).any()):
        raise MaskError("mask counts are cut off in the middle of a run; send all bytes")
    # Of each run the place of its last group; of each mask the place after its last run.
    ends = np.flatnonzero(groups < _MORE)
    last_runs = np.searchsorted(ends, stops)
    run_counts = np.diff(last_runs, prepend=0)
    if bool((run_counts > areas + 1).any()):
        raise MaskError(
            f"mask counts hold {counted(int(run_counts[0]), 'run')} for {area} pixels; encode "
            "them again"
        )
    lengths = np.diff(ends, prepend=-1)
    most = int(lengths.max())
    if most > _MOST_GROUPS:
        raise MaskError("mask counts hold a run too long for any film; encode them again")
    starts = ends - lengths + 1
    payload = groups & np.uint8(_PAYLOAD)
    runs = payload[starts].astype(np.int64)
    for place in range(1, most):
        longer = np.flatnonzero(lengths > place)
        runs[longer] |= payload[starts[longer] + place].astype(np.int64) << (_GROUP_BITS * place)
    negative = np.flatnonzero(payload[ends] & np.uint8(_SIGN))
    runs[negative] -= np.int64(1) << (_GROUP_BITS * lengths[negative])
    # Undo the differences: odd runs chain from run 1, even runs from run 2, run 0 stands alone.
    parts = []
    first = 0
    for last in last_runs.tolist():
        part = runs[first:last]
        np.cumsum(part[1::2], out=part[1::2])
        np.cumsum(part[2::2], out=part[2::2])
        parts.append(part)
        first = last
    if int(runs.min()) < 0 or bool(
        (np.maximum.reduceat(runs, last_runs - run_counts) > areas).any()
    ):
        raise MaskError(f"mask counts hold a run outside 0 to {area} pixels; encode them again")
    totals = np.add.reduceat(runs, last_runs - run_counts)
    if bool((totals != areas).any()):
        raise MaskError(
            f"mask runs add up to {counted(int(totals[0]), 'pixel')}, but {height} x {width} is "
            f"{area}; encode the mask at the size it is sent with"
        )
    if len(parts) > 1:
        # Each its own memory: one mask that is kept must not keep the others.
        parts = [part.copy() for part in parts]
    for part in parts:
        part.flags.writeable = False
    return parts


def shortest_runs(runs: NDArray[np.integer], height: int, width: int) -> NDArray[np.int64]:
    """Run lengths without runs of length 0, but for the first one, read-only.

    Args:
        runs: (N,) run lengths, column-major, background first, 0 or more.
        height: Rows, in pixels.
        width: Columns, in pixels.

    Raises:
        MaskError: A run is negative, or they do not add up to height * width.
    """
    found: NDArray[np.int64] = np.array(runs, dtype=np.int64)
    area = height * width
    if found.ndim != 1 or found.size == 0 or int(found.min()) < 0 or int(found.sum()) != area:
        raise MaskError(f"runs are not 0 or more adding up to {height} x {width} = {area} pixels")
    if bool((found[1:] == 0).any()):
        # Borders that fall on one place cancel in pairs.
        borders, times = np.unique(np.cumsum(found)[:-1], return_counts=True)
        borders = borders[(times % 2 == 1) & (borders < area)]
        found = np.diff(borders, prepend=0, append=area)
    found.flags.writeable = False
    return found


def encode_runs(runs: NDArray[np.int64], height: int, width: int) -> bytes:
    """Compressed counts of run lengths as :func:`shortest_runs` gives them.

    Args:
        runs: (N,) run lengths, checked: pycocotools' C code takes them as they are.
        height: Rows, in pixels.
        width: Columns, in pixels.

    Raises:
        MaskError: The mask is larger than any film.
    """
    if height * width > _MOST_PIXELS:
        raise MaskError(f"a mask of {height} x {width} pixels is larger than any film")
    encoded = coco_mask.frPyObjects([{"size": [height, width], "counts": runs}], height, width)
    return bytes(encoded[0]["counts"])


def runs_box(runs: NDArray[np.int64], height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height, in pixels, of the foreground; all zero where there is none.

    Args:
        runs: (N,) valid run lengths.
        height: Rows of the mask, in pixels.
    """
    borders = np.cumsum(runs)
    firsts = borders[:-1:2]
    lasts = borders[1::2] - 1
    filled = lasts >= firsts
    firsts, lasts = firsts[filled], lasts[filled]
    if firsts.size == 0:
        return 0, 0, 0, 0
    left, right = int(firsts[0]) // height, int(lasts[-1]) // height
    if bool((firsts // height != lasts // height).any()):
        # A run that goes on into the next column touches the last row and the first.
        top, bottom = 0, height - 1
    else:
        top, bottom = int((firsts % height).min()), int((lasts % height).max())
    return left, top, right - left + 1, bottom - top + 1


def boxes_of(
    masks: Sequence[NDArray[np.int64]], heights: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of each mask's foreground; all zero where there is none.

    As with decoding, several masks take little longer than one; one alone is :func:`runs_box`,
    which takes a third of the time of this.

    Args:
        masks: Of each (N,) valid run lengths, at least one mask.
        heights: Its rows, in pixels.
    """
    counts = np.array([len(runs) for runs in masks])
    starts = np.cumsum(counts) - counts
    runs = np.concatenate(masks)
    owners = np.repeat(np.arange(len(masks)), counts)
    borders = np.cumsum(runs)
    filled = np.flatnonzero(((np.arange(len(runs)) - starts[owners]) & 1 == 1) & (runs > 0))
    owners = owners[filled]
    before = (borders[starts] - runs[starts])[owners]
    ends = borders[filled] - before - 1
    firsts = ends - runs[filled] + 1
    rows = np.array(heights, dtype=np.int64)[owners]
    left, right = firsts // rows, ends // rows
    top, bottom = firsts - left * rows, ends - right * rows
    # A run that goes on into the next column touches the last row and the first.
    over = np.flatnonzero(left != right)
    top[over], bottom[over] = 0, rows[over] - 1
    found = [(0, 0, 0, 0)] * len(masks)
    first_runs = np.flatnonzero(np.diff(owners, prepend=-1))
    if len(first_runs):
        last_runs = np.append(first_runs[1:], len(owners)) - 1
        tops = np.minimum.reduceat(top, first_runs)
        bottoms = np.maximum.reduceat(bottom, first_runs)
        lefts, rights = left[first_runs], right[last_runs]
        boxes = np.stack([lefts, tops, rights - lefts + 1, bottoms - tops + 1], axis=1)
        for owner, box in zip(owners[first_runs].tolist(), boxes.tolist(), strict=True):
            found[owner] = tuple(box)
    return found
