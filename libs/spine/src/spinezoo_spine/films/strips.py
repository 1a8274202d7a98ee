"""TIFF strips compressed by LZW, decoded by libtiff in two threads.

libtiff takes whole files only: of each half of the strips a TIFF is made in memory.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

_LEAST_BYTES = 1 << 19
"""Decoded bytes from which a second thread is worth its start."""

_KEPT_TAGS = (258, 259, 262, 277, 317, 339)
"""Tags of one number that say how a strip is to be read: bits, compression, photometric
interpretation, samples, predictor, sample format."""

_WIDTH, _LENGTH, _OFFSETS, _ROWS, _SIZES = 256, 257, 273, 278, 279
_SHORT, _LONG = 3, 4


def decode_lzw(page: tifffile.TiffPage, data: bytes) -> NDArray[np.generic]:
    """The pixels of a page of one channel.

    Args:
        page: The only page of its file.
        data: The file.

    Raises:
        Exception: Of any kind, where libtiff does not take it.
    """
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    rows = int(page.rowsperstrip)
    plain = not page.is_tiled and page.fillorder == 1 and len(strips) > 1
    item_bytes = 0 if page.dtype is None else page.dtype.itemsize
    if not plain or page.imagelength * page.imagewidth * item_bytes < _LEAST_BYTES:
        return np.asarray(imagecodecs.tiff_decode(data))
    middle = len(strips) // 2
    parts = (
        (strips[:middle], middle * rows),
        (strips[middle:], page.imagelength - middle * rows),
    )
    halves = [_as_tiff(page, data, part, length) for part, length in parts]
    with ThreadPoolExecutor(1) as other:
        lower = other.submit(imagecodecs.tiff_decode, halves[1])
        upper = imagecodecs.tiff_decode(halves[0])
        return np.concatenate([upper, lower.result()])


def _as_tiff(
    page: tifffile.TiffPage, data: bytes, strips: Sequence[tuple[int, int]], length: int
) -> bytes:
    """Some strips that follow each other, as a file of so many rows."""
    order = page.parent.byteorder
    first = min(offset for offset, _ in strips)
    content = data[first : max(offset + size for offset, size in strips)]
    tags: dict[int, tuple[int, Sequence[int]]] = {
        _WIDTH: (_LONG, (page.imagewidth,)),
        _LENGTH: (_LONG, (length,)),
        _ROWS: (_LONG, (page.rowsperstrip,)),
        _SIZES: (_LONG, [size for _, size in strips]),
        _OFFSETS: (_LONG, [0] * len(strips)),
    }
    for tag in _KEPT_TAGS:
        if tag in page.tags:
            tags[tag] = (_SHORT, (int(page.tags[tag].value),))
    lists = 8 + 2 + 12 * len(tags) + 4
    begin = lists + 8 * len(strips)
    tags[_OFFSETS] = (_LONG, [begin + offset - first for offset, _ in strips])
    entries, behind = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", lists + len(behind))
            behind += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return b"".join((head, entries, bytes(4), behind.ljust(begin - lists, b"\0"), content))
